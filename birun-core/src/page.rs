//! Lists, a page at a time: keyset pagination, newest first.

use uuid::Uuid;

use crate::error::{Error, ErrorCode, Result};

/// Most items on one page.
pub const MAX_LIMIT: u32 = 200;
/// Items on a page when the caller does not say.
pub const DEFAULT_LIMIT: u32 = 50;

/// Which page of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    limit: u32,
    /// Only items after this one, in the list's order.
    pub after: Option<Cursor>,
}

impl PageRequest {
    /// A page of `limit` items (1 to [`MAX_LIMIT`]) after `after`, or from the beginning.
    ///
    /// # Errors
    /// [`ErrorCode::Invalid`] for a limit out of range.
    pub fn new(limit: u32, after: Option<Cursor>) -> Result<Self> {
        if (1..=MAX_LIMIT).contains(&limit) {
            return Ok(Self { limit, after });
        }
        Err(Error::invalid_field("limit", format!("must be between 1 and {MAX_LIMIT}")))
    }

    /// Number of items asked for.
    #[must_use]
    pub const fn limit(self) -> u32 {
        self.limit
    }
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { limit: DEFAULT_LIMIT, after: None }
    }
}

/// A place in a list: the id of the last item seen. Ids rise with creation time, so an id is the
/// whole sort key of every list that is ordered newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub Uuid);

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.simple())
    }
}

impl std::str::FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Uuid::try_parse(text).map(Self).map_err(|_| {
            Error::new(ErrorCode::Malformed, "cursor: not a cursor that a list answered")
                .with_field("cursor", "not a cursor that a list answered")
        })
    }
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// The items, in the list's order.
    pub items: Vec<T>,
    /// Where the next page begins; `None` when this was the last.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// Makes a page out of up to `limit + 1` rows: one row too many means that there is a next page.
    #[must_use]
    pub fn from_rows(mut rows: Vec<T>, request: PageRequest, id: impl Fn(&T) -> Uuid) -> Self {
        let limit = request.limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(|row| Cursor(id(row))) } else { None };
        Self { items: rows, next }
    }

    /// The same page with every item converted.
    #[must_use]
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(convert).collect(), next: self.next }
    }
}
