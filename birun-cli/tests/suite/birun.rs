//! Starting the binary in a home of its own.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Nothing that a test waits for takes longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A user's home, empty at first.
pub(crate) struct Home {
    dir: TempDir,
}

/// What a process left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

/// A server that answers.
pub(crate) struct Served {
    pub(crate) process: Started,
    pub(crate) address: String,
    pub(crate) token: String,
}

/// A process that still runs. It is killed when the test is over.
pub(crate) struct Started(Option<Child>);

/// The binary under test: the one that was built with the test, or the one that is named.
pub(crate) fn binary() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "CI names the released binary")]
    std::env::var_os("BIRUN_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_birun")), PathBuf::from)
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("birun-").tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("work")).expect("a directory");
        Self { dir }
    }

    /// The user's current directory.
    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// The user's home directory.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// The data directory that birun makes in it.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join(".local/share/birun")
    }

    /// Writes a file into the current directory, and gives the name to call it by.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        std::fs::write(self.work().join(name), content).expect("a file");
        format!("./{name}")
    }

    /// Writes the user's config file.
    pub(crate) fn config(&self, content: &str) {
        let dir = self.dir.path().join(".config/birun");
        std::fs::create_dir_all(&dir).expect("a directory");
        std::fs::write(dir.join("config.toml"), content).expect("a file");
    }

    /// The command, in an environment with nothing but what is needed.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(args)
            .current_dir(self.work())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("TZ", "UTC")
            .env("USER", "ana")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.run_with(args, &[], "")
    }

    /// Runs a command to its end, with these variables, and with this on its stdin.
    pub(crate) fn run_with(&self, args: &[&str], env: &[(&str, &str)], stdin: &str) -> Ended {
        let mut command = self.command(args);
        command.envs(env.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("birun starts");
        let mut input = child.stdin.take().expect("stdin");
        let text = stdin.to_owned();
        // A process that does not read its stdin is no failure.
        let writer = std::thread::spawn(move || drop(input.write_all(text.as_bytes())));
        let output = child.wait_with_output().expect("birun ends");
        writer.join().expect("stdin is written");
        output.into()
    }

    /// Runs a command to its end, and leaves its output as it is.
    pub(crate) fn run_raw(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("birun ends")
    }

    /// What servers said of themselves.
    pub(crate) fn serve_log(&self) -> PathBuf {
        self.dir.path().join("serve.log")
    }

    /// Starts a server on a free port, and waits until it answers.
    pub(crate) fn serve(&self, args: &[&str]) -> Served {
        self.serve_with(args, &[])
    }

    /// Starts a server with these variables. What it says of itself goes into a file: nobody would
    /// read it from a pipe, which is full some time.
    pub(crate) fn serve_with(&self, args: &[&str], env: &[(&str, &str)]) -> Served {
        let log = OpenOptions::new().create(true).append(true).open(self.serve_log()).expect("a file");
        let mut command = self.command(&[&["serve", "--listen", "127.0.0.1:0"], args].concat());
        let process = Started(Some(command.envs(env.iter().copied()).stderr(log).spawn().expect("birun starts")));
        let file = self.data().join("serve.json");
        // A server that was killed left its own.
        let told: Value = until("serve.json", || {
            let told: Value = serde_json::from_slice(&std::fs::read(&file).ok()?).ok()?;
            (told["pid"] == process.pid()).then_some(told)
        });
        let text = |field: &str| told[field].as_str().expect("a text").to_owned();
        Served { process, address: text("address"), token: text("token") }
    }

    /// Runs a command that must succeed, and gives its stdout.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:#?}");
        ended.text()
    }

    /// Runs a command that must succeed, and reads its stdout as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[args, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    }

    /// Starts a command that goes on.
    pub(crate) fn start(&self, args: &[&str]) -> Started {
        self.start_with(args, &[])
    }

    /// Starts a command that goes on, with these variables.
    pub(crate) fn start_with(&self, args: &[&str], env: &[(&str, &str)]) -> Started {
        let mut command = self.command(args);
        command.envs(env.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Started(Some(command.spawn().expect("birun starts")))
    }

    /// Every byte of every file below the data directory.
    pub(crate) fn data_bytes(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut dirs = vec![self.data()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
                if entry.is_dir() {
                    dirs.push(entry);
                } else {
                    files.push((entry.clone(), std::fs::read(&entry).unwrap_or_default()));
                }
            }
        }
        files
    }
}

/// What a failed test leaves is there to be looked at.
impl Drop for Home {
    #[expect(clippy::print_stderr, reason = "whoever sees the test fail needs the place")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("left to be looked at: {}", self.dir.path().display());
        }
        // Its processes are not: nothing that a case began outlives it.
        for pid in step_processes(self) {
            drop(Command::new("kill").args(["-s", "KILL", &pid.to_string()]).stderr(Stdio::null()).status());
        }
    }
}

impl Started {
    /// A process that was started another way.
    pub(crate) const fn of(child: Child) -> Self {
        Self(Some(child))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.as_ref().map(Child::id).expect("it runs")
    }

    /// Sends it a signal, by name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        let child = self.0.take().expect("it runs");
        child.wait_with_output().expect("it ends").into()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Ended {
    /// Its stdout as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.out.clone()).expect("text")
    }

    /// Asserts code and stderr; `<id>`, `<time>` and `<home>` stand for what differs from run to run.
    #[track_caller]
    pub(crate) fn fails(&self, home: &Home, code: i32, err: &str) {
        assert_eq!((self.code, normal(&self.err, home).as_str()), (Some(code), err), "{self:#?}");
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            signal: output.status.signal(),
            out: output.stdout,
            err: String::from_utf8(output.stderr).expect("stderr is text"),
        }
    }
}

/// A text without what differs from run to run.
pub(crate) fn normal(text: &str, home: &Home) -> String {
    let home = home.dir.path().display().to_string();
    let text = text.replace(&home, "<home>");
    let ids = regex::Regex::new(r"\b[0-9a-f]{8}\b").expect("a pattern");
    let times = regex::Regex::new(r"\d+\.\d+( ?m?s)\b").expect("a pattern");
    let ports = regex::Regex::new(r"127\.0\.0\.1:\d+").expect("a pattern");
    let text = ids.replace_all(&text, "<id>");
    let text = times.replace_all(&text, "<time>");
    ports.replace_all(&text, "127.0.0.1:<port>").into_owned()
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status().expect("kill");
    assert!(status.success(), "kill -s {name} {pid}");
}

/// Waits until something is there.
#[track_caller]
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(LIMIT, what, look)
}

/// The same with a limit of its own.
#[track_caller]
pub(crate) fn until_within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until a file holds something, and gives that.
#[track_caller]
pub(crate) fn content_of(path: &Path) -> String {
    until(&format!("{}", path.display()), || std::fs::read_to_string(path).ok().filter(|text| text.ends_with('\n')))
}

/// Whether a process lives (and is more than an entry that nobody has asked about yet).
pub(crate) fn lives(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

/// Processes that belong to a step of any execution under this home.
pub(crate) fn step_processes(home: &Home) -> Vec<u32> {
    let mark = format!("HOME={}\0", home.dir.path().display());
    let dirs = std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let pids = dirs.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let environ = String::from_utf8_lossy(&environ).into_owned() + "\0";
        environ.contains("BIRUN_STEP_ID=") && environ.contains(&mark) && lives(&pid.to_string())
    })
    .collect()
}
