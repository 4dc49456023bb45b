//! Signing in: keys, passwords, refusals, and algorithms that are refused before it comes to that.

use std::borrow::Cow;
use std::sync::Arc;

use birun_core::ErrorCode;
use birun_core::inventory::{AgentKey, OpenCredential, PromptAnswer};
use birun_core::testing::harness::{Need, Suite};
use birun_core::vault::Secret;
use birun_exec::testing::{
    Admission, Script, ScriptedServer, SshAgent, Sshd, SshdOptions, certificate, key_text, private_key,
};
use russh::keys::key::safe_rng;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::private::RsaKeypair;
use russh::keys::{Algorithm, EcdsaCurve, PrivateKey};
use russh::{MethodKind, Preferred, cipher, kex, mac};
use tempfile::TempDir;

use super::support::{patient, run};

pub(crate) fn add_to(suite: &mut Suite) {
    let sshd = [Need::new("sshd", Sshd::program().is_some())];
    suite.test("ssh::sign_in::every_type_of_key_signs_in", &[], every_type_of_key_signs_in);
    suite.test("ssh::sign_in::an_encrypted_key_signs_in", &[], an_encrypted_key_signs_in);
    suite.test("ssh::sign_in::a_password_signs_in", &[], a_password_signs_in);
    suite.test("ssh::sign_in::a_refused_key_is_told_with_what_else_there_is", &[], a_refused_key);
    suite.test("ssh::sign_in::a_refused_password_is_never_quoted", &[], a_refused_password);
    suite.test("ssh::sign_in::a_second_factor_is_named", &[], a_second_factor_is_named);
    suite.test("ssh::sign_in::without_a_credential_nothing_is_tried", &[], without_a_credential);
    suite.test("ssh::sign_in::a_broken_key_is_told", &[], a_broken_key_is_told);
    suite.test("ssh::sign_in::a_password_answers_the_one_hidden_question", &[], a_password_answers);
    suite.test("ssh::sign_in::answers_are_given_by_pattern", &[], answers_by_pattern);
    suite.test("ssh::sign_in::a_prompt_without_an_answer_is_named", &[], unanswered_prompt);
    suite.test("ssh::sign_in::a_server_that_does_not_stop_asking_is_given_up", &[], endless_questions);
    suite.test("ssh::sign_in::what_a_server_wants_is_given_in_its_order", &[], both_in_any_order);
    suite.test("ssh::sign_in::half_of_what_a_server_wants_is_not_enough", &[], half_is_not_enough);
    suite.test("ssh::sign_in::two_keys_sign_in_where_two_are_wanted", &sshd, two_keys);
    suite.test("ssh::sign_in::a_certificate_signs_in", &sshd, a_certificate_signs_in);
    suite.test("ssh::sign_in::a_refused_certificate_says_what_is_wrong", &sshd, a_refused_certificate);
    suite.test("ssh::sign_in::a_key_signs_in_where_its_certificate_does_not", &sshd, a_key_beside_its_certificate);
    suite.test("ssh::sign_in::broken_algorithms_are_refused", &[], broken_algorithms_are_refused);
    suite.test("ssh::sign_in::terrapin_is_refused", &[], terrapin_is_refused);
    suite.test("ssh::sign_in::old_but_safe_servers_are_served", &[], old_but_safe_servers_are_served);
}

async fn code_with(script: Script, credential: Option<OpenCredential>) -> Result<i32, birun_core::Error> {
    let server = ScriptedServer::start(script).await;
    let mut target = server.target();
    target.credential = credential;
    let ran = run(&patient(), &Arc::new(target), "true").await;
    match ran.ending {
        birun_core::execution::Ending::Exited { code } => Ok(code),
        birun_core::execution::Ending::Unreachable(error) => Err(error),
        other => panic!("{other:?}"),
    }
}

fn key(key: &PrivateKey) -> Option<OpenCredential> {
    Some(OpenCredential::PrivateKey { key: Secret::new(key_text(key)), passphrase: None, certificate: None })
}

fn password(text: &str) -> Option<OpenCredential> {
    Some(OpenCredential::Password(Secret::new(text)))
}

async fn every_type_of_key_signs_in() {
    let rsa = PrivateKey::from(RsaKeypair::random(&mut safe_rng(), 2048).unwrap());
    let curves = [EcdsaCurve::NistP256, EcdsaCurve::NistP384, EcdsaCurve::NistP521];
    let ecdsa = curves.map(|curve| private_key(Algorithm::Ecdsa { curve }));
    for signer in ecdsa.iter().chain([&private_key(Algorithm::Ed25519), &rsa]) {
        assert_eq!(code_with(Script::default(), key(signer)).await.unwrap(), 0, "{}", signer.algorithm());
    }
}

async fn an_encrypted_key_signs_in() {
    let encrypted = private_key(Algorithm::Ed25519).encrypt(&mut safe_rng(), "correct horse").unwrap();
    let credential = |passphrase: &str| {
        let key = Secret::new(key_text(&encrypted));
        Some(OpenCredential::PrivateKey { key, passphrase: Some(Secret::new(passphrase)), certificate: None })
    };
    assert_eq!(code_with(Script::default(), credential("correct horse")).await.unwrap(), 0);
    let error = code_with(Script::default(), credential("wrong horse")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::CredentialUnreadable);
    assert!(!error.to_string().contains("horse"));
}

async fn a_password_signs_in() {
    let script = Script { admission: Admission::Password("canary-1"), ..Script::default() };
    assert_eq!(code_with(script, password("canary-1")).await.unwrap(), 0);
}

async fn a_refused_key() {
    let script = Script { admission: Admission::Password("x"), ..Script::default() };
    let signer = private_key(Algorithm::Ed25519);
    let error = code_with(script, key(&signer)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::AuthFailed);
    let text = error.to_string();
    assert!(text.contains("deploy@127.0.0.1:") && text.contains("tried publickey (ssh-ed25519 SHA256:"), "{text}");
    assert!(text.contains("the server accepts") && text.contains("password"), "{text}");
    assert!(error.hint().unwrap().contains("authorized_keys"));
}

async fn a_refused_password() {
    let script = Script { admission: Admission::Nobody, ..Script::default() };
    let error = code_with(script, password("canary-2")).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::AuthFailed);
    assert!(error.to_string().contains("tried password"));
    assert!(!format!("{error:?}").contains("canary-2"));
}

async fn a_second_factor_is_named() {
    let script = Script { admission: Admission::Partial, ..Script::default() };
    let error = code_with(script, key(&private_key(Algorithm::Ed25519))).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::AuthFailed);
    assert!(error.to_string().contains("was taken, but the server also wants password"), "{error}");
}

async fn without_a_credential() {
    let error = code_with(Script::default(), None).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::AuthFailed);
    assert!(error.hint().unwrap().contains("birun server edit web-1"));
}

async fn a_broken_key_is_told() {
    let credential = OpenCredential::PrivateKey { key: Secret::new("canary-3"), passphrase: None, certificate: None };
    let error = code_with(Script::default(), Some(credential)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::CredentialUnreadable);
    assert!(!format!("{error:?}").contains("canary-3"));
}

fn answers(pairs: &[(&str, &str)]) -> Option<OpenCredential> {
    let answer = |(prompt, answer): &(&str, &str)| PromptAnswer {
        prompt: prompt.parse().unwrap(),
        answer: Secret::new(*answer),
    };
    Some(OpenCredential::Answers(pairs.iter().map(answer).collect()))
}

fn asking(rounds: &'static [&'static [(&'static str, &'static str)]]) -> Script {
    Script { admission: Admission::Prompts(rounds), ..Script::default() }
}

const ONE_ROUND: &[&[(&str, &str)]] = &[&[("Password: ", "canary-4")]];
const EMPTY_ROUND: &[&[(&str, &str)]] = &[&[("(ana@web-1) Kennwort: ", "canary-4")], &[]];

async fn a_password_answers() {
    for rounds in [ONE_ROUND, EMPTY_ROUND] {
        assert_eq!(code_with(asking(rounds), password("canary-4")).await.unwrap(), 0);
        let error = code_with(asking(rounds), password("canary-5")).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::AuthFailed);
        assert!(error.to_string().contains("tried password, keyboard-interactive"), "{error}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}

const TWO_FACTORS: &[&[(&str, &str)]] =
    &[&[("Password for ana: ", "canary-6")], &[], &[("Name of your dog?", "canary-7")]];

async fn answers_by_pattern() {
    let known = answers(&[("password for *:", "canary-6"), ("*DOG?", "canary-7")]);
    assert_eq!(code_with(asking(TWO_FACTORS), known).await.unwrap(), 0);
    let wrong = answers(&[("*", "canary-6")]);
    let error = code_with(asking(TWO_FACTORS), wrong).await.unwrap_err();
    assert!(error.to_string().contains("authentication failed: tried keyboard-interactive"), "{error}");
    assert!(error.hint().unwrap().contains("stored answers"), "{error:?}");
}

async fn unanswered_prompt() {
    for known in [answers(&[("password*", "canary-6")]), password("canary-6")] {
        let error = code_with(asking(TWO_FACTORS), known).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::AuthFailed);
        assert!(error.to_string().contains("asks `Name of your dog?`, and no answer is stored"), "{error}");
        assert!(error.hint().unwrap().contains("--answer"), "{error:?}");
    }
    const REPEATS: &[&[(&str, &str)]] = &[&[("Password: ", "canary-8")], &[("\u{1b}[2J`canary-8` again: ", "x")]];
    let error = code_with(asking(REPEATS), password("canary-8")).await.unwrap_err();
    assert!(error.to_string().contains("asks `[2J`***` again:`"), "what was given is not shown: {error}");
}

async fn endless_questions() {
    let script = Script { admission: Admission::Asks("Password: "), ..Script::default() };
    let error = code_with(script.clone(), answers(&[("*", "canary-9")])).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::ProtocolError);
    assert!(error.to_string().ends_with("the server does not stop asking (in authentication)"), "{error}");
    let error = code_with(script, password("canary-9")).await.unwrap_err();
    assert!(error.to_string().contains("asks `Password: 2`, and no answer is stored"), "{error}");
}

fn several(methods: [Option<OpenCredential>; 2]) -> Option<OpenCredential> {
    OpenCredential::of(methods.into_iter().flatten().collect())
}

fn wanting(order: &'static [MethodKind]) -> Script {
    Script { admission: Admission::Both(order, "canary-a"), ..Script::default() }
}

const KEY_FIRST: &[MethodKind] = &[MethodKind::PublicKey, MethodKind::Password];
const PASSWORD_FIRST: &[MethodKind] = &[MethodKind::Password, MethodKind::PublicKey];

async fn both_in_any_order() {
    let signer = private_key(Algorithm::Ed25519);
    for order in [KEY_FIRST, PASSWORD_FIRST] {
        for methods in [[key(&signer), password("canary-a")], [password("canary-a"), key(&signer)]] {
            assert_eq!(code_with(wanting(order), several(methods)).await.unwrap(), 0, "{order:?}");
        }
    }
    let either = Script { admission: Admission::Password("canary-a"), ..Script::default() };
    assert_eq!(code_with(either, several([key(&signer), password("canary-a")])).await.unwrap(), 0, "one is enough");
}

async fn half_is_not_enough() {
    let signer = private_key(Algorithm::Ed25519);
    let error = code_with(wanting(KEY_FIRST), key(&signer)).await.unwrap_err();
    assert!(error.to_string().contains("was taken, but the server also wants password"), "{error}");
    assert!(error.hint().unwrap().contains("--key FILE --password-file FILE"), "{error:?}");
    for order in [KEY_FIRST, PASSWORD_FIRST] {
        let error = code_with(wanting(order), several([key(&signer), password("canary-b")])).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::AuthFailed);
        assert!(error.to_string().ends_with(", password, the server accepts password"), "{error}");
        assert!(error.hint().unwrap().contains("check the password"), "{error:?}");
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}

/// A real server, which wants two different keys: one that is stored, one of an agent.
async fn two_keys() {
    let (directory, agent) = (TempDir::new().unwrap(), SshAgent::start());
    let (stored, held) = (private_key(Algorithm::Ed25519), private_key(Algorithm::Ed25519));
    agent.add(&held, &[]);
    let keys = directory.path().join("keys");
    let lines = [&stored, &held].map(|key| key.public_key().to_openssh().unwrap()).join("\n");
    std::fs::write(&keys, lines).unwrap();
    let wanting = Sshd::options().line("AuthenticationMethods publickey,publickey");
    let sshd = wanting.line(format!("AuthorizedKeysFile {}", keys.display())).start();
    let of_agent =
        OpenCredential::Agent(AgentKey { socket: Some(agent.socket().display().to_string()), fingerprint: None });
    let mut target = sshd.target();
    target.credential = several([key(&stored), Some(of_agent)]);
    let ran = run(&patient(), &Arc::new(target.clone()), "true").await;
    assert_eq!(ran.code(), 0, "{}", sshd.log());
    target.credential = key(&stored);
    let ran = run(&patient(), &Arc::new(target), "true").await;
    assert!(ran.unreachable().to_string().contains("was taken, but the server also wants publickey"), "{ran:?}");
}

/// An sshd that trusts an authority, and no key by itself.
fn trusting(authority: &PrivateKey, directory: &TempDir) -> SshdOptions {
    let file = directory.path().join("authority.pub");
    std::fs::write(&file, authority.public_key().to_openssh().unwrap()).unwrap();
    Sshd::options().line(format!("TrustedUserCAKeys {}", file.display()))
}

/// Signs in to an sshd with a certificate.
async fn code_certified(sshd: &Sshd, key: &PrivateKey, certificate: String) -> Result<i32, birun_core::Error> {
    let mut target = sshd.target();
    target.credential = Some(OpenCredential::PrivateKey {
        key: Secret::new(key_text(key)),
        passphrase: None,
        certificate: Some(certificate),
    });
    let ran = run(&patient(), &Arc::new(target), "true").await;
    match ran.ending {
        birun_core::execution::Ending::Exited { code } => Ok(code),
        birun_core::execution::Ending::Unreachable(error) => Err(error),
        other => panic!("{other:?}"),
    }
}

const ALWAYS: (u64, u64) = (0, u64::MAX);

async fn a_certificate_signs_in() {
    let directory = TempDir::new().unwrap();
    let authority = private_key(Algorithm::Ed25519);
    let sshd = trusting(&authority, &directory).line("AuthorizedKeysFile none").start();
    let rsa = PrivateKey::from(RsaKeypair::random(&mut safe_rng(), 2048).unwrap());
    let ecdsa = private_key(Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 });
    for key in [private_key(Algorithm::Ed25519), ecdsa, rsa] {
        let text = certificate(&key, &authority, CertType::User, &[sshd.user()], ALWAYS);
        assert_eq!(code_certified(&sshd, &key, text).await.unwrap(), 0, "{}: {}", key.algorithm(), sshd.log());
    }
}

async fn a_refused_certificate() {
    let directory = TempDir::new().unwrap();
    let (authority, other) = (private_key(Algorithm::Ed25519), private_key(Algorithm::Ed25519));
    let sshd = trusting(&authority, &directory).start();
    let (key, user) = (private_key(Algorithm::Ed25519), sshd.user());
    let refused = ErrorCode::CertificateRefused;
    for (authority, principal, window, code, why, next) in [
        (&authority, user, (10, 20), refused, "the certificate expired at 1970-01-01T00:00:20Z", "signed anew"),
        (
            &authority,
            user,
            (4_000_000_000, u64::MAX),
            refused,
            "the certificate is not valid before 2096",
            "signed anew",
        ),
        (&authority, "ana", ALWAYS, refused, "the certificate is for ana, not for", "signed anew"),
        (&other, user, ALWAYS, ErrorCode::AuthFailed, "the server accepts publickey", "TrustedUserCAKeys"),
    ] {
        let text = certificate(&key, authority, CertType::User, &[principal], window);
        let error = code_certified(&sshd, &key, text).await.unwrap_err();
        let message = error.to_string();
        assert_eq!(error.code(), code, "{error}");
        assert!(message.contains(why), "{error}");
        assert!(message.contains("tried publickey (ssh-ed25519-cert-v01@openssh.com SHA256:"), "{error}");
        assert!(message.contains(", publickey (ssh-ed25519 SHA256:"), "{error}");
        assert!(error.hint().unwrap().contains(next), "{error:?}");
    }
}

async fn a_key_beside_its_certificate() {
    let sshd = Sshd::start();
    let authority = private_key(Algorithm::Ed25519);
    let text = certificate(sshd.client_key(), &authority, CertType::User, &["ana"], (10, 20));
    assert_eq!(code_certified(&sshd, sshd.client_key(), text).await.unwrap(), 0);
}

fn only(change: impl FnOnce(&mut Preferred)) -> Script {
    let mut script = Script::default();
    change(&mut script.preferred);
    script
}

async fn broken_algorithms_are_refused() {
    let weak: [(&str, Script); 5] = [
        ("group 1", only(|offer| offer.kex = Cow::Borrowed(&[kex::DH_G1_SHA1]))),
        ("group 14 with SHA-1", only(|offer| offer.kex = Cow::Borrowed(&[kex::DH_G14_SHA1]))),
        ("CBC", only(|offer| offer.cipher = Cow::Borrowed(&[cipher::AES_256_CBC, cipher::AES_128_CBC]))),
        (
            "HMAC-SHA-1",
            only(|offer| {
                offer.cipher = Cow::Borrowed(&[cipher::AES_256_CTR]);
                offer.mac = Cow::Borrowed(&[mac::HMAC_SHA1, mac::HMAC_SHA1_ETM]);
            }),
        ),
        ("no encryption", only(|offer| offer.cipher = Cow::Borrowed(&[cipher::NONE]))),
    ];
    for (name, script) in weak {
        let error = code_with(script, key(&private_key(Algorithm::Ed25519))).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::ProtocolError, "{name}: {error}");
        assert!(error.to_string().contains("no common"), "{name}: {error}");
    }
    let rsa = PrivateKey::from(RsaKeypair::random(&mut safe_rng(), 2048).unwrap());
    let sha1 = only(|offer| offer.key = Cow::Borrowed(&[Algorithm::Rsa { hash: None }]));
    let server = ScriptedServer::with_keys(sha1, vec![rsa]).await;
    let ran = run(&patient(), &Arc::new(server.target()), "true").await;
    assert!(ran.unreachable().to_string().contains("no common Key algorithm"), "{ran:?}");
    assert_eq!(server.witness().attempts(), 0);
}

const WITHOUT_STRICT: &[kex::Name] = &[kex::CURVE25519];

async fn terrapin_is_refused() {
    let etm: &[mac::Name] = &[mac::HMAC_SHA256_ETM];
    for (cipher, mac) in [(&[cipher::CHACHA20_POLY1305], &[][..]), (&[cipher::AES_256_CTR], etm)] {
        let script = only(|offer| {
            offer.kex = Cow::Borrowed(WITHOUT_STRICT);
            offer.cipher = Cow::Borrowed(cipher);
            offer.mac = Cow::Borrowed(mac);
        });
        let error = code_with(script, key(&private_key(Algorithm::Ed25519))).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::ProtocolError);
        assert!(error.to_string().contains("CVE-2023-48795"), "{error}");
    }
}

async fn old_but_safe_servers_are_served() {
    let gcm: (&[cipher::Name], &[mac::Name]) = (&[cipher::AES_256_GCM, cipher::CHACHA20_POLY1305], &[]);
    let ctr: (&[cipher::Name], &[mac::Name]) = (&[cipher::AES_128_CTR, cipher::CHACHA20_POLY1305], &[mac::HMAC_SHA256]);
    for (ciphers, macs) in [gcm, ctr] {
        let script = only(|offer| {
            offer.kex = Cow::Borrowed(WITHOUT_STRICT);
            offer.cipher = Cow::Borrowed(ciphers);
            offer.mac = Cow::Borrowed(macs);
        });
        assert_eq!(code_with(script, key(&private_key(Algorithm::Ed25519))).await.unwrap(), 0);
    }
}
