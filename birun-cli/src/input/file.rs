//! Files that users name. `-` is stdin.

use std::io::Read;
use std::path::Path;

use birun_core::vault::Secret;

use crate::error::{CommandError, CommandResult};

/// How the first line of an OpenSSH key begins that is not encrypted (its cipher is `none`).
const OPENSSH_PLAIN: &str = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU";

/// Reads a text file, or stdin.
///
/// # Errors
/// When it cannot be read, or is not text.
pub(crate) fn read_text(path: &Path) -> CommandResult<String> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(path).map(|read| text = read)
    };
    match read {
        Ok(()) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err(CommandError::usage(format!("{} is not UTF-8 text", path.display())))
        }
        Err(error) => Err(CommandError::unreadable("read", path, &error)),
    }
}

/// Reads a value that may be a secret from a file, or stdin; one line feed at its end is not part of it.
///
/// # Errors
/// As [`read_text`].
pub(crate) fn read_value(path: &Path) -> CommandResult<Secret> {
    let whole = Secret::new(read_text(path)?);
    let text = whole.expose();
    Ok(Secret::new(text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text))))
}

/// Reads a secret from a file, or stdin, in the same way.
///
/// # Errors
/// As [`read_text`]; when nothing is in it.
pub(crate) fn read_secret_file(path: &Path) -> CommandResult<Secret> {
    let secret = read_value(path)?;
    if secret.expose().is_empty() {
        let place = if path == Path::new("-") { "stdin".to_owned() } else { format!("the file {}", path.display()) };
        return Err(CommandError::usage(format!("{place} holds no secret: nothing is in it")));
    }
    Ok(secret)
}

/// Whether a private key needs a passphrase, as far as its form tells.
pub(crate) fn is_encrypted_key(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    if first.contains("OPENSSH PRIVATE KEY") {
        return lines.next().is_some_and(|line| !line.starts_with(OPENSSH_PLAIN));
    }
    text.lines().take(3).any(|line| line.contains("ENCRYPTED") || line == "Encryption: aes256-cbc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_ends_before_its_line_feed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        for (content, secret) in [("a\n", "a"), ("a", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(read_secret_file(&path).unwrap().expose(), secret, "{content:?}");
        }
        std::fs::write(&path, "\n").unwrap();
        assert!(read_secret_file(&path).is_err());
    }

    #[test]
    fn the_form_of_a_key_tells_whether_it_is_encrypted() {
        let openssh = |line: &str| format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{line}\n");
        assert!(!is_encrypted_key(&openssh(&format!("{OPENSSH_PLAIN}AAAA"))));
        assert!(is_encrypted_key(&openssh("b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAG")));
        assert!(is_encrypted_key("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n"));
        assert!(is_encrypted_key("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"));
        assert!(!is_encrypted_key("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n"));
    }
}
