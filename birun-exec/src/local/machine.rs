//! Which machine this is, and what a step is found by on it later.

use birun_core::execution::{Handle, Kill};
use birun_core::id::StepId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// This machine, as long as it runs without a reboot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Machine {
    /// Its name, for people.
    host: String,
    /// Differs between machines, stays over reboots.
    machine: String,
    /// Differs between boots.
    boot: String,
}

/// What the handle of local work holds.
#[derive(Debug, Serialize, Deserialize)]
struct LocalHandle {
    step: StepId,
    #[serde(flatten)]
    machine: Machine,
}

impl Machine {
    /// The machine that this process runs on.
    pub(super) fn this() -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let machine = first_line("/etc/machine-id").unwrap_or_else(|| host.clone());
        let boot = first_line("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self { host, machine, boot }
    }

    /// The handle of a step on this machine.
    pub(super) fn handle(&self, step: StepId) -> Handle {
        let handle = LocalHandle { step, machine: self.clone() };
        Handle(serde_json::to_value(handle).unwrap_or(Value::Null))
    }

    /// The step that a handle stands for, if its processes can be on this machine; else what to
    /// answer: a boot that is over took its processes along, another machine cannot be looked at.
    pub(super) fn step(&self, handle: &Handle) -> Result<StepId, Kill> {
        let Ok(LocalHandle { step, machine }) = LocalHandle::deserialize(&handle.0) else {
            return Err(Kill::Unconfirmed { detail: format!("`{}` is no handle of a local program", handle.0) });
        };
        if machine.boot == self.boot {
            return Ok(step);
        }
        if machine.machine == self.machine {
            return Err(Kill::Gone);
        }
        let find = format!("grep -lz BIRUN_STEP_ID={step} /proc/[0-9]*/environ");
        Err(Kill::Unconfirmed { detail: format!("it ran on `{}`; find its processes there: {find}", machine.host) })
    }
}

fn first_line(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().next().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(machine: &str, boot: &str) -> Machine {
        Machine { host: "web-1".into(), machine: machine.into(), boot: boot.into() }
    }

    #[test]
    fn a_handle_is_good_for_one_boot_of_one_machine() {
        let step = StepId::new();
        let handle = machine("a", "1").handle(step);
        assert_eq!(machine("a", "1").step(&handle), Ok(step));
        assert_eq!(machine("a", "2").step(&handle), Err(Kill::Gone));
        let Err(Kill::Unconfirmed { detail }) = machine("b", "3").step(&handle) else { panic!("not unconfirmed") };
        assert!(detail.contains("`web-1`") && detail.contains(&step.to_string()), "{detail}");
    }

    #[test]
    fn a_handle_of_something_else_is_not_taken_for_gone() {
        let foreign = Handle(serde_json::json!({ "server": 1 }));
        assert!(matches!(Machine::this().step(&foreign), Err(Kill::Unconfirmed { .. })));
    }
}
