//! Names that are similar to one that does not exist.

use serde_json::Value;

use super::{Client, Request};

/// How similar two names must be (Jaro-Winkler, 0 to 1) to be taken for one another.
const SIMILAR: f64 = 0.8;

/// Resources that have names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collection {
    Servers,
    Groups,
    Credentials,
    Scripts,
}

impl Collection {
    /// Its place in the API.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Servers => "servers",
            Self::Groups => "server-groups",
            Self::Credentials => "credentials",
            Self::Scripts => "scripts",
        }
    }
}

impl Client {
    /// The existing name that is most similar to one of these, none of which may exist. Never fails:
    /// a suggestion that cannot be made is none.
    pub(super) async fn similar(&self, names: &[(Collection, String)]) -> Option<String> {
        for (collection, name) in names {
            let existing = self.names(*collection).await;
            if existing.contains(name) {
                continue;
            }
            if let Some(similar) = most_similar(name, existing) {
                return Some(similar);
            }
        }
        None
    }

    async fn names(&self, collection: Collection) -> Vec<String> {
        let list = Box::pin(self.list(Request::get([collection.path()]), None)).await.unwrap_or_default();
        let items = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        items.iter().filter_map(|item| Some(item.get("name")?.as_str()?.to_owned())).collect()
    }
}

fn most_similar(name: &str, existing: Vec<String>) -> Option<String> {
    let scored = existing.into_iter().map(|other| (strsim::jaro_winkler(name, &other), other));
    let best = scored.filter(|(score, _)| *score >= SIMILAR).max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    Some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_similar_name_is_suggested() {
        let existing = || ["web-1", "db-1", "disk-report"].map(str::to_owned).to_vec();
        for (name, expected) in [
            ("wbe-1", Some("web-1")),
            ("disk-reprot", Some("disk-report")),
            ("zzz", None),
            ("diskreport", Some("disk-report")),
        ] {
            assert_eq!(most_similar(name, existing()).as_deref(), expected, "{name}");
        }
    }
}
