//! Patterns with `*` and `?`, as OpenSSH writes them.

/// Whether a pattern fits the whole text: `*` stands for any characters, `?` for one. Case does not matter.
///
/// Takes time in proportion to the product of the lengths at worst, and no memory worth mentioning.
#[must_use]
pub fn fits(pattern: &str, text: &str) -> bool {
    let chars = |text: &str| text.chars().map(|c| c.to_ascii_lowercase()).collect::<Vec<_>>();
    let (pattern, text) = (chars(pattern), chars(text));
    let (mut at, mut seen) = (0, 0);
    // Where the last star stands, and how much of the text it covers so far.
    let mut star = None;
    while let Some(next) = text.get(seen) {
        match (pattern.get(at), star) {
            (Some('*'), _) => {
                star = Some((at, seen));
                at += 1;
            }
            (Some(c), _) if *c == '?' || c == next => {
                at += 1;
                seen += 1;
            }
            (_, Some((begin, covered))) => {
                star = Some((begin, covered + 1));
                at = begin + 1;
                seen = covered + 1;
            }
            (_, None) => return false,
        }
    }
    pattern.iter().skip(at).all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_stand_for_characters() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("web-?", "web-1", true),
            ("web-?", "web-", false),
            ("web-?", "web-12", false),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*password*", "ana's Password: ", true),
            ("**a**", "bab", true),
            ("ä?", "äö", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!fits(&"*a".repeat(100), &"b".repeat(1000)));
    }
}
