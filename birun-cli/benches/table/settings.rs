//! What the environment says about a run of the bench.

/// How to measure, and on what.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Full length and size.
    pub(crate) full: bool,
    /// The database whose schema `birun_bench` is made and dropped.
    pub(crate) postgres: String,
    /// Who signs in over SSH.
    pub(crate) ssh_user: Option<String>,
}

impl Settings {
    pub(crate) fn read() -> Self {
        Self {
            full: variable("BIRUN_BENCH_FULL").is_some_and(|value| value == "1"),
            postgres: variable("BIRUN_BENCH_POSTGRES_URL")
                .unwrap_or_else(|| "postgres://postgres@127.0.0.1:5432/postgres".to_owned()),
            ssh_user: variable("BIRUN_BENCH_SSH_USER"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "how the bench is told what to measure on")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
