//! What can be done about a server that could not be used.

use crate::error::ErrorCode;

/// What to do about a step on this server that ended with this error; `None` where nothing can be said
/// that the error does not say itself.
///
/// A record keeps the code and the message of an error, not its hint: this is the hint again, as far
/// as those two tell it. Where they do not, trying the server stage by stage does.
#[must_use]
pub fn advice(error: ErrorCode, server: &str, message: &str) -> Option<String> {
    let approve = || match offered(message) {
        Some(fingerprint) => format!("birun server host-key approve {server} {fingerprint}"),
        None => format!("birun server host-key approve {server}"),
    };
    let advice = match error {
        ErrorCode::HostKeyUnknown => format!("compare the fingerprint with the server's own, then run  {}", approve()),
        ErrorCode::HostKeyMismatch => format!(
            "someone may be answering in the server's place; only if you know why the key changed, run  {}",
            approve()
        ),
        ErrorCode::HostKeyRevoked => {
            "give the server a new host key; if the revocation was a mistake, forget it with  birun server host-key delete"
                .to_owned()
        },
        ErrorCode::ServerDeleted => {
            "a retry runs on the very servers of the first run; to run on another one, start anew with  birun run  or  birun exec"
                .to_owned()
        }
        ErrorCode::ResolveFailed => "check the host name and the name servers of this machine".to_owned(),
        ErrorCode::ConnectTimeout => {
            "check address and port, and whether a firewall drops packets on the way".to_owned()
        }
        ErrorCode::ConnectFailed if message.ends_with("connection refused") => {
            "nothing listens there; check the port, and whether the SSH server runs".to_owned()
        }
        ErrorCode::AgentFailed => {
            "see with  ssh-add -l  that the agent answers and holds the key, on the machine that birun works on".to_owned()
        }
        ErrorCode::CertificateRefused => {
            "have its key signed anew, then store that with  birun credential edit CREDENTIAL --certificate FILE"
                .to_owned()
        }
        ErrorCode::ConnectFailed | ErrorCode::PhaseTimeout | ErrorCode::ProtocolError | ErrorCode::AuthFailed => {
            format!("see which stage fails, and what can be done, with  birun server test {server}")
        }
        _ => return None,
    };
    Some(advice)
}

/// The fingerprint of the key that a message about host keys says was offered: the last one in it.
fn offered(message: &str) -> Option<&str> {
    message.split_whitespace().rfind(|word| word.starts_with("SHA256:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_that_was_offered_is_the_one_to_approve() {
        let changed =
            "10.0.0.5:22: the host key of web-1 changed: expected SHA256:old, it offers ssh-ed25519 SHA256:new";
        let advised = advice(ErrorCode::HostKeyMismatch, "web-1", changed).unwrap();
        assert!(advised.ends_with("birun server host-key approve web-1 SHA256:new"), "{advised}");
    }

    #[test]
    fn what_a_program_did_needs_no_advice() {
        assert_eq!(advice(ErrorCode::LinkLost, "web-1", "the link broke"), None);
    }
}
