//! Signing in with the keys of a real ssh-agent, and with agents that do not answer as they should.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use birun_core::execution::Ending;
use birun_core::inventory::{AgentKey, OpenCredential};
use birun_core::testing::harness::{Need, Suite};
use birun_core::{Error, ErrorCode};
use birun_exec::SshExecutor;
use birun_exec::testing::{Script, ScriptedServer, SshAgent, Sshd, certificate, private_key};
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::private::RsaKeypair;
use russh::keys::{Algorithm, HashAlg, PrivateKey};
use tempfile::TempDir;

use super::support::{impatient, patient, run, strict};

pub(crate) fn add_to(suite: &mut Suite) {
    let real = [Need::new("sshd", Sshd::program().is_some()), Need::new("ssh-agent", SshAgent::is_there())];
    suite.test("ssh::agent::a_key_of_the_agent_signs_in", &real, a_key_signs_in);
    suite.test("ssh::agent::a_certificate_of_the_agent_signs_in", &real, a_certificate_signs_in);
    suite.test("ssh::agent::five_keys_are_tried_unless_one_is_named", &real, five_keys_are_tried);
    suite.test("ssh::agent::an_agent_that_refuses_is_named", &real, a_refusal_is_named);
    suite.test("ssh::agent::an_agent_that_is_gone_is_named", &real, a_missing_agent_is_named);
    suite.test("ssh::agent::an_agent_that_hangs_or_babbles_is_given_up", &[], a_bad_agent_is_given_up);
}

fn with(socket: Option<PathBuf>, key: Option<&PrivateKey>) -> OpenCredential {
    OpenCredential::Agent(AgentKey {
        socket: socket.map(|path| path.display().to_string()),
        fingerprint: key.map(|key| key.fingerprint(HashAlg::Sha256).to_string()),
    })
}

async fn code(executor: &SshExecutor, sshd: &Sshd, credential: OpenCredential) -> Result<i32, Error> {
    let mut target = sshd.target();
    target.credential = Some(credential);
    match run(executor, &Arc::new(target), "true").await.ending {
        Ending::Exited { code } => Ok(code),
        Ending::Unreachable(error) => Err(error),
        other => panic!("{other:?}"),
    }
}

async fn a_key_signs_in() {
    let (sshd, agent) = (Sshd::start(), SshAgent::start());
    agent.add(sshd.client_key(), &[]);
    assert_eq!(code(&patient(), &sshd, with(Some(agent.socket()), None)).await.unwrap(), 0);
    let knowing = strict().agent(agent.socket()).build().unwrap();
    assert_eq!(code(&knowing, &sshd, with(None, Some(sshd.client_key()))).await.unwrap(), 0);
    let error = code(&patient(), &sshd, with(None, None)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::AgentFailed);
    assert!(error.hint().unwrap().contains("SSH_AUTH_SOCK"), "{error:?}");
}

/// An RSA certificate at that: its signature names a hash.
async fn a_certificate_signs_in() {
    let directory = TempDir::new().unwrap();
    let authority = private_key(Algorithm::Ed25519);
    let file = directory.path().join("authority.pub");
    std::fs::write(&file, authority.public_key().to_openssh().unwrap()).unwrap();
    let trusting = Sshd::options().line(format!("TrustedUserCAKeys {}", file.display()));
    let (sshd, agent) = (trusting.start(), SshAgent::start());
    let key = PrivateKey::from(RsaKeypair::random(&mut safe_rng(), 2048).unwrap());
    let text = certificate(&key, &authority, CertType::User, &[sshd.user()], (0, u64::MAX));
    agent.add_certified(&key, &text);
    assert_eq!(code(&patient(), &sshd, with(Some(agent.socket()), Some(&key))).await.unwrap(), 0, "{}", sshd.log());
}

async fn five_keys_are_tried() {
    let (sshd, agent) = (Sshd::start(), SshAgent::start());
    for _ in 0..5 {
        agent.add(&private_key(Algorithm::Ed25519), &[]);
    }
    agent.add(sshd.client_key(), &[]);
    let error = code(&patient(), &sshd, with(Some(agent.socket()), None)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::AuthFailed);
    let message = error.to_string();
    assert_eq!(message.matches("publickey of the agent (ssh-ed25519 SHA256:").count(), 5, "{message}");
    assert!(message.contains("no more of the 6 keys that the agent holds"), "{message}");
    assert!(error.hint().unwrap().contains("name the agent's key"), "{error:?}");
    assert_eq!(code(&patient(), &sshd, with(Some(agent.socket()), Some(sshd.client_key()))).await.unwrap(), 0);
}

/// The key wants to be confirmed, and there is nobody to do it.
async fn a_refusal_is_named() {
    let (sshd, agent) = (Sshd::start(), SshAgent::start());
    agent.add(sshd.client_key(), &["-c"]);
    let error = code(&patient(), &sshd, with(Some(agent.socket()), None)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::AgentFailed);
    assert!(error.to_string().ends_with("refuses to sign"), "{error}");
    assert!(error.hint().unwrap().contains("ssh-add -c"), "{error:?}");
}

async fn a_missing_agent_is_named() {
    let (sshd, mut agent) = (Sshd::start(), SshAgent::start());
    let empty = code(&patient(), &sshd, with(Some(agent.socket()), None)).await.unwrap_err();
    assert!(empty.to_string().contains("holds no key that can be used"), "{empty}");
    let other = code(&patient(), &sshd, with(Some(agent.socket()), Some(sshd.client_key()))).await.unwrap_err();
    assert!(other.to_string().contains("does not hold the key SHA256:"), "{other}");
    agent.stop();
    let gone = code(&patient(), &sshd, with(Some(agent.socket()), None)).await.unwrap_err();
    assert!(gone.to_string().contains("cannot be reached"), "{gone}");
    for error in [empty, other, gone] {
        assert_eq!(error.code(), ErrorCode::AgentFailed);
        assert!(error.hint().unwrap().contains("ssh-add"), "{error:?}");
    }
}

/// Takes connections and answers each request with these bytes.
fn answering(directory: &Path, answer: &'static [u8]) -> PathBuf {
    let socket = directory.join("agent");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut request = [0; 4096];
            while stream.read(&mut request).is_ok_and(|read| read > 0) {
                stream.write_all(answer).unwrap();
            }
        }
    });
    socket
}

async fn a_bad_agent_is_given_up() {
    for (answer, why) in [
        (&b""[..], "did not answer within 200ms"),
        (b"\xff\xff\xff\xff", "does not speak the agents' protocol"),
        (b"\0\0\0\x05\x0c\xff\xff\xff\xff", "does not speak the agents' protocol"),
    ] {
        let directory = TempDir::new().unwrap();
        let server = ScriptedServer::start(Script::default()).await;
        let mut target = server.target();
        target.credential = Some(with(Some(answering(directory.path(), answer)), None));
        let ran = run(&impatient(), &Arc::new(target), "true").await;
        let error = ran.unreachable();
        assert_eq!(error.code(), ErrorCode::AgentFailed, "{error}");
        assert!(error.to_string().ends_with(why), "{error}");
    }
}
