//! How a resource of the API is shown to people: which fields, under which titles.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::style::Tone;
use super::{escape, time};

/// How resources of one kind are shown.
#[derive(Debug)]
pub(crate) struct View {
    /// What several of them are called.
    pub(crate) plural: &'static str,
    /// The field that names one: `name`, or `id` where there are no names.
    pub(crate) name: &'static str,
    /// The fields, in order.
    pub(crate) columns: &'static [Column],
}

/// One field of a resource.
#[derive(Debug)]
pub(crate) struct Column {
    title: &'static str,
    /// A JSON pointer into the resource.
    field: &'static str,
    kind: Kind,
    shown: Shown,
}

/// Where a field is shown, besides cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// In every list.
    Lists,
    /// In lists with `-o wide`.
    WideLists,
    /// In no list.
    Nowhere,
}

/// How a field is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// As it is; lists joined by commas.
    Text,
    /// A text that may be long: its beginning in a list, the whole on a card.
    Long,
    /// A status, coloured.
    Status,
    /// The last eight digits of an id.
    ShortId,
    /// An instant: how long ago in a list, in full on a card.
    Instant,
    /// Made from the whole resource.
    Made(fn(&Value) -> String),
}

impl Column {
    /// A column that is always shown.
    pub(crate) const fn new(title: &'static str, field: &'static str, kind: Kind) -> Self {
        Self { title, field, kind, shown: Shown::Lists }
    }

    /// The same column, shown on cards and with `-o wide` only.
    pub(crate) const fn wide(mut self) -> Self {
        self.shown = Shown::WideLists;
        self
    }

    /// The same column, shown on cards only.
    pub(crate) const fn on_cards(mut self) -> Self {
        self.shown = Shown::Nowhere;
        self
    }

    pub(super) const fn title(&self) -> &'static str {
        self.title
    }

    pub(super) fn is_listed(&self, wide: bool) -> bool {
        self.shown == Shown::Lists || (wide && self.shown == Shown::WideLists)
    }

    /// The text of this field in a list, and its tone.
    pub(super) fn cell(&self, item: &Value) -> (String, Tone) {
        let (text, tone) = self.write(item, time::age);
        if matches!(self.kind, Kind::Long) { (shortened(text), tone) } else { (text, tone) }
    }

    /// The text of this field on a card, and its tone.
    pub(super) fn entry(&self, item: &Value) -> (String, Tone) {
        self.write(item, time::instant)
    }

    fn write(&self, item: &Value, at: fn(DateTime<Utc>) -> String) -> (String, Tone) {
        let value = item.pointer(self.field).unwrap_or(&Value::Null);
        let text = match self.kind {
            Kind::Made(make) => make(item),
            Kind::ShortId => short(&text_of(value)).to_owned(),
            Kind::Instant => value.as_str().and_then(|text| text.parse().ok()).map_or_else(|| text_of(value), at),
            Kind::Text | Kind::Long | Kind::Status => text_of(value),
        };
        let tone = match self.kind {
            Kind::Status => Tone::of_status(&text),
            _ => Tone::Plain,
        };
        (escape::visible(&text).into_owned(), tone)
    }
}

/// Characters of a long text that a list shows.
const SHOWN: usize = 60;

fn shortened(text: String) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

impl View {
    /// What `-o name` prints for a resource.
    pub(crate) fn name_of(&self, item: &Value) -> String {
        escape::visible(&text_of(item.get(self.name).unwrap_or(&Value::Null))).into_owned()
    }
}

/// The last eight digits of an id.
pub(crate) fn short(id: &str) -> &str {
    id.len().checked_sub(birun_core::id::SHORT_LEN).and_then(|at| id.get(at..)).unwrap_or(id)
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
