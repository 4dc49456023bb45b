//! Cursors on the wire: a place in one list, and a check that it is that list's and undamaged.

use birun_core::page::Cursor;
use birun_core::{Error, ErrorCode, Result};
use sha2::{Digest, Sha256};

/// Hex digits of the place, which the check follows.
const PLACE: usize = 32;

/// What a list answers as `next`.
pub(crate) fn written(list: &str, cursor: Cursor) -> String {
    format!("{cursor}{}", check(list, cursor))
}

/// The place that a list answered as `next`.
///
/// # Errors
/// `malformed` if this list did not answer it.
pub(crate) fn read(list: &str, text: &str) -> Result<Cursor> {
    let place = text.get(..PLACE).and_then(|place| place.parse().ok());
    place.filter(|place| written(list, *place) == text).ok_or_else(|| {
        let why = "not a cursor that this list answered";
        Error::new(ErrorCode::Malformed, format!("cursor: {why}")).with_field("cursor", why)
    })
}

/// Eight hex digits that depend on the list and the place. They keep mistakes out; nothing is secret here.
fn check(list: &str, cursor: Cursor) -> String {
    let [a, b, c, d, ..]: [u8; 32] = Sha256::new().chain_update(list).chain_update(cursor.0).finalize().into();
    format!("{:08x}", u32::from_be_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_cursor_is_read_by_its_own_list_only() {
        let cursor = Cursor(Uuid::from_u128(7));
        let text = written("servers", cursor);
        assert_eq!(read("servers", &text).unwrap(), cursor);
        let upper = text.to_uppercase().replace('0', "A");
        for bad in ["", "x", &text[1..], &text[..PLACE], &upper, &format!("{text}0"), &"\u{e9}".repeat(20)] {
            assert_eq!(read("servers", bad).unwrap_err().code(), ErrorCode::Malformed, "{bad}");
        }
        assert!(read("scripts", &text).is_err());
    }
}
