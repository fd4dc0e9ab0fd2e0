//! Money in whole pence: integers inside, decimal text outside, never a float. May not know what
//! is bought with it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An amount of money in pence, the minor unit of a pound. May be negative.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct Pence(pub i64);

/// Why a text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotMoney {
    /// Not a decimal number.
    #[error("not a decimal number")]
    Malformed,
    /// A fraction of a penny.
    #[error("finer than a penny")]
    TooFine,
    /// Does not fit.
    #[error("too large")]
    TooLarge,
}

impl Pence {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Reads pounds as decimal text: `2.55`, `27.5`, `-3`, `1.250`.
    ///
    /// # Errors
    /// [`NotMoney`] for anything else than digits with at most one point and a leading minus,
    /// for a fraction of a penny, and for what does not fit an `i64`.
    pub fn parse_pounds(text: &str) -> Result<Self, NotMoney> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let numeric = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        if !numeric(whole) || !numeric(fraction) {
            return Err(NotMoney::Malformed);
        }
        let (pence, finer) = fraction.split_at(fraction.len().min(2));
        if finer.bytes().any(|b| b != b'0') {
            return Err(NotMoney::TooFine);
        }
        let scale = if pence.len() == 1 { 10 } else { 1 };
        let minor: i64 = pence.parse().map_err(|_| NotMoney::Malformed)?;
        let pounds: i64 = whole.parse().map_err(|_| NotMoney::TooLarge)?;
        let sum = pounds
            .checked_mul(100)
            .and_then(|p| p.checked_add(minor * scale))
            .ok_or(NotMoney::TooLarge)?;
        Ok(Self(if negative { -sum } else { sum }))
    }

    /// The price of `quantity` pieces; `None` when it does not fit.
    #[must_use]
    pub fn times(self, quantity: i64) -> Option<Self> {
        self.0.checked_mul(quantity).map(Self)
    }

    /// The sum; `None` when it does not fit.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
}

/// Pounds with two decimals, as HTTP answers show them.
impl fmt::Display for Pence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let amount = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:02}", amount / 100, amount % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pounds_become_pence() {
        let table = [
            ("2.55", 255),
            ("27.5", 2750),
            ("50", 5000),
            ("0", 0),
            ("0.07", 7),
            ("1.250", 125),
            ("-1.05", -105),
            ("887.52", 88752),
        ];
        for (text, pence) in table {
            assert_eq!(Pence::parse_pounds(text), Ok(Pence(pence)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let table = [
            ("", NotMoney::Malformed),
            ("-", NotMoney::Malformed),
            (".5", NotMoney::Malformed),
            ("1.", NotMoney::Malformed),
            ("1.2.3", NotMoney::Malformed),
            ("1e3", NotMoney::Malformed),
            ("+1", NotMoney::Malformed),
            ("--1", NotMoney::Malformed),
            ("NaN", NotMoney::Malformed),
            ("1,50", NotMoney::Malformed),
            ("0.001", NotMoney::TooFine),
            ("99999999999999999999", NotMoney::TooLarge),
            ("92233720368547758.08", NotMoney::TooLarge),
        ];
        for (text, why) in table {
            assert_eq!(Pence::parse_pounds(text), Err(why), "{text}");
        }
    }

    #[test]
    fn text_reads_back() {
        for pence in [0, 1, 9, 10, 99, 100, 12_345, -1, -250] {
            let text = Pence(pence).to_string();
            assert_eq!(Pence::parse_pounds(&text), Ok(Pence(pence)), "{text}");
        }
        assert_eq!(Pence(-5).to_string(), "-0.05");
    }
}
