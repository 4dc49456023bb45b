//! The conformance suite of stores: every promise in the documentation of the store traits.
//!
//! Each case is a function named after its promise. It is given a store of its own, migrated and
//! empty, and panics where the promise is not kept. How a dead worker shows is a store's own
//! business, so the cases let workers take their leave.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a case fails by panicking")]

mod audit;
mod cancel;
mod credential;
mod execution;
mod group;
mod host_key;
mod journal;
mod lease;
mod list;
pub mod make;
mod prune;
mod queue;
mod reap;
mod script;
mod server;
mod system;
mod vault;

use std::sync::Arc;

use crate::store::Store;
use crate::testing::harness::Case;

macro_rules! cases {
    ($($room:ident { $($name:ident,)+ })+) => {
        vec![$($(Case { name: stringify!($name), run: |store| Box::pin(async move { $room::$name(&*store).await }) },)+)+]
    };
}

/// Every case.
#[must_use]
pub fn cases() -> Vec<Case<Arc<dyn Store>>> {
    cases! {
        server {
            a_created_server_reads_back_as_it_was,
            a_server_name_is_taken_once_in_a_project,
            a_server_with_an_unknown_group_or_credential_is_not_added,
            an_update_replaces_the_whole_server,
            an_update_of_a_stale_server_changes_nothing,
            an_update_of_an_unknown_server_is_not_found,
            a_deletion_of_a_stale_server_changes_nothing,
            a_deleted_server_takes_its_host_keys_along,
            a_selector_finds_a_server_by_id_part_and_name,
            a_part_that_fits_several_servers_is_ambiguous,
            servers_are_listed_newest_first_page_by_page,
            servers_are_listed_by_tag,
            all_servers_are_sorted_by_name,
            servers_by_id_leave_out_the_unknown,
            a_server_of_another_project_does_not_exist,
            every_change_of_a_server_is_audited,
            a_refused_change_of_a_server_is_not_audited,
            nul_in_a_text_does_not_stop_a_server,
        }
        group {
            a_created_group_reads_back_as_it_was,
            a_group_name_is_taken_once_in_a_project,
            a_stale_group_is_neither_updated_nor_deleted,
            a_deleted_group_leaves_its_servers,
            groups_are_listed_newest_first_and_all_by_name,
            a_group_of_another_project_does_not_exist,
        }
        credential {
            a_created_credential_reads_back_as_it_was,
            a_certificate_is_replaced_and_taken_away,
            a_credential_name_is_taken_once_in_a_project,
            a_stale_credential_is_neither_updated_nor_deleted,
            a_credential_that_a_server_uses_is_not_deleted,
            credentials_are_listed_newest_first,
            a_credential_of_another_project_does_not_exist,
        }
        host_key {
            a_created_host_key_reads_back_as_it_was,
            a_host_key_is_recorded_once_for_a_server,
            only_the_first_key_of_a_server_is_trusted_unseen,
            an_approved_host_key_takes_the_place_of_another,
            a_host_key_of_an_unknown_server_is_not_recorded,
            a_stale_host_key_is_neither_updated_nor_deleted,
            host_keys_are_listed_by_server,
            host_keys_of_several_servers_are_found_at_once,
            a_host_key_of_another_project_does_not_exist,
        }
        script {
            a_created_script_reads_back_as_it_was,
            a_script_name_is_taken_once_in_a_project,
            an_update_adds_a_version_if_one_is_given,
            a_stale_script_is_neither_updated_nor_deleted,
            a_deleted_script_takes_its_versions_along,
            a_body_is_kept_while_something_refers_to_it,
            scripts_are_found_by_a_part_of_their_name,
            scripts_are_listed_with_their_newest_version,
            a_version_that_does_not_exist_is_told_with_the_name_of_its_script,
            versions_are_listed_newest_first,
            a_script_of_another_project_does_not_exist,
        }
        audit {
            entries_are_sealed_once_under_the_head_that_was_known,
            the_chain_is_cut_at_its_beginning,
            an_appended_entry_reads_back_as_it_was,
            entries_are_listed_newest_first_page_by_page,
            entries_are_found_by_what_they_tell,
            entries_of_another_project_do_not_exist,
        }
        system {
            a_migrated_store_passes_its_check,
            a_setting_keeps_its_first_value,
            a_setting_gets_one_value_from_many_writers,
        }
        vault {
            sealed_values_are_listed_by_place,
            a_value_is_resealed_where_it_rests_and_nothing_else_changes,
            a_value_that_changed_meanwhile_is_not_resealed,
            an_update_is_not_stale_because_the_value_was_resealed,
            the_key_check_is_written_anew_when_a_rotation_ends,
        }
        execution {
            a_submitted_execution_reads_back_as_it_was,
            a_submission_is_audited_in_the_same_transaction,
            submitting_the_same_ids_again_is_accepted_once,
            a_key_used_again_for_the_same_request_names_the_first_execution,
            a_key_used_again_for_another_request_is_refused,
            a_key_that_many_use_at_once_starts_one_execution,
            a_submission_without_its_body_leaves_nothing_behind,
            a_thousand_targets_are_submitted_at_once,
            steps_are_read_by_ordinal_from_a_place,
            steps_are_found_by_status_and_target,
            only_the_newest_attempt_on_each_target_is_shown,
            nothing_is_told_when_nothing_changed,
            changes_of_an_unknown_execution_are_not_found,
            an_ended_execution_is_deleted_with_its_steps,
            an_execution_that_has_not_ended_is_not_deleted,
            executions_due_before_another_are_counted,
            executions_are_counted_by_status,
            an_execution_of_another_project_does_not_exist,
        }
        list {
            executions_are_listed_newest_first_page_by_page,
            a_page_is_not_disturbed_by_executions_that_come_in,
            executions_are_listed_by_one_status_and_by_several,
            executions_are_listed_by_kind_script_and_time,
        }
        cancel {
            a_queued_execution_is_cancelled_at_once,
            a_waiting_execution_is_cancelled_at_once,
            a_running_execution_is_asked_to_cancel,
            asking_to_cancel_twice_is_the_same_as_once,
            an_ended_execution_is_not_cancelled,
            an_unknown_execution_is_not_cancelled,
            a_step_in_flight_keeps_a_queued_execution_from_ending,
            a_cancelled_execution_is_not_claimed,
        }
        queue {
            due_executions_are_claimed_oldest_wake_first,
            an_execution_is_not_claimed_before_its_wake,
            no_more_executions_are_claimed_than_asked_for,
            a_claim_takes_no_more_steps_than_it_can_carry,
            a_claim_raises_epoch_and_rev_and_keeps_the_first_start,
            what_is_submitted_as_claimed_is_in_its_workers_hands,
            no_two_claimers_receive_the_same_execution,
            an_execution_goes_to_its_home_only,
            an_execution_whose_home_died_goes_to_anyone,
            a_worker_that_takes_its_own_leaves_orphans_to_others,
            what_was_kept_for_a_worker_that_is_gone_is_seen_to_wait,
            a_worker_that_is_not_registered_receives_nothing,
            the_next_wake_is_of_what_the_worker_may_take,
            executions_of_another_project_are_not_claimed,
            registered_workers_are_alive_until_they_leave,
        }
        lease {
            a_held_lease_is_renewed,
            a_lease_that_is_not_named_is_told,
            a_request_to_cancel_reaches_the_worker,
            a_lease_of_an_earlier_claim_is_lost,
            a_lease_ends_with_its_execution,
            a_stale_lease_writes_nothing_by_any_method,
            an_ended_execution_takes_no_more_writes,
            the_same_end_may_be_written_twice,
        }
        reap {
            nothing_is_taken_from_living_workers,
            what_a_dead_worker_holds_is_queued_again,
            what_a_worker_that_is_not_registered_submits_as_claimed_is_taken_back,
            a_step_in_flight_stays_in_flight_when_its_worker_dies,
            an_execution_that_kills_its_workers_ends_lost,
            a_step_in_flight_is_looked_after_before_its_execution_is_given_up,
            waiting_for_a_retry_does_not_use_up_claims,
            a_reaped_worker_holds_no_lease,
        }
        journal {
            a_started_step_is_running_under_the_claim,
            a_note_tells_what_a_running_step_waits_for,
            an_ended_step_keeps_how_it_ended,
            a_step_that_has_ended_keeps_its_first_end,
            the_next_attempt_counts_instead_of_the_one_before,
            a_finish_ends_the_execution,
            an_end_tells_what_the_row_says_then,
            each_write_raises_rev_by_one_and_stamps_what_it_changed,
            a_follower_misses_nothing_and_hears_nothing_twice,
            many_steps_are_journalled_at_once,
            a_parked_execution_is_claimed_when_it_is_due,
            an_execution_to_be_cancelled_does_not_stay_parked,
            an_execution_that_is_handed_back_is_due_at_once,
        }
        prune {
            only_what_ended_long_ago_is_deleted,
            what_has_not_ended_is_not_deleted,
            the_newest_of_each_subject_are_kept,
            only_the_asked_for_statuses_are_deleted,
            the_oldest_are_deleted_first_up_to_the_limit,
            bodies_that_nothing_refers_to_are_deleted,
            old_audit_entries_and_keys_are_deleted,
            a_prune_without_prey_leaves_no_trace,
            another_project_is_not_pruned,
        }
    }
}
