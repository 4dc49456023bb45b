use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;

use super::*;

fn set(secrets: &[&str]) -> SecretSet {
    let secrets: Vec<Secret> = secrets.iter().copied().map(Secret::new).collect();
    SecretSet::new(&secrets)
}

/// Pushes a text in chunks of the given sizes, in turn.
fn mask_in_chunks(set: &SecretSet, text: &[u8], sizes: &[usize]) -> Vec<u8> {
    let (mut masker, mut out, mut rest) = (set.masker(), Vec::new(), text);
    for size in sizes.iter().cycle() {
        let (chunk, later) = rest.split_at(rest.len().min(*size));
        out.extend(masker.push(Bytes::copy_from_slice(chunk)));
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    out.extend(masker.finish());
    assert_eq!(masker.held(), 0);
    out
}

fn check(secrets: &[&str], text: &str, expected: &str) {
    let set = set(secrets);
    assert_eq!(set.mask_text(text), expected);
    for size in 1..=text.len().max(1) {
        let masked = mask_in_chunks(&set, text.as_bytes(), &[size]);
        assert_eq!(String::from_utf8_lossy(&masked), expected, "in chunks of {size}");
    }
}

#[test]
fn a_secret_is_masked_wherever_it_stands() {
    check(&["hunter2"], "hunter2", "***");
    check(&["hunter2"], "a hunter2 b\nhunter2\n", "a *** b\n***\n");
    check(&["hunter2"], "hunter hunter22 hunter2", "hunter ***2 ***");
    check(&["hunter2"], "nothing to see", "nothing to see");
    check(&["hunter2"], "", "");
}

#[test]
fn occurrences_that_touch_or_overlap_show_as_one_mask() {
    check(&["abcabc"], "xabcabcabcx", "x***x");
    check(&["abcd"], "abcdabcd abcd", "*** ***");
    check(&["password1234", "1234secret"], "<password1234secret>", "<***>");
}

#[test]
fn secrets_that_contain_each_other_are_masked_to_their_ends() {
    check(&["abcd", "abcdefgh", "cdef"], "abcd abcde abcdefgh abcdefg-", "*** ***e *** ***g-");
}

#[test]
fn a_beginning_of_a_secret_is_shown_when_it_goes_on_otherwise() {
    check(&["hunter2-long"], "hunter2-lo", "hunter2-lo");
    check(&["aaaab"], "aaaaaaaaaab aaaa", "aaaaaa*** aaaa");
}

#[test]
fn a_multi_line_secret_is_masked_whole_and_line_by_line() {
    let key = "-----BEGIN KEY-----\nb3BlbnNzaC1r\nshort\n-----END KEY-----\n";
    check(&[key], &format!("{key}."), "***\n.");
    check(&[key], "b3BlbnNzaC1r\r\n  -----BEGIN KEY-----\r\nshort\n", "***\r\n  ***\r\nshort\n");
}

#[test]
fn encoded_secrets_are_masked() {
    let secret = "pässword/\"1\"?>";
    let mut texts: Vec<(String, String)> = Vec::new();
    for lead in ["", "a", "ab", "abc"] {
        for tail in ["", "x", "xy"] {
            let plain = format!("{lead}{secret}{tail}");
            texts.push((STANDARD.encode(&plain), URL_SAFE.encode(&plain)));
        }
    }
    for text in texts.into_iter().flat_map(|(standard, url_safe)| [standard, url_safe]) {
        let masked = set(&[secret]).mask_text(&text);
        assert!(masked.contains("***") && masked.len() <= 3 + 3 + 6, "{text} is shown as {masked}");
    }
    check(&[secret], "p%C3%A4ssword%2F%221%22%3F%3E", "***");
    check(&[secret], "p%c3%a4ssword%2f%221%22%3f%3e", "***");
    check(&[secret], r#"{"key":"pässword/\"1\"?>"}"#, r#"{"key":"***"}"#);
    check(&[secret], r#"{"key":"p\u00e4ssword\/\"1\"?>"}"#, r#"{"key":"***"}"#);
}

#[test]
fn secrets_of_fewer_than_four_characters_are_named_and_not_masked() {
    let set = set(&["abc", "abcd", "", "äöü", " x "]);
    assert_eq!(set.too_short(), [0, 3, 4]);
    assert_eq!(set.mask_text("abc abcd äöü"), "abc *** äöü");
}

#[test]
fn without_secrets_chunks_pass_as_they_are() {
    let mut masker = set(&[]).masker();
    let chunk = Bytes::from(vec![7; 100]);
    let shown = masker.push(chunk.clone());
    assert_eq!((shown.as_ptr(), shown.len(), masker.held()), (chunk.as_ptr(), 100, 0));
    assert!(masker.finish().is_empty());
}

#[test]
fn a_chunk_without_secrets_is_not_copied() {
    let mut masker = set(&["hunter2"]).masker();
    let chunk = Bytes::from_static(b"no secrets here, but the end may be one: hunt");
    let shown = masker.push(chunk.clone());
    assert_eq!((shown.as_ptr(), shown.len(), masker.held()), (chunk.as_ptr(), chunk.len() - 4, 4));
}

#[test]
fn a_prompt_is_shown_at_once() {
    let mut masker = set(&["hunter2", "word wide"]).masker();
    assert_eq!(masker.push(Bytes::from_static(b"Password: ")), "Password: ");
    assert_eq!(masker.push(Bytes::from_static(b"Pass")), "Pass");
    assert_eq!(masker.push(Bytes::from_static(b"word ")), "");
    assert_eq!(masker.held(), 5);
    assert_eq!(masker.push(Bytes::from_static(b"?")), "word ?");
}

#[test]
fn a_mask_is_shown_at_once_even_if_the_secret_may_go_on() {
    let mut masker = set(&["abcd", "abcdefgh"]).masker();
    assert_eq!(masker.push(Bytes::from_static(b"abcd")), "***");
    assert_eq!(masker.held(), 0);
    assert_eq!(masker.push(Bytes::from_static(b"ef")), "");
    assert_eq!(masker.held(), 2);
    assert_eq!(masker.push(Bytes::from_static(b"gh")), "");
    assert_eq!(masker.held(), 0);
    assert_eq!(masker.push(Bytes::from_static(b"ef")), "ef");
}

#[test]
fn at_most_255_bytes_are_held_back() {
    let secret = "x".repeat(3000);
    let mut masker = set(&[&secret]).masker();
    let mut text = vec![b'x'; 255];
    let mut shown = masker.push(Bytes::from(text.clone())).to_vec();
    assert_eq!((shown.len(), masker.held()), (0, 255));
    text.extend([b'x'; 1000]);
    shown.extend(masker.push(Bytes::from(vec![b'x'; 1000])));
    assert_eq!((shown.as_slice(), masker.held()), (MASK, 0));
}

#[test]
fn debug_shows_no_secret() {
    let set = set(&["hunter2-long"]);
    let mut masker = set.masker();
    assert!(masker.push(Bytes::from_static(b"hunter2")).is_empty());
    let text = format!("{set:?} {masker:?}");
    assert!(!text.contains("hunt"), "{text}");
}

/// The definition, as plainly as it can be written: hide every byte of every occurrence, then show
/// each run of hidden bytes as one mask.
fn mask_plainly(set: &SecretSet, text: &[u8]) -> Vec<u8> {
    let mut hidden = vec![false; text.len()];
    for spelling in set.search.as_ref().map(|search| search.spellings()).unwrap_or_default() {
        for start in 0..text.len() {
            if text[start..].starts_with(spelling) {
                hidden[start..start + spelling.len()].fill(true);
            }
        }
    }
    let mut out = Vec::new();
    for (index, byte) in text.iter().enumerate() {
        match (hidden[index], index > 0 && hidden[index - 1]) {
            (false, _) => out.push(*byte),
            (true, false) => out.extend(MASK),
            (true, true) => {}
        }
    }
    out
}

/// The longest end of a text that could begin a spelling, less what is hidden of it already.
fn held_plainly(set: &SecretSet, text: &[u8]) -> usize {
    let spellings = set.search.as_ref().map(|search| search.spellings()).unwrap_or_default();
    let could_begin =
        |start: usize| spellings.iter().any(|s| s.len() > text.len() - start && s.starts_with(&text[start..]));
    let from = (0..text.len()).find(|start| could_begin(*start)).unwrap_or(text.len());
    let hidden_to = (0..=from)
        .flat_map(|start| spellings.iter().filter(move |s| text[start..].starts_with(s)).map(move |s| start + s.len()))
        .max();
    text.len() - from.max(hidden_to.unwrap_or(0))
}

/// Secrets over two letters overlap and contain each other all the time.
fn secrets() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(prop_oneof!["[ab]{4,9}", "[ab]{8,14}\n[ab]{8,10}", "[ab/\"]{8,12}", "(ab){100,200}"], 0..5)
}

/// Texts made of pieces of the secrets, encoded or not, and of other things.
fn secrets_and_text() -> impl Strategy<Value = (Vec<String>, Vec<u8>)> {
    secrets().prop_flat_map(|secrets| {
        let mut pieces = vec!["-".to_owned()];
        for secret in &secrets {
            let half = secret.len() / 2;
            pieces.extend([secret.clone(), secret[..half].to_owned(), secret[half..].to_owned()]);
            pieces.extend([STANDARD.encode(secret), secret.replace('/', "%2f").replace('"', "%22")]);
        }
        let piece = prop_oneof![4 => prop::sample::select(pieces).prop_map(String::into_bytes),
            2 => "[ab]{0,6}".prop_map(String::into_bytes), 1 => prop::collection::vec(any::<u8>(), 0..5)];
        (Just(secrets), prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_chunking_masks_every_byte_of_every_occurrence(
        (secrets, text) in secrets_and_text(),
        sizes in prop::collection::vec(1_usize..20, 1..6),
    ) {
        let secrets: Vec<Secret> = secrets.into_iter().map(Secret::new).collect();
        let set = SecretSet::new(&secrets);
        let expected = mask_plainly(&set, &text);
        prop_assert_eq!(&mask_in_chunks(&set, &text, &[text.len().max(1)]), &expected);
        prop_assert_eq!(&mask_in_chunks(&set, &text, &[1]), &expected);
        prop_assert_eq!(&mask_in_chunks(&set, &text, &sizes), &expected);
        for secret in secrets.iter().filter(|secret| secret.expose().trim().len() >= SecretSet::MIN_LENGTH) {
            let secret = secret.expose().trim().as_bytes();
            prop_assert!(!expected.windows(secret.len()).any(|window| window == secret));
        }
    }

    #[test]
    fn a_masker_goes_on_wherever_an_earlier_one_broke_off(
        (secrets, text) in secrets_and_text(),
        sizes in prop::collection::vec(1_usize..20, 1..6),
        broke_off in 0_usize..400,
        size in 1_usize..20,
    ) {
        let secrets: Vec<Secret> = secrets.into_iter().map(Secret::new).collect();
        let set = SecretSet::new(&secrets);
        let (mut earlier, mut shown, mut taken) = (set.masker(), Vec::new(), 0);
        for size in sizes.iter().cycle() {
            if taken >= broke_off.min(text.len()) {
                break;
            }
            let chunk = &text[taken..text.len().min(taken + size)];
            shown.extend(earlier.push(Bytes::copy_from_slice(chunk)));
            taken += chunk.len();
        }
        // What was held back is lost with it.
        let end = taken - earlier.held();
        let from = end.saturating_sub(SecretSet::CONTEXT);
        let mut later = set.masker_after(end - from);
        for chunk in text[from..].chunks(size) {
            shown.extend(later.push(Bytes::copy_from_slice(chunk)));
        }
        shown.extend(later.finish());
        prop_assert_eq!(shown, mask_plainly(&set, &text));
        prop_assert_eq!(later.held(), 0);
    }

    #[test]
    fn only_the_longest_end_that_could_begin_a_secret_is_held(
        (secrets, text) in secrets_and_text(),
        size in 1_usize..20,
    ) {
        let secrets: Vec<Secret> = secrets.into_iter().map(Secret::new).collect();
        let set = SecretSet::new(&secrets);
        let (mut masker, mut taken) = (set.masker(), 0);
        for chunk in text.chunks(size) {
            let _shown = masker.push(Bytes::copy_from_slice(chunk));
            taken += chunk.len();
            prop_assert_eq!(masker.held(), held_plainly(&set, &text[..taken]), "after {} bytes", taken);
        }
    }
}
