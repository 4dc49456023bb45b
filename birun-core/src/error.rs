//! The one error type of birun's public surface.

use std::error::Error as StdError;
use std::fmt;

use crate::text_enum::text_enum;

/// The result of nearly everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

text_enum! {
    /// What went wrong, in a form that programs can rely on.
    ///
    /// The same codes stand in HTTP problems, in step records and in `-o json` output.
    #[non_exhaustive]
    pub enum ErrorCode {
        /// The request could not be read: unknown field, wrong type, broken syntax.
        Malformed = "malformed",
        /// Nobody is signed in, or the credential is not valid (any more).
        Unauthenticated = "unauthenticated",
        /// The caller may see the resource but may not do this to it.
        Forbidden = "forbidden",
        /// The resource does not exist, or not in this project.
        NotFound = "not_found",
        /// The resource is not in the state that the request needs, or the name is taken.
        Conflict = "conflict",
        /// The resource changed since the caller read it.
        StaleVersion = "stale_version",
        /// A body, parameter or value is larger than its limit.
        TooLarge = "too_large",
        /// The body has a media type that this route does not take.
        UnsupportedMedia = "unsupported_media",
        /// Well-formed, but a rule refuses it.
        Invalid = "invalid",
        /// Too many requests, or a quota is used up.
        RateLimited = "rate_limited",
        /// A part that is needed cannot be reached now; trying again may help.
        Unavailable = "unavailable",
        /// A fault in birun itself.
        Internal = "internal",
        /// A target expression matched no server.
        NoTargetMatched = "no_target_matched",
        /// A parameter was given that the script does not declare.
        UnknownParameter = "unknown_parameter",
        /// A required parameter was not given.
        MissingParameter = "missing_parameter",
        /// No executor, job or interpreter is registered under this name.
        NotRegistered = "not_registered",
        /// A host offered another key than the recorded one.
        HostKeyMismatch = "host_key_mismatch",
        /// A host offered a key and none is recorded for it.
        HostKeyUnknown = "host_key_unknown",
        /// A host offered a key that was revoked.
        HostKeyRevoked = "host_key_revoked",
        /// The host refused every credential.
        AuthFailed = "auth_failed",
        /// The host refused a user certificate that is expired, not valid yet, or not for this user.
        CertificateRefused = "certificate_refused",
        /// The ssh-agent cannot be reached, does not answer, or does not sign.
        AgentFailed = "agent_failed",
        /// A private key could not be read, its passphrase is wrong, or its certificate is not for it.
        CredentialUnreadable = "credential_unreadable",
        /// The server that a step was meant for was deleted.
        ServerDeleted = "server_deleted",
        /// The host name could not be resolved.
        ResolveFailed = "resolve_failed",
        /// Nothing accepted the connection in time.
        ConnectTimeout = "connect_timeout",
        /// The connection was refused, or broke before anything was started.
        ConnectFailed = "connect_failed",
        /// The peer stopped answering in the named phase.
        PhaseTimeout = "phase_timeout",
        /// The peer broke the protocol in the named phase.
        ProtocolError = "protocol_error",
        /// The program could not be started.
        SpawnFailed = "spawn_failed",
        /// The link to the target died while the program ran.
        LinkLost = "link_lost",
        /// The disk, or the database's disk, is full.
        StorageFull = "storage_full",
        /// Stored data is damaged.
        StorageCorrupt = "storage_corrupt",
        /// Another process holds what this one needs.
        Locked = "locked",
        /// Another worker holds the execution now.
        LeaseLost = "lease_lost",
        /// The database was written by a newer birun.
        SchemaNewer = "schema_newer",
        /// The database has not been migrated to this birun's schema.
        SchemaOutdated = "schema_outdated",
        /// Sealed values exist, but no master key was given.
        KeyMissing = "key_missing",
        /// The master key is not the one that sealed the stored values.
        KeyMismatch = "key_mismatch",
    }
}

/// One field of a request that a rule refuses.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FieldError {
    /// Where: the field's name, with dots for nesting (`strategy.parallel`).
    pub field: String,
    /// Why, as a lowercase fragment.
    pub message: String,
}

/// Why something was refused or failed: a code for programs, a sentence and a hint for people.
///
/// `Display` prints the message alone, as a lowercase fragment, without hint or source; a printer
/// walks [`std::error::Error::source`] itself.
pub struct Error(Box<Inner>);

struct Inner {
    code: ErrorCode,
    message: String,
    hint: Option<String>,
    fields: Vec<FieldError>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error with a code and a message (a lowercase fragment that names the thing concerned).
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { code, message: message.into(), hint: None, fields: Vec::new(), source: None }))
    }

    /// A rule refuses the request ([`ErrorCode::Invalid`]).
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, message)
    }

    /// A rule refuses one field of the request; the message is `field: why`.
    #[must_use]
    pub fn invalid_field(field: impl Into<String>, why: impl Into<String>) -> Self {
        let (field, why) = (field.into(), why.into());
        Self::invalid(format!("{field}: {why}")).with_field(field, why)
    }

    /// No `kind` answers to `name` in this project.
    #[must_use]
    pub fn not_found(kind: &str, name: impl fmt::Display) -> Self {
        Self::new(ErrorCode::NotFound, format!("no {kind} `{name}`"))
    }

    /// A fault in birun itself.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    /// Adds what the caller can do next, as a sentence or a command.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds one refused field.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>, message: impl Into<String>) -> Self {
        self.0.fields.push(FieldError { field: field.into(), message: message.into() });
        self
    }

    /// Adds the error underneath.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The code, for programs.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    /// What the caller can do next, where we know it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The refused fields, where the error is about fields.
    #[must_use]
    pub fn fields(&self) -> &[FieldError] {
        &self.0.fields
    }

    /// Whether the same request may succeed when it is sent again unchanged.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.code(),
            ErrorCode::Unavailable
                | ErrorCode::RateLimited
                | ErrorCode::Locked
                | ErrorCode::ConnectTimeout
                | ErrorCode::ConnectFailed
                | ErrorCode::PhaseTimeout
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.0.code)
            .field("message", &self.0.message)
            .field("hint", &self.0.hint)
            .field("fields", &self.0.fields)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
