//! Which crate may know which.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// What only the feature `testing` brings; the tree that is read here has that feature on.
const TESTING: &str = "libtest-mimic";

/// Crate by crate: what its tree of ordinary dependencies, with default features, must not hold.
const FORBIDDEN: [(&str, &[&str]); 4] = [
    (
        "birun-core",
        &[
            "sqlx",
            "sqlx-core",
            "russh",
            "poem",
            "clap",
            "reqwest",
            "birun-store",
            "birun-exec",
            "birun-http",
            "birun-cli",
        ],
    ),
    ("birun-store", &["russh", "poem", "clap", "reqwest", "birun-exec", "birun-http", "birun-cli"]),
    ("birun-exec", &["sqlx", "sqlx-core", "poem", "clap", "birun-store", "birun-http", "birun-cli"]),
    ("birun-http", &["sqlx", "sqlx-core", "russh", "clap", "birun-store", "birun-exec", "birun-cli"]),
];

pub(crate) fn dependencies_point_towards_the_core() {
    let tree = Tree::read();
    for (name, forbidden) in FORBIDDEN {
        let reached = tree.reached_from(name);
        assert!(reached.contains("serde_json"), "{name}: the tree was not read");
        for other in forbidden {
            assert!(!reached.contains(*other), "{name} reaches {other}");
        }
    }
}

struct Tree {
    names: BTreeMap<String, String>,
    edges: BTreeMap<String, Vec<String>>,
}

impl Tree {
    fn read() -> Self {
        let cargo = option_env!("CARGO").unwrap_or("cargo");
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", "host-tuple"])
            .output()
            .expect("cargo metadata runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata answers JSON");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let names = list(&metadata["packages"]).iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
        let ordinary = |dependency: &Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
        let edges = list(&metadata["resolve"]["nodes"]).into_iter().map(|node| {
            let to = list(&node["deps"]).iter().filter(|d| ordinary(d)).map(|d| text(&d["pkg"])).collect();
            (text(&node["id"]), to)
        });
        Self { names, edges: edges.collect() }
    }

    fn reached_from(&self, name: &str) -> BTreeSet<&str> {
        let mut open: Vec<&String> = self.names.iter().filter(|(_, n)| *n == name).map(|(id, _)| id).collect();
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            if self.names.get(id).is_some_and(|name| name != TESTING) && seen.insert(id) {
                open.extend(self.edges.get(id).into_iter().flatten());
            }
        }
        seen.iter().filter_map(|id| self.names.get(*id)).map(String::as_str).filter(|n| *n != name).collect()
    }
}
