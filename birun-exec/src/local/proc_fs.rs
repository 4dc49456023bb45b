//! The process table as Linux shows it under `/proc`.

use std::fs;
use std::io;

use birun_core::id::StepId;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::processes::Process;

/// Every living process that can be looked at.
pub(super) fn read_all() -> io::Result<Vec<Process>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let pid = entry?.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        if let Some(process) = pid.map(read).transpose()?.flatten() {
            processes.push(process);
        }
    }
    Ok(processes)
}

/// When a process was started, in clock ticks since boot, also if it has ended and was not collected.
pub(super) fn started(pid: Pid) -> io::Result<Option<u64>> {
    present(fs::read(format!("/proc/{pid}/stat")))?.map(|stat| fields(&stat)?.started()).transpose()
}

/// Signals exactly this process: never another one that has got its number since.
///
/// Answers whether it was there.
pub(super) fn signal(process: &Process, signal: Signal) -> Result<bool, Errno> {
    let sent = match pidfd_open(process.pid, PidfdFlags::empty()) {
        // From here on the number cannot change hands: a look at it now is a look at the descriptor's process.
        Ok(descriptor) if is_still(process)? => pidfd_send_signal(descriptor, signal),
        // A kernel before 5.3; between look and signal nothing can be excluded, but nearly.
        Err(Errno::NOSYS) if is_still(process)? => kill_process(process.pid, signal),
        Ok(_) | Err(Errno::NOSYS) => Err(Errno::SRCH),
        Err(error) => Err(error),
    };
    match sent {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_still(process: &Process) -> Result<bool, Errno> {
    let now = read_stat(process.pid).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(now.is_some_and(|now| now.started == process.started))
}

/// `None` if the process is not there. No other fault proves that.
fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(pid: Pid) -> io::Result<Option<Process>> {
    let Some(mut process) = read_stat(pid)? else { return Ok(None) };
    process.step = match fs::read(format!("/proc/{pid}/environ")) {
        // Another user's process: its session or its parent tells whose it is.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        environ => present(environ)?.and_then(|environ| mark(&environ)),
    };
    Ok(Some(process))
}

fn read_stat(pid: Pid) -> io::Result<Option<Process>> {
    match present(fs::read(format!("/proc/{pid}/stat")))? {
        Some(stat) => parse_stat(pid, &stat),
        None => Ok(None),
    }
}

/// Reads `pid (name) state parent group session …`; a name may hold spaces and brackets. `None` for
/// a process that has ended.
fn parse_stat(pid: Pid, stat: &[u8]) -> io::Result<Option<Process>> {
    let fields = fields(stat)?;
    let state = fields.text(0)?;
    if matches!(state, "Z" | "X" | "x") {
        return Ok(None);
    }
    Ok(Some(Process {
        pid,
        parent: Pid::from_raw(fields.number(1)?),
        session: Pid::from_raw(fields.number(3)?),
        started: fields.started()?,
        stopped: state == "T",
        step: None,
    }))
}

/// What follows the name in a line of `/proc/<pid>/stat`.
struct Fields<'a>(Vec<&'a str>);

fn fields(stat: &[u8]) -> io::Result<Fields<'_>> {
    let end = stat.iter().rposition(|byte| *byte == b')').ok_or(io::ErrorKind::InvalidData)?;
    let rest = std::str::from_utf8(stat.get(end + 1..).unwrap_or_default());
    Ok(Fields(rest.map_err(|_| io::ErrorKind::InvalidData)?.split_ascii_whitespace().collect()))
}

impl Fields<'_> {
    fn text(&self, index: usize) -> io::Result<&str> {
        self.0.get(index).copied().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn number<T: std::str::FromStr>(&self, index: usize) -> io::Result<T> {
        self.text(index)?.parse().map_err(|_| io::ErrorKind::InvalidData.into())
    }

    fn started(&self) -> io::Result<u64> {
        self.number(19)
    }
}

/// The step that an environment names.
fn mark(environ: &[u8]) -> Option<StepId> {
    let value = environ.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(b"BIRUN_STEP_ID="))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_hide_the_fields() {
        let pid = Pid::from_raw(7).unwrap();
        let rest = "S 3 7 5 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0";
        for name in ["sh", "a b", ") Z 1 1 1", "((("] {
            let process = parse_stat(pid, format!("7 ({name}) {rest}").as_bytes()).unwrap().unwrap();
            assert_eq!((process.parent, process.session), (Pid::from_raw(3), Pid::from_raw(5)), "{name}");
            assert_eq!(process.started, 4711);
        }
        assert_eq!(parse_stat(pid, format!("7 (sh) {}", rest.replace('S', "Z")).as_bytes()).unwrap(), None);
        for broken in [&b"7 (sh"[..], b"7 (sh) S 3 7 5", b""] {
            assert!(parse_stat(pid, broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn only_an_absent_process_is_absent() {
        for errno in [Errno::NOENT, Errno::SRCH] {
            assert_eq!(present::<()>(Err(errno.into())).unwrap(), None);
        }
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO, Errno::ACCESS, Errno::PERM] {
            let error = present::<()>(Err(errno.into())).unwrap_err();
            assert_eq!(Errno::from_io_error(&error), Some(errno));
        }
    }

    #[test]
    fn only_the_variable_itself_is_a_mark() {
        let step = StepId::new();
        assert_eq!(mark(format!("A=1\0BIRUN_STEP_ID={step}\0B=2\0").as_bytes()), Some(step));
        for other in
            [format!("X_BIRUN_STEP_ID={step}\0"), format!("A=BIRUN_STEP_ID={step}\0"), "BIRUN_STEP_ID=\0".into()]
        {
            assert_eq!(mark(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_process_that_has_another_ones_number_is_not_signalled() {
        let mut sleeper = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&sleeper);
        let process = read(pid).unwrap().unwrap();
        assert_eq!(started(pid).unwrap(), Some(process.started));
        let earlier = Process { started: process.started - 1, ..process };
        assert_eq!(signal(&earlier, Signal::KILL), Ok(false));
        assert_eq!(sleeper.try_wait().unwrap(), None);
        assert_eq!(signal(&process, Signal::KILL), Ok(true));
        sleeper.wait().unwrap();
        assert_eq!(signal(&process, Signal::KILL), Ok(false));
    }
}
