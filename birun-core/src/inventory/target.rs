//! Target expressions: the one language that names where something runs.
//!
//! `local`, a server's name, `tag:prod`, `group:db`, `all`; `!x` excludes; a comma joins, `&`
//! intersects: `tag:prod&tag:web,!web-3`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorCode, Result};
use crate::name::{Name, Tag};

/// Longest expression, in bytes.
const MAX_LEN: usize = 4096;

const HELP: &str = "a target expression looks like  web-1,tag:prod&group:db,!web-3  (or: local, all)";

/// Where something runs, as a person says it. Keeps the text as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetExpr {
    text: String,
    include: Vec<Vec<Factor>>,
    exclude: Vec<Vec<Factor>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Factor {
    negated: bool,
    atom: Atom,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Atom {
    Local,
    All,
    Server(Name),
    Tag(Tag),
    Group(Name),
}

/// What an expression can be matched against: one server, or `local`.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its name.
    pub name: &'a Name,
    /// Its tags.
    pub tags: &'a [Tag],
    /// The names of its groups.
    pub groups: &'a BTreeSet<&'a Name>,
}

/// The name of one target: `local`, or a server's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TargetName {
    /// The machine on which the engine runs.
    Local,
    /// A server.
    Server(Name),
}

impl TargetExpr {
    /// `local` alone.
    #[must_use]
    pub fn local() -> Self {
        let factor = Factor { negated: false, atom: Atom::Local };
        Self { text: "local".to_owned(), include: vec![vec![factor]], exclude: Vec::new() }
    }

    /// The expression as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `local` is meant.
    #[must_use]
    pub fn includes_local(&self) -> bool {
        let matched = |terms: &[Vec<Factor>]| terms.iter().any(|term| term.iter().all(Factor::matches_local));
        matched(&self.include) && !matched(&self.exclude)
    }

    /// Whether this server is meant.
    #[must_use]
    pub fn includes(&self, candidate: Candidate<'_>) -> bool {
        let matched = |terms: &[Vec<Factor>]| terms.iter().any(|term| term.iter().all(|f| f.matches(candidate)));
        matched(&self.include) && !matched(&self.exclude)
    }

    /// The servers that are named one by one: each must exist.
    pub fn named_servers(&self) -> impl Iterator<Item = &Name> {
        self.factors().filter_map(|factor| match &factor.atom {
            Atom::Server(name) => Some(name),
            _ => None,
        })
    }

    /// The groups that are named: each must exist.
    pub fn named_groups(&self) -> impl Iterator<Item = &Name> {
        self.factors().filter_map(|factor| match &factor.atom {
            Atom::Group(name) => Some(name),
            _ => None,
        })
    }

    /// Every server, tag and group that is named, each as an expression of its own.
    pub fn named(&self) -> BTreeSet<String> {
        let named = self.factors().filter_map(|factor| match &factor.atom {
            Atom::Server(name) => Some(name.to_string()),
            Atom::Tag(tag) => Some(format!("tag:{tag}")),
            Atom::Group(name) => Some(format!("group:{name}")),
            Atom::Local | Atom::All => None,
        });
        named.collect()
    }

    fn factors(&self) -> impl Iterator<Item = &Factor> {
        self.include.iter().chain(&self.exclude).flatten()
    }
}

impl Factor {
    fn matches(&self, candidate: Candidate<'_>) -> bool {
        let hit = match &self.atom {
            Atom::Local => false,
            Atom::All => true,
            Atom::Server(name) => candidate.name == name,
            Atom::Tag(tag) => candidate.tags.contains(tag),
            Atom::Group(group) => candidate.groups.contains(group),
        };
        hit != self.negated
    }

    /// `all` means all servers; `local` is meant only where it is written.
    fn matches_local(&self) -> bool {
        !self.negated && self.atom == Atom::Local
    }
}

impl FromStr for TargetExpr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: String| Error::invalid_field("targets", why).with_hint(HELP);
        if text.len() > MAX_LEN {
            return Err(refuse(format!("longer than {MAX_LEN} bytes")));
        }
        let mut expr = Self { text: text.trim().to_owned(), include: Vec::new(), exclude: Vec::new() };
        for part in text.split(',') {
            let factors = part.split('&').map(|factor| parse_factor(factor.trim()));
            let mut term = factors.collect::<Result<Vec<_>, String>>().map_err(refuse)?;
            if let [only] = term.as_mut_slice()
                && only.negated
            {
                only.negated = false;
                expr.exclude.push(term);
            } else if term.iter().all(|factor| factor.negated) {
                return Err(refuse(format!("`{}` only excludes", part.trim().escape_default())));
            } else {
                expr.include.push(term);
            }
        }
        if expr.include.is_empty() {
            return Err(refuse(format!(
                "`{}` only excludes; begin with what to include, for example all",
                text.escape_default()
            )));
        }
        Ok(expr)
    }
}

fn parse_factor(text: &str) -> Result<Factor, String> {
    let (negated, text) = match text.strip_prefix('!') {
        Some(rest) => (true, rest.trim_start()),
        None => (false, text),
    };
    let atom = match (text, text.split_once(':')) {
        ("", _) => return Err("an empty part".to_owned()),
        ("local", _) => Atom::Local,
        ("all", _) => Atom::All,
        (_, Some(("tag", tag))) => Atom::Tag(tag.parse().map_err(|error: Error| error.to_string())?),
        (_, Some(("group", group))) => Atom::Group(group.parse().map_err(|error: Error| error.to_string())?),
        (_, Some((kind, _))) => return Err(format!("`{}:` is neither tag: nor group:", kind.escape_default())),
        (name, None) => Atom::Server(name.parse().map_err(|error: Error| error.to_string())?),
    };
    Ok(Factor { negated, atom })
}

impl fmt::Display for TargetExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.pad("local"),
            Self::Server(name) => name.fmt(f),
        }
    }
}

impl FromStr for TargetName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "local" { Ok(Self::Local) } else { text.parse().map(Self::Server) }
    }
}

/// The expression that names these targets one by one.
///
/// Where that would be longer than an expression may be, the rest is counted. Such a text is none that
/// parses, so that nobody runs on a part of what it stands for.
#[must_use]
pub(crate) fn one_by_one<'a>(targets: impl Iterator<Item = &'a TargetName>) -> String {
    /// Room for the count.
    const REST: usize = 40;
    let names: Vec<String> = targets.map(ToString::to_string).collect();
    let whole = names.join(",");
    if whole.len() <= MAX_LEN {
        return whole;
    }
    let told = whole.get(..MAX_LEN - REST).and_then(|head| head.rsplit_once(',')).map_or("", |(told, _)| told);
    format!("{told} … and {} more", names.len() - told.split(',').count())
}

/// The error for an expression that matches nothing.
#[must_use]
pub(crate) fn nothing_matched(expr: &TargetExpr) -> Error {
    Error::new(ErrorCode::NoTargetMatched, format!("`{expr}` matches no server"))
        .with_field("targets", "matches no server")
        .with_hint("see what there is with  birun server list,  or try an expression with  birun server list --on EXPR")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(expr: &str) -> Vec<&'static str> {
        let expr: TargetExpr = expr.parse().unwrap();
        let fleet = [
            ("web-1", vec!["prod", "web"], vec!["eu"]),
            ("web-2", vec!["prod", "web"], vec!["us"]),
            ("web-3", vec!["prod", "web"], vec![]),
            ("db-1", vec!["prod"], vec!["eu", "db"]),
            ("lab", vec![], vec![]),
        ];
        let mut found = Vec::new();
        if expr.includes_local() {
            found.push("local");
        }
        for (text, tags, groups) in fleet {
            let name: Name = text.parse().unwrap();
            let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
            let groups: Vec<Name> = groups.iter().map(|group| group.parse().unwrap()).collect();
            if expr.includes(Candidate { name: &name, tags: &tags, groups: &groups.iter().collect() }) {
                found.push(text);
            }
        }
        found
    }

    #[test]
    fn expressions_name_what_they_say() {
        for (expr, expected) in [
            ("local", vec!["local"]),
            ("all", vec!["web-1", "web-2", "web-3", "db-1", "lab"]),
            ("web-1", vec!["web-1"]),
            ("web-1, lab", vec!["web-1", "lab"]),
            ("tag:prod,!web-3", vec!["web-1", "web-2", "db-1"]),
            ("tag:prod&tag:web,!web-3", vec!["web-1", "web-2"]),
            ("!web-3,tag:web", vec!["web-1", "web-2"]),
            ("tag:prod&!tag:web", vec!["db-1"]),
            ("group:eu", vec!["web-1", "db-1"]),
            ("group:eu&group:db,lab", vec!["db-1", "lab"]),
            ("all,local", vec!["local", "web-1", "web-2", "web-3", "db-1", "lab"]),
            ("all,local,!local", vec!["web-1", "web-2", "web-3", "db-1", "lab"]),
            ("tag:none", vec![]),
        ] {
            assert_eq!(matches(expr), expected, "{expr}");
        }
    }

    #[test]
    fn what_an_expression_names_is_told_once_each() {
        let expr: TargetExpr = "web-1,tag:prod&!tag:web,!group:db,web-1,local,all".parse().unwrap();
        assert_eq!(expr.named().into_iter().collect::<Vec<_>>(), ["group:db", "tag:prod", "tag:web", "web-1"]);
    }

    #[test]
    fn targets_are_named_one_by_one_as_far_as_an_expression_goes() {
        let named = |count: usize| -> Vec<TargetName> {
            let servers = (0..count).map(|number| format!("web-{number:05}").parse().unwrap());
            std::iter::once(TargetName::Local).chain(servers).collect()
        };
        assert_eq!(one_by_one(named(2).iter()), "local,web-00000,web-00001");
        for (count, parses) in [(1, true), (409, true), (410, false), (10_000, false)] {
            let text = one_by_one(named(count).iter());
            assert!(text.len() <= MAX_LEN, "{count}: {}", text.len());
            assert_eq!(text.parse::<TargetExpr>().is_ok(), parses, "{count}: {text}");
        }
        let text = one_by_one(named(10_000).iter());
        assert!(text.starts_with("local,web-00000,") && text.ends_with(" … and 9595 more"), "{text}");
    }

    #[test]
    fn nonsense_is_refused_with_a_hint() {
        for bad in ["", ",", "web-1,", "!web-1", "!a&!b", "a&", "zone:x", "tag:", "tag:a b", "a b", "-oProxyCommand=x"]
        {
            let error = bad.parse::<TargetExpr>().unwrap_err();
            assert!(error.hint().is_some(), "{bad}");
        }
    }
}
