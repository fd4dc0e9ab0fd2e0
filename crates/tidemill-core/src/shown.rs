//! Texts of strangers that people are shown. Pure; it may not know where.

/// Whether a character would command what shows it, or change what is read there, instead of being
/// shown: control characters, line and paragraph separators, and the marks that turn the direction
/// of writing (Unicode's `Bidi_Control`). A tab, too.
#[must_use]
pub fn commands(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

/// The text with those of its characters escaped that would [command](commands) what shows it:
/// `\n` and the like, others as `\u{1b}`.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match commands(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_the_direction_of_writing_is_not_shown_and_letters_are() {
        for c in [
            '\u{1b}', '\r', '\u{9b}', '\u{202e}', '\u{2067}', '\u{200f}', '\u{2028}',
        ] {
            assert!(commands(c), "{c:?}");
        }
        assert_eq!(escaped("a\tb\u{9b}ü\n"), "a\\tb\\u{9b}ü\\n");
        for c in ['a', ' ', 'ü', 'א', '中', '\u{200d}', '🦀'] {
            assert!(!commands(c), "{c:?}");
        }
    }
}
