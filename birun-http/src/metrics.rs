//! Where the text of `/metrics` comes from.

use std::fmt::{self, Debug};
use std::sync::Arc;

/// Renders the metrics that the embedding program collects, if it collects any.
#[derive(Clone, Default)]
pub(crate) struct MetricsSource(Option<Arc<dyn Fn() -> String + Send + Sync>>);

impl MetricsSource {
    pub(crate) fn new(render: impl Fn() -> String + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(render)))
    }

    /// The metrics now, in the text format of Prometheus.
    pub(crate) fn render(&self) -> Option<String> {
        self.0.as_ref().map(|render| render())
    }
}

impl Debug for MetricsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MetricsSource")
    }
}
