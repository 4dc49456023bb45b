//! Credentials on the wire: values go in and never come out.

use birun_core::inventory::{self, CredentialKind, OpenCredential};
use birun_core::{Error, Result};
use poem_openapi::Object;
use serde::Deserialize;
use uuid::Uuid;

use crate::dto::parsed;
use crate::dto::secret::SecretText;
use crate::schema::{Timestamp, Word};

/// What servers are signed in to with. The value is never shown.
#[derive(Debug, Object)]
pub(crate) struct Credential {
    id: Uuid,
    /// The last eight hex digits of the id.
    short_id: String,
    project_id: Uuid,
    /// Unique in the project.
    name: String,
    kind: Word<CredentialKind>,
    /// A private key's algorithm.
    #[oai(nullable)]
    algorithm: Option<String>,
    /// The public side of a private key, or of the one that an agent is asked for: `SHA256:…`
    #[oai(nullable)]
    fingerprint: Option<String>,
    /// What a private key's user certificate says.
    #[oai(nullable)]
    certificate: Option<Certificate>,
    /// For people.
    description: String,
    /// Rises by one with each change; the `ETag` says it too.
    version: u64,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<inventory::Credential> for Credential {
    fn from(credential: inventory::Credential) -> Self {
        Self {
            id: credential.id.as_uuid(),
            short_id: credential.id.short(),
            project_id: credential.project_id.as_uuid(),
            name: credential.name.to_string(),
            kind: Word(credential.kind),
            algorithm: credential.algorithm,
            fingerprint: credential.fingerprint,
            certificate: credential.certificate.map(Certificate::from),
            description: credential.description,
            version: credential.version,
            created_at: credential.created_at.into(),
            updated_at: credential.updated_at.into(),
        }
    }
}

/// What an OpenSSH user certificate says.
#[derive(Debug, Object)]
pub(crate) struct Certificate {
    /// What its authority calls it in logs.
    key_id: String,
    /// The key of the authority that signed it: `SHA256:…`
    authority: String,
    /// The users that it was made for.
    principals: Vec<String>,
    /// From when on it is valid; null = always was.
    #[oai(nullable)]
    valid_after: Option<Timestamp>,
    /// Until when it is valid; null = for ever.
    #[oai(nullable)]
    valid_before: Option<Timestamp>,
}

impl From<inventory::CertificateFacts> for Certificate {
    fn from(facts: inventory::CertificateFacts) -> Self {
        Self {
            key_id: facts.key_id,
            authority: facts.authority,
            principals: facts.principals,
            valid_after: facts.valid_after.map(Timestamp::from),
            valid_before: facts.valid_before.map(Timestamp::from),
        }
    }
}

/// An answer to what a server asks at sign-in (keyboard-interactive).
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub(crate) struct PromptAnswer {
    /// Which prompts: `*` stands for any characters, `?` for one; case does not matter.
    prompt: String,
    /// What is answered.
    #[oai(write_only)]
    answer: SecretText,
}

/// Which key of which ssh-agent.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentKey {
    /// The agent's socket, on the machine that birun works on; left out = the one that birun was started with.
    socket: Option<String>,
    /// The key to use, `SHA256:…`; left out = the agent's keys in their order, at most five.
    fingerprint: Option<String>,
}

/// A credential to be stored: a private key, with passphrase and certificate if it has them, a
/// password, answers, a key that an ssh-agent holds, or several of these.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCredential {
    /// Unique in the project.
    name: String,
    /// For people.
    #[serde(default)]
    #[oai(default)]
    description: String,
    /// The text of a private key file, in OpenSSH or PEM form.
    #[oai(write_only)]
    private_key: Option<SecretText>,
    /// What the private key is encrypted with.
    #[oai(write_only)]
    passphrase: Option<SecretText>,
    /// The text of an OpenSSH user certificate for the private key.
    #[oai(write_only)]
    certificate: Option<String>,
    /// A password. It also answers the one hidden prompt of a server that takes no passwords as such.
    #[oai(write_only)]
    password: Option<SecretText>,
    /// Answers to what the server asks, by the pattern of its prompts; the first that fits counts.
    #[oai(write_only)]
    answers: Option<Vec<PromptAnswer>>,
    /// A key that an ssh-agent holds. The agent is never forwarded.
    #[oai(write_only)]
    agent: Option<AgentKey>,
    /// In which order several methods are tried: the kind of each, once. Without it: `private_key`,
    /// `agent`, `keyboard_interactive`, `password`. A server that wants more than one is given them in
    /// the order that it asks for.
    #[oai(write_only)]
    order: Option<Vec<Word<CredentialKind>>>,
}

impl NewCredential {
    pub(crate) fn into_core(self) -> Result<inventory::NewCredential> {
        let Self { name, description, private_key, passphrase, certificate, password, answers, agent, order } = self;
        let given = Given { private_key, passphrase, certificate, password, answers, agent, order };
        let (value, certificate) = given.open()?;
        if certificate.is_some() {
            return Err(certificate_alone());
        }
        Ok(inventory::NewCredential { name: parsed("name", &name)?, description, value: value.ok_or_else(nothing)? })
    }
}

/// A change of a credential: what is left out stays. A new value replaces the old one whole.
#[derive(Debug, Deserialize, Object)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialPatch {
    /// The new name.
    name: Option<String>,
    /// The new description.
    description: Option<String>,
    /// The text of the new private key file.
    #[oai(write_only)]
    private_key: Option<SecretText>,
    /// What the new private key is encrypted with.
    #[oai(write_only)]
    passphrase: Option<SecretText>,
    /// The text of an OpenSSH user certificate: for the new private key, or for the one that is stored.
    #[oai(write_only)]
    certificate: Option<String>,
    /// The new password.
    #[oai(write_only)]
    password: Option<SecretText>,
    /// The new answers, all of them.
    #[oai(write_only)]
    answers: Option<Vec<PromptAnswer>>,
    /// Another key that an ssh-agent holds.
    #[oai(write_only)]
    agent: Option<AgentKey>,
    /// In which order several new methods are tried: the kind of each, once.
    #[oai(write_only)]
    order: Option<Vec<Word<CredentialKind>>>,
}

impl CredentialPatch {
    pub(crate) fn into_core(self) -> Result<inventory::RotateCredential> {
        let Self { name, description, private_key, passphrase, certificate, password, answers, agent, order } = self;
        let given = Given { private_key, passphrase, certificate, password, answers, agent, order };
        let (value, certificate) = given.open()?;
        Ok(inventory::RotateCredential {
            name: name.map(|text| parsed("name", &text)).transpose()?,
            value,
            certificate,
            description,
        })
    }
}

/// The fields that give a value.
struct Given {
    private_key: Option<SecretText>,
    passphrase: Option<SecretText>,
    certificate: Option<String>,
    password: Option<SecretText>,
    answers: Option<Vec<PromptAnswer>>,
    agent: Option<AgentKey>,
    order: Option<Vec<Word<CredentialKind>>>,
}

impl Given {
    /// The value that the fields give, if they give one; else the certificate that they give by itself.
    fn open(self) -> Result<(Option<OpenCredential>, Option<String>)> {
        let given = |text: Option<SecretText>| text.map(|text| text.0);
        let passphrase = given(self.passphrase).filter(|text| !text.expose().is_empty());
        let mut certificate = self.certificate.filter(|text| !text.is_empty());
        // In the order that OpenSSH prefers.
        let mut methods = Vec::new();
        match (given(self.private_key), passphrase) {
            (Some(key), passphrase) => {
                methods.push(OpenCredential::PrivateKey { key, passphrase, certificate: certificate.take() });
            }
            (None, Some(_)) => return Err(Error::invalid_field("passphrase", "is only for a private key")),
            (None, None) => {}
        }
        if let Some(AgentKey { socket, fingerprint }) = self.agent {
            methods.push(OpenCredential::Agent(inventory::AgentKey { socket, fingerprint }));
        }
        if let Some(answers) = self.answers {
            methods.push(OpenCredential::Answers(known(answers)?));
        }
        methods.extend(given(self.password).map(OpenCredential::Password));
        if certificate.is_some() && !methods.is_empty() {
            return Err(certificate_alone());
        }
        Ok((OpenCredential::of(ordered(methods, self.order)?), certificate))
    }
}

fn ordered(mut methods: Vec<OpenCredential>, order: Option<Vec<Word<CredentialKind>>>) -> Result<Vec<OpenCredential>> {
    let Some(order) = order else { return Ok(methods) };
    let mut sorted = Vec::with_capacity(methods.len());
    for Word(kind) in order {
        let at = methods.iter().position(|method| method.kind() == kind).ok_or_else(misordered)?;
        sorted.push(methods.remove(at));
    }
    if methods.is_empty() { Ok(sorted) } else { Err(misordered()) }
}

fn misordered() -> Error {
    Error::invalid_field("order", "must name the kind of each method that is given, once")
}

fn known(answers: Vec<PromptAnswer>) -> Result<Vec<inventory::PromptAnswer>> {
    let known = |(answer, at): (PromptAnswer, usize)| {
        let prompt = parsed(&format!("answers.{at}.prompt"), &answer.prompt)?;
        Ok(inventory::PromptAnswer { prompt, answer: answer.answer.0 })
    };
    answers.into_iter().zip(0..).map(known).collect()
}

fn certificate_alone() -> Error {
    Error::invalid_field("certificate", "is only for a private key")
}

fn nothing() -> Error {
    let why = "give a private_key, a password, answers or an agent";
    ["private_key", "password", "answers", "agent"]
        .into_iter()
        .fold(Error::invalid(why), |error, field| error.with_field(field, why))
}
