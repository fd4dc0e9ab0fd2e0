//! Patterns over topic names and event types: `*` stands for any run of characters without a
//! dot, `**` for any run at all.
//!
//! Matching takes time in proportion to the two lengths multiplied, whatever the pattern, so a
//! pattern from outside cannot stall its host.

use std::fmt;

use thiserror::Error;

use crate::limits::PATTERN_MAX_BYTES;

/// Why a text is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidPattern {
    /// Nothing at all.
    #[error("a pattern may not be empty")]
    Empty,
    /// Longer than [`PATTERN_MAX_BYTES`].
    #[error("a pattern has at most {PATTERN_MAX_BYTES} bytes")]
    TooLong,
    /// Three or more stars in a row mean nothing.
    #[error("a pattern has '*' or '**', not more stars in a row")]
    TooManyStars,
}

/// A checked pattern. A text without stars matches exactly itself.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: String,
    tokens: Vec<Token>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Token {
    Char(char),
    /// `*`
    Run,
    /// `**`
    AnyRun,
}

impl Pattern {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`InvalidPattern`] says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, InvalidPattern> {
        if text.is_empty() {
            return Err(InvalidPattern::Empty);
        }
        if text.len() > PATTERN_MAX_BYTES {
            return Err(InvalidPattern::TooLong);
        }
        if text.contains("***") {
            return Err(InvalidPattern::TooManyStars);
        }
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' if chars.next_if_eq(&'*').is_some() => Token::AnyRun,
                '*' => Token::Run,
                c => Token::Char(c),
            });
        }
        Ok(Self {
            text: text.to_owned(),
            tokens,
        })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has no star, and so matches one text only.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.text.contains('*')
    }

    /// What stands before the first star; of two patterns the one with the longer prefix is the
    /// more special one.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        self.text.split('*').next().unwrap_or("")
    }

    /// Whether the whole of `text` fits.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        if self.is_literal() {
            return self.text == text;
        }
        if !text.starts_with(self.literal_prefix()) {
            return false;
        }
        // reached[i]: the text so far fits the first i tokens.
        let mut reached = vec![false; self.tokens.len() + 1];
        if let Some(first) = reached.first_mut() {
            *first = true;
        }
        self.skip_empty_runs(&mut reached);
        for c in text.chars() {
            let mut next = vec![false; reached.len()];
            for (i, token) in self.tokens.iter().enumerate() {
                let (here, ahead) = (reached.get(i), reached.get(i + 1));
                let fits = match token {
                    Token::Char(wanted) => *wanted == c && here == Some(&true),
                    Token::Run => c != '.' && ahead == Some(&true),
                    Token::AnyRun => ahead == Some(&true),
                };
                if let Some(slot) = next.get_mut(i + 1) {
                    *slot = fits;
                }
            }
            self.skip_empty_runs(&mut next);
            reached = next;
        }
        reached.last() == Some(&true)
    }

    /// A run may be empty: where the tokens before it fit, it fits too.
    fn skip_empty_runs(&self, reached: &mut [bool]) {
        for (i, token) in self.tokens.iter().enumerate() {
            if *token == Token::Run || *token == Token::AnyRun {
                let before = reached.get(i) == Some(&true);
                if let Some(slot) = reached.get_mut(i + 1) {
                    *slot |= before;
                }
            }
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_runs_and_only_two_cross_dots() {
        let cases = [
            ("orders", "orders", true),
            ("orders", "orders2", false),
            ("*", "", true),
            ("*", "orders", true),
            ("*", "orders.eu", false),
            ("**", "orders.eu.north", true),
            ("order_*", "order_paid", true),
            ("order_*", "order_", true),
            ("order_*", "order_paid.v2", false),
            ("order_**", "order_paid.v2", true),
            ("*.eu", "orders.eu", true),
            ("*.eu", "a.b.eu", false),
            ("**.eu", "a.b.eu", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1b2.b3c", false),
            ("a**b*c", "a1.2b3.b4c", true),
            ("a**b*c", "a1.2b3.b4.c", false),
            ("*.*", "a.b", true),
            ("*.*", "ab", false),
            ("ä*", "äß", true),
        ];
        for (pattern, text, fits) in cases {
            let found = Pattern::new(pattern).unwrap().matches(text);
            assert_eq!(found, fits, "{pattern} against {text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Pattern::new(""), Err(InvalidPattern::Empty));
        assert_eq!(Pattern::new("a***"), Err(InvalidPattern::TooManyStars));
        let long = "x".repeat(PATTERN_MAX_BYTES + 1);
        assert_eq!(Pattern::new(&long), Err(InvalidPattern::TooLong));
    }
}
