//! What names one delivery to whoever pulled it: the number of the lease, and which running server
//! gave it. Knows nothing of what is behind it.

use std::fmt;
use std::str::FromStr;

/// A delivery that somebody has under a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token {
    /// Of the server that runs: tokens of one that ran before are told apart.
    pub(crate) server: u64,
    pub(crate) number: u64,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.server, self.number)
    }
}

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('-').and_then(|(server, number)| {
            let token = Self {
                server: u64::from_str_radix(server, 16).ok()?,
                number: number.parse().ok()?,
            };
            // Other spellings of the same number are none.
            (token.to_string() == text).then_some(token)
        });
        parsed.ok_or_else(|| {
            let shown: String = text.chars().take(64).collect();
            format!("{shown:?} is no token; send one back as it came with its delivery")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_out_is_read() {
        let token = Token {
            server: 0x0123_4567_89ab_cdef,
            number: 17,
        };
        assert_eq!(token.to_string(), "0123456789abcdef-17");
        assert_eq!("0123456789abcdef-17".parse(), Ok(token));
        for text in [
            "",
            "17",
            "0123456789abcdef-",
            "0123456789abcdef-+17",
            "0123456789abcdef-017",
            "0123456789ABCDEF-17",
            "123456789abcdef-17",
            "+123456789abcdef-17",
            "0123456789abcdef-99999999999999999999",
            "0123456789abcdef-1-7",
        ] {
            let error = text.parse::<Token>().unwrap_err();
            assert!(error.contains("no token"), "{text}: {error}");
        }
    }
}
