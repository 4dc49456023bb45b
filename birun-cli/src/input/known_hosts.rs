//! OpenSSH's file of known hosts (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use birun_core::wildcard::fits;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

/// One line that holds a key.
#[derive(Debug)]
pub(crate) struct KnownHost {
    /// Counts from 1.
    pub(crate) line: usize,
    pub(crate) mark: Mark,
    /// Algorithm and key: `ssh-ed25519 AAAA…`
    pub(crate) key: String,
    hosts: String,
}

/// What a line says of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// It is the host's.
    Known,
    /// It must never be taken.
    Revoked,
    /// It signs hosts' keys.
    Authority,
}

/// Reads a file; what is no such line is answered by its number.
pub(crate) fn parse(text: &str) -> (Vec<KnownHost>, Vec<usize>) {
    let (mut known, mut broken) = (Vec::new(), Vec::new());
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        match read(line, text) {
            Some(host) => known.push(host),
            None => broken.push(line),
        }
    }
    (known, broken)
}

fn read(line: usize, text: &str) -> Option<KnownHost> {
    let mut words = text.split_ascii_whitespace();
    let mut first = words.next()?;
    let mark = match first {
        "@revoked" => Mark::Revoked,
        "@cert-authority" => Mark::Authority,
        marked if marked.starts_with('@') => return None,
        _ => Mark::Known,
    };
    if mark != Mark::Known {
        first = words.next()?;
    }
    let key = format!("{} {}", words.next()?, words.next()?);
    Some(KnownHost { line, mark, key, hosts: first.to_owned() })
}

impl KnownHost {
    /// Whether the line is about this host, as OpenSSH looks it up: by its name alone at port 22, else with the port.
    pub(crate) fn is_of(&self, host: &str, port: u16) -> bool {
        let host = host.to_ascii_lowercase();
        let name = if port == 22 { host } else { format!("[{host}]:{port}") };
        if self.hosts.starts_with("|1|") {
            return is_hash_of(&self.hosts, &name);
        }
        let mut found = false;
        for pattern in self.hosts.split(',') {
            match pattern.strip_prefix('!') {
                Some(pattern) if fits(pattern, &name) => return false,
                Some(_) => {}
                None => found |= fits(pattern, &name),
            }
        }
        found
    }
}

/// `|1|SALT|HASH`: an HMAC with SHA-1 of the name, keyed with the salt.
fn is_hash_of(text: &str, name: &str) -> bool {
    let mut parts = text.split('|').skip(2);
    let (Some(salt), Some(hash), None) = (parts.next(), parts.next(), parts.next()) else { return false };
    let (Ok(salt), Ok(hash)) = (STANDARD.decode(salt), STANDARD.decode(hash)) else { return false };
    let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(&salt) else { return false };
    mac.update(name.as_bytes());
    mac.verify_slice(&hash).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    fn one(line: &str) -> KnownHost {
        let (mut known, broken) = parse(line);
        assert!(broken.is_empty() && known.len() == 1, "{line}");
        known.remove(0)
    }

    #[test]
    fn lines_are_read_with_their_marks() {
        let text =
            format!("# note\n\nweb {KEY} comment\n@revoked * {KEY}\n@cert-authority *.x {KEY}\n@odd x {KEY}\nweb\n");
        let (known, broken) = parse(&text);
        let read: Vec<(usize, Mark)> = known.iter().map(|host| (host.line, host.mark)).collect();
        assert_eq!(read, [(3, Mark::Known), (4, Mark::Revoked), (5, Mark::Authority)]);
        assert_eq!(broken, [6, 7]);
        assert!(known.iter().all(|host| host.key == KEY));
    }

    #[test]
    fn hosts_are_found_by_name_port_and_pattern() {
        for (hosts, host, port, expected) in [
            ("web-1,10.0.0.1", "10.0.0.1", 22, true),
            ("web-1", "WEB-1", 22, true),
            ("web-1", "web-1", 2222, false),
            ("[web-1]:2222", "web-1", 2222, true),
            ("[web-1]:2222", "web-1", 22, false),
            ("*.example.com,!db.example.com", "web.example.com", 22, true),
            ("*.example.com,!db.example.com", "db.example.com", 22, false),
            ("[::1]:2222", "::1", 2222, true),
            ("fd00::7", "fd00::7", 22, true),
        ] {
            assert_eq!(one(&format!("{hosts} {KEY}")).is_of(host, port), expected, "{hosts} {host} {port}");
        }
    }

    /// ssh-keygen hashes the names, where it is there.
    #[test]
    fn hashed_names_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("known_hosts");
        std::fs::write(&file, format!("web-1 {KEY}\n[web-2]:2222 {KEY}\n")).unwrap();
        if Command::new("ssh-keygen").arg("-H").arg("-f").arg(&file).output().is_err() {
            return;
        }
        let (known, _) = parse(&std::fs::read_to_string(&file).unwrap());
        assert_eq!(known.len(), 2);
        let found = |host, port| known.iter().filter(|known| known.is_of(host, port)).count();
        assert_eq!((found("web-1", 22), found("web-2", 2222), found("web-2", 22), found("web-3", 22)), (1, 1, 0, 0));
        assert!(!one(&format!("|1|x {KEY}")).is_of("web-1", 22));
    }
}
