//! OpenSSH's client configuration, as far as it says where hosts are and who signs in (ssh_config(5)).

use std::path::{Path, PathBuf};

use birun_core::wildcard::fits;

/// How deep files may include others, as in OpenSSH.
const MAX_DEPTH: usize = 16;

/// What a configuration says, in its own order: the first value counts.
#[derive(Debug, Default)]
pub(crate) struct SshConfig {
    lines: Vec<Line>,
    aliases: Vec<String>,
    /// What could not be taken into account, for people.
    pub(crate) unknown: Vec<String>,
}

#[derive(Debug)]
struct Line {
    conditions: Vec<Condition>,
    keyword: String,
    value: String,
}

/// When a line counts.
#[derive(Clone, Debug)]
enum Condition {
    /// For hosts that fit one of the patterns, and none with a `!` before it.
    Host(Vec<String>),
    /// Never: what it asks cannot be told here.
    Unknown,
}

/// What holds for one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) host: String,
    pub(crate) user: Option<String>,
    pub(crate) port: Option<String>,
    pub(crate) jump: Option<String>,
    pub(crate) command: Option<String>,
    /// As they are written.
    pub(crate) keys: Vec<String>,
    pub(crate) certificates: Vec<String>,
}

/// Reads the files that a pattern names, for `Include`.
pub(crate) trait Files {
    /// Their texts, in the order of their names; none if there are none.
    fn read(&self, pattern: &str) -> Vec<String>;
}

impl SshConfig {
    /// Reads a configuration, and the files that it includes.
    pub(crate) fn parse(text: &str, files: &dyn Files) -> Self {
        let mut config = Self::default();
        config.add(text, files, &[], 0);
        config
    }

    fn add(&mut self, text: &str, files: &dyn Files, outer: &[Condition], depth: usize) {
        let mut conditions = outer.to_vec();
        for line in text.lines() {
            let Some((keyword, words)) = split(line) else { continue };
            match keyword.as_str() {
                "host" => {
                    self.note_aliases(&words);
                    conditions = [outer, &[Condition::Host(words)]].concat();
                }
                "match" => {
                    let all = matches!(words.as_slice(), [only] if only.eq_ignore_ascii_case("all"));
                    let condition = if all { Condition::Host(vec!["*".to_owned()]) } else { Condition::Unknown };
                    if !all {
                        self.unknown.push(format!("Match {}", words.join(" ")));
                    }
                    conditions = [outer, &[condition]].concat();
                }
                "include" if depth < MAX_DEPTH => {
                    for included in words.iter().flat_map(|pattern| files.read(pattern)) {
                        self.add(&included, files, &conditions, depth + 1);
                    }
                }
                _ => self.lines.push(Line { conditions: conditions.clone(), keyword, value: words.join(" ") }),
            }
        }
    }

    fn note_aliases(&mut self, patterns: &[String]) {
        let concrete = patterns.iter().filter(|pattern| !pattern.contains(['*', '?', '!']));
        for alias in concrete {
            if !self.aliases.contains(alias) {
                self.aliases.push(alias.clone());
            }
        }
    }

    /// The hosts that are named outright, in the order in which they first are.
    pub(crate) fn aliases(&self) -> &[String] {
        &self.aliases
    }

    /// What holds for a host.
    pub(crate) fn entry(&self, alias: &str) -> Entry {
        let mut entry = Entry::default();
        let mut host = None;
        for line in self.lines.iter().filter(|line| line.conditions.iter().all(|condition| condition.holds(alias))) {
            let value = || line.value.clone();
            match line.keyword.as_str() {
                "hostname" => drop(host.get_or_insert_with(value)),
                "user" => drop(entry.user.get_or_insert_with(value)),
                "port" => drop(entry.port.get_or_insert_with(value)),
                "proxyjump" => drop(entry.jump.get_or_insert_with(value)),
                "proxycommand" => drop(entry.command.get_or_insert_with(value)),
                "identityfile" => entry.keys.push(value()),
                "certificatefile" => entry.certificates.push(value()),
                _ => {}
            }
        }
        let none = |text: &String| !text.eq_ignore_ascii_case("none");
        entry.host = host.map_or_else(|| alias.to_owned(), |host| host.replace("%%", "%").replace("%h", alias));
        entry.jump = entry.jump.filter(none);
        entry.command = entry.command.filter(none);
        entry.keys.retain(none);
        entry
    }
}

impl Condition {
    fn holds(&self, alias: &str) -> bool {
        let Self::Host(patterns) = self else { return false };
        let excluded = patterns.iter().filter_map(|pattern| pattern.strip_prefix('!'));
        let mut included = patterns.iter().filter(|pattern| !pattern.starts_with('!'));
        included.any(|pattern| fits(pattern, alias)) && !excluded.into_iter().any(|pattern| fits(pattern, alias))
    }
}

/// A line's keyword, in small letters, and its words; `None` for an empty line and a comment.
fn split(line: &str) -> Option<(String, Vec<String>)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    Some((keyword.to_ascii_lowercase(), words(rest)))
}

/// Words, separated by space; double quotes keep space in one. A `#` at the beginning of a word ends the line.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted, mut begun) = (String::new(), false, false);
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                begun = true;
            }
            '#' if !quoted && !begun => break,
            c if c.is_whitespace() && !quoted => {
                if std::mem::take(&mut begun) {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => {
                word.push(c);
                begun = true;
            }
        }
    }
    if begun {
        words.push(word);
    }
    words
}

/// The user's own files: what is not an absolute path or in `~` is in `~/.ssh`.
#[derive(Debug)]
pub(crate) struct HomeFiles {
    pub(crate) home: PathBuf,
}

impl HomeFiles {
    /// A path as OpenSSH understands it.
    pub(crate) fn path(&self, text: &str, base: &Path) -> PathBuf {
        match text.strip_prefix("~/").or_else(|| text.strip_prefix("%d/")) {
            Some(rest) => self.home.join(rest),
            None => base.join(text),
        }
    }
}

impl Files for HomeFiles {
    fn read(&self, pattern: &str) -> Vec<String> {
        let path = self.path(pattern, &self.home.join(".ssh"));
        let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Vec::new();
        };
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let hidden = |found: &str| found.starts_with('.') && !name.starts_with('.');
        let mut found: Vec<PathBuf> = entries
            .filter(|entry| entry.file_name().to_str().is_some_and(|found| fits(name, found) && !hidden(found)))
            .map(|entry| entry.path())
            .collect();
        found.sort();
        found.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    struct Nothing;

    impl Files for Nothing {
        fn read(&self, _: &str) -> Vec<String> {
            Vec::new()
        }
    }

    const SAMPLE: &str = r#"
# what comes first holds for all
Port=2200
Host web-1 web-2 !web-9
    HostName %h.example.com
    User deploy   # who else
    IdentityFile ~/.ssh/id_web
Host "db-1"
    HOSTNAME = 10.0.0.7
    Port 2222
    User "dba"
    IdentityFile /keys/db-one
    IdentityFile "/keys/db two"
Host inner
    ProxyJump web-1
Host direct
    ProxyJump none
    ProxyCommand none
Host web-* !web-2
    User late
    IdentityFile ~/.ssh/id_more
Match all
    IdentityFile ~/.ssh/id_all
Host *
    User everybody
    Port 22
"#;

    #[test]
    fn the_first_value_counts_and_keys_add_up() {
        let config = SshConfig::parse(SAMPLE, &Nothing);
        assert_eq!(config.aliases(), ["web-1", "web-2", "db-1", "inner", "direct"]);
        let web = config.entry("web-1");
        assert_eq!(
            (web.host.as_str(), web.user.as_deref(), web.port.as_deref()),
            ("web-1.example.com", Some("deploy"), Some("2200"))
        );
        assert_eq!(web.keys, ["~/.ssh/id_web", "~/.ssh/id_more", "~/.ssh/id_all"]);
        assert_eq!(config.entry("web-2").keys, ["~/.ssh/id_web", "~/.ssh/id_all"]);
        assert_eq!(config.entry("inner").jump.as_deref(), Some("web-1"));
        assert_eq!((config.entry("direct").jump, config.entry("direct").command), (None, None));
        assert!(config.unknown.is_empty());
    }

    #[test]
    fn what_cannot_be_told_is_left_out_and_named() {
        let config = SshConfig::parse("Host a\nUser x\nMatch exec \"true\"\nUser y\nPort 5\n", &Nothing);
        assert_eq!(config.unknown, ["Match exec true"]);
        assert_eq!((config.entry("a").user.as_deref(), config.entry("a").port), (Some("x"), None));
    }

    #[test]
    fn included_files_hold_where_they_are_included() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join(".ssh/more.d");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("a.conf"), "Host inner\nUser inner\n").unwrap();
        std::fs::write(directory.join("b.conf"), "User of-b\n").unwrap();
        std::fs::write(directory.join("loop"), "Include more.d/loop\n").unwrap();
        let files = HomeFiles { home: home.path().to_owned() };
        let config = SshConfig::parse(
            "Include more.d/*.conf\nInclude more.d/loop\nHost x\nInclude ~/.ssh/more.d/a.conf\n",
            &files,
        );
        assert_eq!(config.aliases(), ["inner", "x"]);
        assert_eq!(config.entry("inner").user.as_deref(), Some("inner"));
        assert_eq!(config.entry("x").user.as_deref(), Some("of-b"));
    }

    /// OpenSSH itself says what holds for a host, where it is there.
    #[test]
    fn openssh_reads_it_the_same_way() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("config");
        std::fs::write(&file, SAMPLE).unwrap();
        let config = SshConfig::parse(SAMPLE, &Nothing);
        for alias in config.aliases() {
            let Ok(told) = Command::new("ssh").arg("-G").arg("-F").arg(&file).arg(alias).output() else { return };
            let told = String::from_utf8(told.stdout).unwrap();
            let all = |keyword: &str| {
                let lines = told.lines().filter_map(|line| line.split_once(' '));
                lines.filter(|(word, _)| *word == keyword).map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
            };
            let entry = config.entry(alias);
            assert_eq!(all("hostname"), [entry.host], "{alias}");
            assert_eq!(all("user"), entry.user.into_iter().collect::<Vec<_>>(), "{alias}");
            assert_eq!(all("port"), entry.port.into_iter().collect::<Vec<_>>(), "{alias}");
            assert_eq!(all("identityfile"), entry.keys, "{alias}");
            assert_eq!(all("proxyjump"), entry.jump.into_iter().collect::<Vec<_>>(), "{alias}");
        }
    }
}
