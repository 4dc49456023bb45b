//! Who calls: found out once for each request, before anything else is looked at.

use std::fmt::{self, Debug};

use async_trait::async_trait;
use birun_core::identity::Principal;
use birun_core::vault::Secret;
use birun_core::{Error, ErrorCode, Gate, Result};
use poem::http::header;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use sha2::{Digest, Sha256};

use crate::problem::refusal;

const SCHEME: &str = "bearer";

/// Finds out who makes a request.
///
/// It is asked for every request that does not come [in process](crate::InProcess). Where no
/// `Authenticate` is given to [`mount`](crate::mount), nobody is anybody: every route that is not
/// public answers 401.
#[async_trait]
pub trait Authenticate: Debug + Send + Sync + 'static {
    /// Who calls; `None` if nobody is signed in, or the credential is not valid.
    ///
    /// # Errors
    /// When it cannot be found out now: the request is answered with that error, unless the route is public.
    async fn authenticate(&self, request: &Request) -> Result<Option<Principal>>;
}

/// One token that makes its bearer one principal. Kept as a hash, compared in constant time.
#[derive(Clone)]
pub struct BearerToken {
    digest: [u8; 32],
    principal: Principal,
}

impl BearerToken {
    /// Whoever sends `Authorization: Bearer <token>` is this principal.
    #[must_use]
    pub fn new(token: &Secret, principal: Principal) -> Self {
        Self { digest: digest(token.expose()), principal }
    }
}

impl Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerToken").field("principal", &self.principal).finish_non_exhaustive()
    }
}

#[async_trait]
impl Authenticate for BearerToken {
    async fn authenticate(&self, request: &Request) -> Result<Option<Principal>> {
        let sent = bearer(request).map(digest);
        Ok(sent.is_some_and(|sent| same(&sent, &self.digest)).then(|| self.principal.clone()))
    }
}

/// An [`Authenticate`] made of a closure: how an embedding program brings its own sign-in.
///
/// ```
/// use birun_core::identity::Principal;
/// let auth = birun_http::authenticate_with(|request| {
///     // A middleware of the embedding program has put its own user here.
///     Ok(request.data::<String>().map(|user| Principal::local(user)))
/// });
/// ```
pub fn authenticate_with<F>(closure: F) -> impl Authenticate
where
    F: Fn(&Request) -> Result<Option<Principal>> + Send + Sync + 'static,
{
    Closure(closure)
}

struct Closure<F>(F);

impl<F> Debug for Closure<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closure")
    }
}

#[async_trait]
impl<F> Authenticate for Closure<F>
where
    F: Fn(&Request) -> Result<Option<Principal>> + Send + Sync + 'static,
{
    async fn authenticate(&self, request: &Request) -> Result<Option<Principal>> {
        (self.0)(request)
    }
}

/// The principal of a request that did not come over a network. Only this crate can make one, and
/// no header becomes one.
#[derive(Clone)]
pub(crate) struct InProcessPrincipal(pub(crate) Principal);

/// The authenticated caller of an operation. An operation that takes it cannot be reached without one.
pub(crate) struct Caller(pub(crate) Gate);

impl<'a> ApiExtractor<'a> for Caller {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        let scheme = MetaSecurityScheme {
            ty: "http",
            description: Some(
                "`Authorization: Bearer TOKEN`. `birun serve` writes its token to `serve.json` in the data directory.",
            ),
            name: None,
            key_in: None,
            scheme: Some(SCHEME),
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        };
        registry.create_security_scheme(SCHEME, scheme);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        match request.data::<Gate>() {
            Some(gate) => Ok(Self(gate.clone())),
            None => Err(refusal(nobody())),
        }
    }
}

/// The error for a request that comes from nobody.
pub(crate) fn nobody() -> Error {
    Error::new(ErrorCode::Unauthenticated, "nobody is signed in, or the token is not valid")
        .with_hint("send the token as  Authorization: Bearer TOKEN")
}

fn bearer(request: &Request) -> Option<&str> {
    let (scheme, token) = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim())
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Whether two digests are the same, in a time that does not depend on where they differ.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn who(header: Option<&str>) -> Option<Principal> {
        let auth = BearerToken::new(&Secret::new("right"), Principal::local("ana"));
        let mut request = Request::builder();
        if let Some(header) = header {
            request = request.header("Authorization", header);
        }
        auth.authenticate(&request.finish()).await.unwrap()
    }

    #[tokio::test]
    async fn only_the_right_token_is_somebody() {
        assert_eq!(who(Some("Bearer right")).await, Some(Principal::local("ana")));
        assert_eq!(who(Some("bearer right")).await, Some(Principal::local("ana")));
        for wrong in ["Bearer wrong", "Bearer ", "Bearer", "right", "Basic right", "Bearer right x", ""] {
            assert_eq!(who(Some(wrong)).await, None, "{wrong}");
        }
        assert_eq!(who(None).await, None);
    }

    #[test]
    fn a_token_is_not_printed() {
        let auth = BearerToken::new(&Secret::new("hunter2"), Principal::local("ana"));
        assert!(!format!("{auth:?}").contains("hunter2"));
    }
}
