//! The hash chain over the audit log: pure rules.
//!
//! Entries are committed with their actions and covered by the chain within a second. Each link is
//! an HMAC-SHA256 (RFC 2104) over its number, the link before it and every field of its entry,
//! under a key that is sealed by the master key. Whoever can write the database and has not that key
//! can neither make a link nor sign a head, so that an entry that is changed, left out, put
//! elsewhere or cut off at the end shows.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::audit::AuditEntry;
use crate::id::AuditId;

/// The MAC of one entry and all before it.
pub type Seal = [u8; 32];

/// The key of the chain. Overwritten when dropped.
pub(crate) struct ChainKey(Zeroizing<[u8; 32]>);

/// One link: which entry has which number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainLink {
    /// The entry.
    pub entry: AuditId,
    /// Its number: 1, 2, 3 …
    pub number: u64,
    /// The seal over it and everything before it.
    pub seal: Seal,
}

/// An entry that the chain covers.
#[derive(Clone, Debug, PartialEq)]
pub struct SealedEntry {
    /// The entry.
    pub entry: AuditEntry,
    /// Its number.
    pub number: u64,
    /// Its seal, as it is stored.
    pub seal: Vec<u8>,
}

/// Where the chain begins and ends. Signed, so that its ends cannot be cut off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    /// The number before the first entry that is kept: retention deletes from the beginning.
    pub begins_after: u64,
    /// The seal of that number.
    pub begins_with: Seal,
    /// The number of the last sealed entry.
    pub number: u64,
    /// Its seal.
    pub seal: Seal,
    signature: Seal,
}

/// What is wrong with the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainFault {
    /// The number of the first link that is not right.
    pub number: u64,
    /// The entry there, if there is one.
    pub entry: Option<AuditId>,
    /// What is wrong, in words.
    pub what: &'static str,
}

impl ChainKey {
    pub(crate) const fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    fn mac(&self, purpose: &str) -> Hmac<Sha256> {
        // A MAC takes a key of any length; the branch is never taken.
        let mut mac = Hmac::new_from_slice(&self.0[..]).unwrap_or_else(|_| Hmac::new(&Default::default()));
        part(&mut mac, purpose.as_bytes());
        mac
    }

    /// The seal of an entry as number `number`, after the link with the seal `before`.
    fn seal(&self, number: u64, before: &Seal, entry: &AuditEntry) -> Seal {
        let mut mac = self.mac("birun audit link");
        part(&mut mac, &number.to_be_bytes());
        part(&mut mac, before);
        fields(&mut mac, entry);
        mac.finalize().into_bytes().into()
    }

    fn sign(&self, head: &ChainHead) -> Seal {
        let mut mac = self.mac("birun audit head");
        for number in [head.begins_after, head.number] {
            part(&mut mac, &number.to_be_bytes());
        }
        part(&mut mac, &head.begins_with);
        part(&mut mac, &head.seal);
        mac.finalize().into_bytes().into()
    }

    fn signed(&self, head: ChainHead) -> ChainHead {
        ChainHead { signature: self.sign(&head), ..head }
    }

    /// The head of a chain without links.
    pub(crate) fn genesis(&self) -> ChainHead {
        self.signed(ChainHead {
            begins_after: 0,
            begins_with: Seal::default(),
            number: 0,
            seal: Seal::default(),
            signature: Seal::default(),
        })
    }

    /// Adds entries to the chain: their links, and the new head.
    pub(crate) fn extend(&self, head: &ChainHead, entries: &[AuditEntry]) -> (Vec<ChainLink>, ChainHead) {
        let mut last = (head.number, head.seal);
        let links: Vec<ChainLink> = entries
            .iter()
            .map(|entry| {
                let number = last.0 + 1;
                last = (number, self.seal(number, &last.1, entry));
                ChainLink { entry: entry.id, number, seal: last.1 }
            })
            .collect();
        let (number, seal) = last;
        (links, self.signed(ChainHead { number, seal, ..head.clone() }))
    }

    /// The head after everything up to this link was deleted.
    pub(crate) fn begin_after(&self, head: &ChainHead, number: u64, seal: Seal) -> ChainHead {
        self.signed(ChainHead { begins_after: number, begins_with: seal, ..head.clone() })
    }

    /// Begins to check the chain that ends at this head.
    pub(crate) fn check<'a>(&'a self, head: &'a ChainHead) -> Result<Checker<'a>, ChainFault> {
        if self.sign(head) != head.signature {
            let what = "the head of the chain was changed";
            return Err(ChainFault { number: head.number, entry: None, what });
        }
        Ok(Checker { key: self, head, last: (head.begins_after, head.begins_with) })
    }
}

impl std::fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChainKey(***)")
    }
}

/// Checks links in their order.
pub(crate) struct Checker<'a> {
    key: &'a ChainKey,
    head: &'a ChainHead,
    last: (u64, Seal),
}

impl Checker<'_> {
    /// The number that was checked last.
    pub(crate) const fn number(&self) -> u64 {
        self.last.0
    }

    /// The seal that was checked last.
    pub(crate) const fn seal(&self) -> Seal {
        self.last.1
    }

    /// Checks the next link.
    pub(crate) fn next(&mut self, link: &SealedEntry) -> Result<(), ChainFault> {
        let expected = self.last.0 + 1;
        let entry = Some(link.entry.id);
        if link.number != expected {
            return Err(ChainFault { number: expected, entry: None, what: "the entry is missing" });
        }
        let seal = self.key.seal(expected, &self.last.1, &link.entry);
        if seal[..] != link.seal[..] {
            let what = "the entry was changed, or stands in another's place";
            return Err(ChainFault { number: expected, entry, what });
        }
        self.last = (expected, seal);
        Ok(())
    }

    /// Checks that the last link was the head's.
    pub(crate) fn end(&self) -> Result<(), ChainFault> {
        if self.last == (self.head.number, self.head.seal) {
            return Ok(());
        }
        Err(ChainFault { number: self.last.0 + 1, entry: None, what: "the entry is missing" })
    }
}

/// Adds a field with its length before it, so that no two entries read alike.
fn part(mac: &mut Hmac<Sha256>, bytes: &[u8]) {
    mac.update(&(bytes.len() as u64).to_be_bytes());
    mac.update(bytes);
}

fn optional(mac: &mut Hmac<Sha256>, bytes: Option<&[u8]>) {
    part(mac, &[u8::from(bytes.is_some())]);
    part(mac, bytes.unwrap_or_default());
}

fn fields(mac: &mut Hmac<Sha256>, entry: &AuditEntry) {
    let AuditEntry {
        id,
        at,
        project,
        actor,
        action,
        outcome,
        resource_kind,
        resource_id,
        resource_name,
        before,
        after,
        request_id,
    } = entry;
    part(mac, id.as_uuid().as_bytes());
    part(mac, &at.timestamp_micros().to_be_bytes());
    part(mac, project.as_uuid().as_bytes());
    for text in [actor.kind.as_str(), &actor.name, action, outcome.as_str(), resource_kind] {
        part(mac, text.as_bytes());
    }
    optional(mac, resource_id.as_ref().map(|id| &id.as_bytes()[..]));
    optional(mac, resource_name.as_deref().map(str::as_bytes));
    for value in [before, after] {
        optional(mac, value.as_ref().map(canonical).as_deref().map(str::as_bytes));
    }
    optional(mac, request_id.as_deref().map(str::as_bytes));
}

/// A value as a text. Equal values are equal texts: the names in an object are sorted here, since in which
/// order a map keeps them hangs on how the JSON library was built.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => object(members),
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        plain => plain.to_string(),
    }
}

/// An object with its members, which come in any order, as a text.
fn object<'a>(members: impl IntoIterator<Item = (&'a String, &'a Value)>) -> String {
    let sorted: BTreeMap<&String, &Value> = members.into_iter().collect();
    let member = |(name, value): (&String, &Value)| format!("{}:{}", Value::from(name.as_str()), canonical(value));
    format!("{{{}}}", sorted.into_iter().map(member).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, Utc};
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::audit::AuditOutcome;
    use crate::id::ProjectId;
    use crate::identity::{Actor, ActorKind};

    fn key(byte: u8) -> ChainKey {
        ChainKey::new(Zeroizing::new([byte; 32]))
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn entry(name: &str) -> AuditEntry {
        AuditEntry {
            id: AuditId::new(),
            at: Utc::now(),
            project: ProjectId::DEFAULT,
            actor: Actor { kind: ActorKind::User, name: "ana".to_owned() },
            action: "server.update".to_owned(),
            outcome: AuditOutcome::Done,
            resource_kind: "server".to_owned(),
            resource_id: Some(Uuid::from_u128(7)),
            resource_name: Some(name.to_owned()),
            before: Some(json!({"port": 22})),
            after: Some(json!({"port": 2222})),
            request_id: Some("r".to_owned()),
        }
    }

    fn chain(key: &ChainKey, count: usize) -> (Vec<SealedEntry>, ChainHead) {
        let entries: Vec<AuditEntry> = (0..count).map(|n| entry(&format!("web-{n}"))).collect();
        let (links, head) = key.extend(&key.genesis(), &entries);
        let sealed = |(entry, link): (AuditEntry, ChainLink)| SealedEntry {
            entry,
            number: link.number,
            seal: link.seal.to_vec(),
        };
        (entries.into_iter().zip(links).map(sealed).collect(), head)
    }

    fn check(key: &ChainKey, log: &[SealedEntry], head: &ChainHead) -> Result<(), ChainFault> {
        let mut checker = key.check(head)?;
        log.iter().try_for_each(|link| checker.next(link))?;
        checker.end()
    }

    #[test]
    fn a_chain_that_nobody_touched_is_right() {
        let key = key(1);
        let (log, head) = chain(&key, 5);
        assert_eq!(check(&key, &log, &head), Ok(()));
        assert_eq!(check(&key, &[], &key.genesis()), Ok(()));
        let cut = key.begin_after(&head, 2, log[1].seal.as_slice().try_into().unwrap());
        assert_eq!(check(&key, &log[2..], &cut), Ok(()));
    }

    #[test]
    fn a_change_of_any_field_shows() {
        let key = key(1);
        let (log, head) = chain(&key, 3);
        let changes: [fn(&mut AuditEntry); 15] = [
            |entry| entry.id = AuditId::new(),
            |entry| entry.at += TimeDelta::microseconds(1),
            |entry| entry.project = ProjectId::new(),
            |entry| entry.actor.kind = ActorKind::System,
            |entry| entry.actor.name.push('a'),
            |entry| entry.action = "server.create".to_owned(),
            |entry| entry.outcome = AuditOutcome::Refused,
            |entry| entry.resource_kind.push('s'),
            |entry| entry.resource_id = None,
            |entry| entry.resource_name = Some(String::new()),
            |entry| entry.before = None,
            |entry| entry.before = Some(json!({"port": 23})),
            |entry| entry.after = Some(json!(null)),
            |entry| entry.request_id = None,
            |entry| std::mem::swap(&mut entry.before, &mut entry.after),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut log = log.clone();
            change(&mut log[1].entry);
            assert_eq!(check(&key, &log, &head).unwrap_err().number, 2, "change {index}");
        }
    }

    #[test]
    fn what_is_left_out_cut_off_or_put_elsewhere_shows() {
        let key = key(1);
        let (log, head) = chain(&key, 4);
        let without = |index: usize| {
            let mut log = log.clone();
            log.remove(index);
            check(&key, &log, &head).unwrap_err()
        };
        for index in 0..4 {
            assert_eq!((without(index).number, without(index).entry), (index as u64 + 1, None));
        }
        let mut swapped = log.clone();
        let (first, rest) = swapped.split_at_mut(1);
        std::mem::swap(&mut first[0].entry, &mut rest[0].entry);
        assert_eq!(check(&key, &swapped, &head).unwrap_err().number, 1);
        let mut shorter = head.clone();
        (shorter.number, shorter.seal) = (3, log[2].seal.as_slice().try_into().unwrap());
        assert_eq!(check(&key, &log[..3], &shorter).unwrap_err().what, "the head of the chain was changed");
        assert!(check(&key, &log, &key.extend(&key.genesis(), &[]).1).is_err());
    }

    #[test]
    fn the_order_of_names_makes_no_difference() {
        let (name, tags) = ("b\"\u{e9}\n".to_owned(), "a".to_owned());
        let (text, list) = (json!("x\"\u{1}"), json!([{"z": 1, "y": [1.5, -2, true, null]}, "€"]));
        let sorted = "{\"a\":[{\"y\":[1.5,-2,true,null],\"z\":1},\"€\"],\"b\\\"é\\n\":\"x\\\"\\u0001\"}";
        assert_eq!(object([(&name, &text), (&tags, &list)]), sorted);
        assert_eq!(object([(&tags, &list), (&name, &text)]), sorted);
        let same: Value = serde_json::from_str(sorted).unwrap();
        assert_eq!(canonical(&same), sorted);
        assert_eq!(canonical(&json!({})), "{}");
    }

    /// Logs that were sealed before this text was made here must still be right.
    #[test]
    fn the_text_is_the_compact_one_that_earlier_seals_cover() {
        let value = json!({"port": 22, "tags": ["a", "b"], "nested": {"x": null, "f": 0.1}, "s": "/\u{7f}"});
        assert_eq!(canonical(&value), value.to_string());
    }

    #[test]
    fn another_key_makes_no_links() {
        let (log, head) = chain(&key(1), 2);
        assert!(check(&key(2), &log, &head).is_err());
        let (forged, _) = chain(&key(2), 2);
        assert!(check(&key(1), &forged, &head).is_err());
    }
}
