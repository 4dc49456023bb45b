//! birun-core as a whole: its engine on a real store, and what it may depend on.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a case fails by panicking")]

mod awkward;
mod counted;
mod dependencies;
mod detached;
mod drive;
mod engine;
mod faulty;
mod fence;
mod host_keys;
mod intake;
mod rekey;
mod strategy;

use std::process::ExitCode;

use birun_core::testing::harness::Suite;

macro_rules! cases {
    ($suite:ident, $module:ident: $($case:ident)+) => {
        $($suite.test(concat!(stringify!($module), "::", stringify!($case)), &[], $module::$case);)+
    };
}

fn main() -> ExitCode {
    counted::listen();
    let mut suite = Suite::new();
    suite.plain("dependencies_point_towards_the_core", &[], dependencies::dependencies_point_towards_the_core);
    cases!(suite, detached:
        what_a_worker_leaves_another_takes_up
        what_a_dead_worker_left_is_taken_up_whatever_the_policy_for_lost_steps
        a_secret_at_the_place_where_output_is_taken_up_stays_hidden
        the_limit_of_the_output_counts_what_was_there_before
        what_is_cancelled_while_nobody_has_it_is_stopped_when_it_is_taken_up
        only_what_can_be_done_detached_is_accepted_so
    );
    cases!(suite, engine:
        a_script_runs_and_its_output_is_followed_to_the_end
        a_follower_resumes_where_it_stopped
        a_follower_of_what_has_ended_learns_of_steps_before_their_output
        every_ending_has_its_own_status
        a_job_runs_fails_and_panics_by_itself
        no_more_targets_run_at_once_than_the_strategy_says
        a_retry_of_the_failed_takes_the_failed_and_the_not_started
        a_retry_says_which_targets_it_runs_on
        a_server_that_was_deleted_is_told_and_not_tried_again
        cancel_ends_what_is_queued_and_what_runs
        an_attempt_that_takes_too_long_is_stopped
        an_attempt_is_not_charged_for_the_wait_for_its_place_and_says_why_it_waits
        a_short_wait_for_a_place_is_not_written_down
        the_limit_of_the_execution_cuts_waits_between_attempts
        the_limit_of_the_execution_ends_a_wait_when_it_is_reached
        each_attempt_has_its_own_step_and_waits_its_time
        a_long_wait_for_an_attempt_holds_no_worker_and_can_be_cancelled
        a_step_of_a_dead_worker_is_killed_and_lost
        a_step_that_may_be_repeated_is_killed_first_and_run_again
        an_execution_that_kills_its_workers_ends_lost
        a_claim_whose_answer_was_lost_is_given_back_and_runs
        shutdown_waits_for_what_runs_and_gives_back_the_rest
        shutdown_gives_back_the_targets_that_were_not_started
        what_was_claimed_and_not_started_is_given_back_when_the_worker_stops
        a_worker_is_not_idle_while_it_claims
        a_panic_while_driving_costs_neither_slot_nor_execution
        the_same_request_under_one_key_runs_once
        a_refusal_is_written_into_the_audit_log
        a_secret_parameter_reaches_the_script_and_nothing_else
        a_store_opens_only_with_the_key_that_filled_it
        bad_requests_change_nothing
    );
    cases!(suite, drive:
        a_run_whose_link_broke_is_killed_and_run_again_only_if_that_is_confirmed
        an_executor_that_panics_while_it_kills_confirms_nothing
        an_executor_that_panics_over_a_handle_fails_its_step_alone
        a_fault_of_birun_around_an_attempt_ends_it_lost_and_killed
        a_hiccup_of_storage_does_not_fail_what_is_taken_up
        a_credential_that_does_not_open_is_the_trouble_of_its_server_alone
        a_key_is_judged_by_what_is_recorded_when_it_is_met
        what_runs_is_stopped_while_storage_does_not_answer
        an_error_that_does_not_pass_ends_the_execution_or_lets_go_of_it
        what_a_dead_worker_logged_is_counted
        no_secret_stands_in_what_is_said_of_a_kill
        a_secret_that_is_too_short_to_be_hidden_is_named_in_the_output
        an_accepted_request_gets_the_same_answer_whatever_has_changed_since
        everything_old_is_pruned_and_output_goes_first
        what_was_to_be_cancelled_or_is_overdue_ends_so_after_its_worker_died
    );
    cases!(suite, counted: endings_and_output_are_counted_and_described what_the_reaper_ends_is_counted);
    cases!(suite, strategy:
        a_server_in_maintenance_is_left_out_and_no_failure
        where_all_are_in_maintenance_nothing_is_accepted
        ranks_come_before_the_order
        with_failover_the_rest_is_skipped_after_the_first_success
        a_preview_checks_like_a_run_and_starts_nothing
    );
    cases!(suite, intake:
        a_free_slot_spares_a_submission_the_queue
        without_a_free_slot_a_submission_waits_in_the_queue
        a_submission_that_the_store_refuses_keeps_no_slot
        of_many_that_use_a_key_at_once_all_but_one_keep_no_slot
        a_worker_that_stops_does_not_wait_for_a_caller_that_does_not_ask
        a_late_caller_disturbs_nothing_that_was_taken_up_meanwhile
        a_caller_that_goes_away_as_it_submits_loses_nothing
        what_was_queued_before_comes_first
    );
    cases!(suite, fence: before_its_lease_runs_out_a_worker_ends_what_another_may_run_again_and_nothing_else);
    cases!(suite, host_keys:
        a_decision_that_came_second_looks_at_the_key_again
        a_store_that_always_says_stale_is_not_asked_for_ever
        of_an_approval_and_a_revocation_at_once_the_revocation_holds
    );
    cases!(suite, rekey:
        a_rotation_leaves_nothing_under_the_old_key_and_every_value_as_it_was
        what_others_write_during_a_rotation_is_neither_lost_nor_undone
        an_interrupted_rotation_needs_both_keys_and_goes_on
        only_owners_of_the_first_project_rotate
    );
    suite.run()
}
