//! The data of a bench event: which event of which key it is, when it was sent, and padding.

use serde::Deserialize;

/// What the data says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Stamp {
    /// The key's number.
    #[serde(rename = "k")]
    pub(crate) key: u32,
    /// The event's number within its key, from 0.
    #[serde(rename = "n")]
    pub(crate) number: u64,
    /// When it was to be sent, in microseconds since the run began.
    #[serde(rename = "t")]
    pub(crate) sent_us: u64,
}

impl Stamp {
    /// JSON of about `size_bytes`, and never less than the stamp itself needs.
    pub(crate) fn to_json(self, size_bytes: usize) -> Vec<u8> {
        let Self {
            key,
            number,
            sent_us,
        } = self;
        let mut text = format!("{{\"k\":{key},\"n\":{number},\"t\":{sent_us},\"p\":\"");
        let padding = size_bytes.saturating_sub(text.len() + 2);
        text.extend(std::iter::repeat_n('x', padding));
        text.push_str("\"}");
        text.into_bytes()
    }

    /// Reads it back; `None` when the data is not of a bench run.
    pub(crate) fn from_json(data: &[u8]) -> Option<Self> {
        serde_json::from_slice(data).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_and_has_the_size_asked_for() {
        let stamp = Stamp {
            key: 7,
            number: u64::MAX,
            sent_us: 12,
        };
        for (asked, size) in [(100, 100), (1, stamp.to_json(0).len())] {
            let json = stamp.to_json(asked);
            assert_eq!(json.len(), size);
            assert_eq!(Stamp::from_json(&json), Some(stamp));
        }
        assert_eq!(Stamp::from_json(b"{}"), None);
    }
}
