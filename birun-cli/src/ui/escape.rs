//! Text of others, made harmless for a terminal.

use std::borrow::Cow;

/// The text with everything escaped that a terminal would act on instead of showing it.
///
/// Line feeds and tabs stay; carriage returns, escape sequences (`\u{1b}…`), other control
/// characters and those that turn the direction of writing become visible.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_active) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_active(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn is_active(c: char) -> bool {
    let control = c.is_control() && !matches!(c, '\n' | '\t');
    control || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_shown() {
        for (text, shown) in [
            ("plain ✔ ü\tx\n", "plain ✔ ü\tx\n"),
            ("\x1b[2J", "\\u{1b}[2J"),
            ("\x1b]52;c;cm0=\x07", "\\u{1b}]52;c;cm0=\\u{7}"),
            ("a\rb", "a\\rb"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("abc\u{202e}cba", "abc\\u{202e}cba"),
            ("\x7f", "\\u{7f}"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }
}
