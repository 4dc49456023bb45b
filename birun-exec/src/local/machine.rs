//! Which machine this is, and what a step is found by on it later.

use birun_core::execution::{Handle, Kill};
use birun_core::id::StepId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// This machine, as long as it runs without a reboot, and which of its processes can be seen from here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Machine {
    /// Its name, for people.
    host: String,
    /// Differs between machines, stays over reboots.
    machine: String,
    /// Differs between boots; the containers of a machine share it.
    boot: String,
    /// The namespace of the process ids: containers of one boot number and see processes of their own.
    #[serde(default)]
    pids: String,
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
        let pids = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default().to_string_lossy().into_owned();
        Self { host, machine, boot, pids }
    }

    /// The handle of a step on this machine.
    pub(super) fn handle(&self, step: StepId) -> Handle {
        let handle = LocalHandle { step, machine: self.clone() };
        Handle(serde_json::to_value(handle).unwrap_or(Value::Null))
    }

    /// The step that a handle stands for, if its processes can be seen from here; else what to answer:
    /// a boot that is over took its processes along; what runs on another machine, or in another
    /// container of this one, cannot be looked at.
    pub(super) fn step(&self, handle: &Handle) -> Result<StepId, Kill> {
        let Ok(LocalHandle { step, machine }) = LocalHandle::deserialize(&handle.0) else {
            return Err(Kill::Unconfirmed { detail: format!("`{}` is no handle of a local program", handle.0) });
        };
        if machine.boot != self.boot && machine.is_the_machine_of(self) {
            return Err(Kill::Gone);
        }
        if machine.boot == self.boot && machine.pids == self.pids {
            return Ok(step);
        }
        let find = format!("grep -lz BIRUN_STEP_ID={step} /proc/[0-9]*/environ");
        Err(Kill::Unconfirmed { detail: format!("it ran {}; find its processes there: {find}", machine.place(self)) })
    }

    /// Whether both are the same machine, perhaps in different boots. Containers made of one image may share an
    /// identity on different machines; then their names tell them apart.
    fn is_the_machine_of(&self, other: &Self) -> bool {
        self.machine == other.machine && self.host == other.host
    }

    /// Where something ran, seen from another place.
    fn place(&self, from: &Self) -> String {
        if self.boot == from.boot {
            format!("in another container of this machine, `{}` with the process namespace `{}`", self.host, self.pids)
        } else {
            format!("on `{}`", self.host)
        }
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
        Machine { host: "web-1".into(), machine: machine.into(), boot: boot.into(), pids: "pid:[1]".into() }
    }

    fn unconfirmed(here: &Machine, handle: &Handle) -> String {
        match here.step(handle) {
            Err(Kill::Unconfirmed { detail }) => detail,
            other => panic!("not unconfirmed: {other:?}"),
        }
    }

    #[test]
    fn a_handle_is_good_for_one_boot_of_one_machine() {
        let step = StepId::new();
        let handle = machine("a", "1").handle(step);
        assert_eq!(machine("a", "1").step(&handle), Ok(step));
        assert_eq!(machine("a", "2").step(&handle), Err(Kill::Gone));
        let detail = unconfirmed(&machine("b", "3"), &handle);
        assert!(detail.contains("`web-1`") && detail.contains(&step.to_string()), "{detail}");
    }

    #[test]
    fn another_container_of_the_same_boot_proves_nothing() {
        let handle = machine("a", "1").handle(StepId::new());
        for here in [
            Machine { pids: "pid:[2]".into(), ..machine("a", "1") },
            Machine { pids: "pid:[2]".into(), host: "web-2".into(), ..machine("b", "1") },
        ] {
            let detail = unconfirmed(&here, &handle);
            assert!(detail.contains("another container") && detail.contains("pid:[1]"), "{detail}");
        }
    }

    /// Both were made of one image, which holds a machine id.
    #[test]
    fn a_container_with_the_same_identity_on_another_machine_proves_nothing() {
        let handle = machine("a", "1").handle(StepId::new());
        unconfirmed(&Machine { host: "web-2".into(), ..machine("a", "2") }, &handle);
    }

    #[test]
    fn a_handle_that_does_not_tell_its_namespace_is_not_looked_for_among_other_processes() {
        let mut handle = machine("a", "1").handle(StepId::new());
        handle.0.as_object_mut().unwrap().remove("pids");
        unconfirmed(&machine("a", "1"), &handle);
        assert_eq!(machine("a", "2").step(&handle), Err(Kill::Gone));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_knows_its_boot_and_its_processes() {
        let this = Machine::this();
        assert!(!this.boot.is_empty() && this.pids.starts_with("pid:["), "{this:?}");
        let step = StepId::new();
        assert_eq!(this.step(&this.handle(step)), Ok(step));
    }

    #[test]
    fn a_handle_of_something_else_is_not_taken_for_gone() {
        let foreign = Handle(serde_json::json!({ "server": 1 }));
        assert!(matches!(Machine::this().step(&foreign), Err(Kill::Unconfirmed { .. })));
    }
}
