//! The spellings under which a secret may appear in output.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// One spelling, overwritten when dropped.
pub(super) type Spelling = Zeroizing<Vec<u8>>;

/// Fewest characters of a secret that is masked at all.
pub(super) const MIN_SECRET: usize = 4;
/// Fewest characters of what is looked for in its encoded spellings, and of a line that is a secret by itself.
const MIN_ENCODED: usize = 8;
/// Longest spelling. A longer one is cut into pieces of this length, each of which is hidden by
/// itself, so that no more than this has to be held back to recognise it.
pub(super) const MAX_SPELLING: usize = 256;

/// Every spelling of a secret: as it is, its longer lines, and all of them encoded. White space
/// around it is not part of it. Empty if it is too short.
pub(super) fn spellings(secret: &str) -> Vec<Spelling> {
    parts(secret).flat_map(part_spellings).flat_map(|spelling| pieces(&spelling)).collect()
}

fn parts(secret: &str) -> impl Iterator<Item = &str> {
    let whole = secret.trim();
    let lines = whole.lines().map(str::trim).filter(move |line| *line != whole && has(line, MIN_ENCODED));
    std::iter::once(whole).filter(|whole| has(whole, MIN_SECRET)).chain(lines)
}

/// Whether a text has at least so many characters.
fn has(text: &str, characters: usize) -> bool {
    characters == 0 || text.chars().nth(characters - 1).is_some()
}

fn part_spellings(part: &str) -> Vec<Spelling> {
    let mut all = vec![Zeroizing::new(part.as_bytes().to_vec())];
    if has(part, MIN_ENCODED) {
        all.extend(base64(part.as_bytes()));
        all.extend(url(part));
        all.extend(json(part));
    }
    all
}

fn pieces(spelling: &[u8]) -> Vec<Spelling> {
    let last = spelling.len().saturating_sub(MAX_SPELLING);
    let starts = (0..last).step_by(MAX_SPELLING).chain([last]);
    starts
        .filter_map(|start| spelling.get(start..spelling.len().min(start + MAX_SPELLING)))
        .map(|piece| Zeroizing::new(piece.to_vec()))
        .collect()
}

/// What base64 makes of the bytes wherever they stand in the encoded data: after a multiple of
/// three bytes, or one or two later; in the midst of the data, or at its end.
fn base64(bytes: &[u8]) -> Vec<Spelling> {
    let mut all = Vec::new();
    // Of the characters that the bytes before have a part in, none is looked for.
    for (lead, skip) in [(0, 0), (1, 2), (2, 3)] {
        let data = Zeroizing::new([&vec![0; lead], bytes].concat());
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let text = Zeroizing::new(engine.encode(&data));
            let in_the_midst = text.get(skip..data.len() * 8 / 6);
            let at_the_end = text.get(skip..);
            all.extend([in_the_midst, at_the_end].into_iter().flatten().map(copy));
        }
    }
    all
}

/// What URL encoders make of a text. They agree on letters and digits only.
fn url(text: &str) -> Vec<Spelling> {
    // RFC 3986, the same for paths, JavaScript's encodeURIComponent, HTML forms.
    let kept: [&[u8]; 4] = [b"-._~", b"-._~/", b"-_.!~*'()", b"*-._"];
    let mut all = Vec::new();
    for kept in kept {
        for hex in [b"0123456789ABCDEF", b"0123456789abcdef"] {
            for plus in [false, true] {
                all.push(percent(text, kept, hex, plus));
            }
        }
    }
    all
}

fn percent(text: &str, kept: &[u8], hex: &[u8; 16], plus: bool) -> Spelling {
    let mut out = Zeroizing::new(Vec::with_capacity(3 * text.len()));
    for byte in text.bytes() {
        match byte {
            b' ' if plus => out.push(b'+'),
            _ if byte.is_ascii_alphanumeric() || kept.contains(&byte) => out.push(byte),
            _ => out.extend([b'%', digit(hex, byte >> 4), digit(hex, byte)]),
        }
    }
    out
}

fn digit(hex: &[u8; 16], nibble: u8) -> u8 {
    hex.get(usize::from(nibble & 15)).copied().unwrap_or_default()
}

/// What JSON writers make of a text: plain, safe inside HTML (Go), ASCII only (Python), and that
/// with escaped slashes (PHP).
fn json(text: &str) -> [Spelling; 4] {
    [
        escape(text, |_| false, false),
        escape(text, |c| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}'), false),
        escape(text, |c| !c.is_ascii(), false),
        escape(text, |c| !c.is_ascii(), true),
    ]
}

fn escape(text: &str, by_number: impl Fn(char) -> bool, slash: bool) -> Spelling {
    // Long enough for `\u0000` in place of each byte, so that no copy is left behind in growing.
    let mut out = Zeroizing::new(Vec::with_capacity(6 * text.len()));
    for c in text.chars() {
        match short_escape(c) {
            Some(letter) => out.extend([b'\\', letter]),
            None if c == '/' && slash => out.extend(b"\\/"),
            None if c.is_ascii_control() && c != '\u{7f}' || by_number(c) => escape_by_number(c, &mut out),
            None => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

const fn short_escape(c: char) -> Option<u8> {
    Some(match c {
        '"' => b'"',
        '\\' => b'\\',
        '\u{8}' => b'b',
        '\u{c}' => b'f',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        _ => return None,
    })
}

fn escape_by_number(c: char, out: &mut Vec<u8>) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        out.extend(format!("\\u{unit:04x}").bytes());
    }
}

fn copy(text: &str) -> Spelling {
    Zeroizing::new(text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(secret: &str) -> Vec<String> {
        spellings(secret).iter().map(|spelling| String::from_utf8(spelling.to_vec()).unwrap()).collect()
    }

    fn check(secret: &str, expected: &[&str]) {
        let texts = texts(secret);
        for spelling in expected {
            assert!(texts.iter().any(|text| text == spelling), "{spelling} is not among {texts:#?}");
        }
    }

    #[test]
    fn fewer_than_four_characters_have_no_spelling() {
        for secret in ["", "abc", " abc\n", "äöü", "    "] {
            assert!(spellings(secret).is_empty(), "{secret:?}");
        }
    }

    #[test]
    fn fewer_than_eight_characters_are_only_looked_for_as_they_are() {
        assert_eq!(texts("abcd"), ["abcd"]);
        assert_eq!(texts(" a b&c\" \n"), ["a b&c\""]);
        assert!(texts("abcdefgh").len() > 1);
    }

    #[test]
    fn base64_is_known_in_three_alignments_and_two_alphabets() {
        // Encoded alone, after one byte, and after two.
        check("hunter2>>?~~", &["aHVudGVyMj4+P35+", "aHVudGVyMj4-P35-", "h1bnRlcjI+Pj9+f", "odW50ZXIyPj4/fn"]);
        check("password", &["cGFzc3dvcm", "cGFzc3dvcmQ"]);
    }

    #[test]
    fn url_encoders_are_known_in_upper_and_lower_case_and_with_plus() {
        check(
            "a b/c&d~é",
            &["a%20b%2Fc%26d~%C3%A9", "a%20b/c%26d~%c3%a9", "a+b%2Fc%26d%7E%C3%A9", "a+b%2fc%26d~%c3%a9"],
        );
    }

    #[test]
    fn json_writers_are_known() {
        check("a\"b\\c\n<d>/é🦀", &["a\\\"b\\\\c\\n<d>/é🦀", "a\\\"b\\\\c\\n\\u003cd\\u003e/é🦀"]);
        check("\u{1}abcdef/é🦀", &["\\u0001abcdef/\\u00e9\\ud83e\\udd80", "\\u0001abcdef\\/\\u00e9\\ud83e\\udd80"]);
    }

    #[test]
    fn each_line_of_eight_characters_is_a_secret_of_its_own() {
        let texts = texts("BEGIN KEY\r\n  abcdefgh\nshort\n12345678\n");
        for line in ["BEGIN KEY", "abcdefgh", "12345678", "YWJjZGVmZ2g"] {
            assert!(texts.iter().any(|text| text == line), "{line}");
        }
        assert!(!texts.iter().any(|text| text == "short"));
    }

    #[test]
    fn a_long_secret_is_cut_into_pieces_that_cover_it() {
        let secret: String = (0..1000_usize).map(|n| char::from(b"birun masks"[n * n % 11])).collect();
        let texts = texts(&secret);
        for start in [0, 256, 512, 744] {
            assert!(texts.contains(&secret[start..start + 256].to_owned()), "{start}");
        }
        assert!(texts.iter().all(|text| text.len() <= MAX_SPELLING));
    }
}
