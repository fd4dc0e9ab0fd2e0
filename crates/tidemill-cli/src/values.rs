//! Values that people type: durations, data, headers, places to start from.
//!
//! This room may not know which command asks.

use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;

/// A length of time as `20s`, `500ms`, `1h30m`.
///
/// # Errors
/// A sentence that shows the form.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no length of time; write it as 500ms, 20s or 1h30m");
    let signed = SignedDuration::from_str(text).map_err(|_| wrong())?;
    Duration::try_from(signed).map_err(|_| wrong())
}

/// A length of time that is not zero.
///
/// # Errors
/// As [`duration`].
pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it must be longer than nothing".to_owned()),
        length => Ok(length),
    }
}

/// One `NAME=VALUE`.
///
/// # Errors
/// A sentence that shows the form.
pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} has not the form NAME=VALUE")),
    }
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// At the oldest event that is kept.
    Beginning,
    /// After the newest event.
    End,
    /// At this offset in every partition.
    Offset(u64),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "beginning" => Ok(Self::Beginning),
            "end" => Ok(Self::End),
            number => number
                .parse()
                .map(Self::Offset)
                .map_err(|_| format!("{text:?} is none of beginning, end or an offset")),
        }
    }
}

/// The content type that `data` is published with.
pub(crate) fn content_type(data: &[u8]) -> &'static str {
    if serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok() {
        "application/json"
    } else if std::str::from_utf8(data).is_ok() {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, ms) in [
            ("500ms", 500),
            ("20s", 20_000),
            ("1h30m", 5_400_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "20", "-1s", "soon"] {
            assert!(duration(text).unwrap_err().contains("20s"), "{text}");
        }
        assert!(positive_duration("0s").is_err());
    }

    #[test]
    fn headers_have_a_name_and_may_have_an_empty_value() {
        assert_eq!(header("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(header("a="), Ok(("a".to_owned(), String::new())));
        assert!(header("=b").is_err());
        assert!(header("a").is_err());
    }

    #[test]
    fn a_start_is_a_word_or_an_offset() {
        assert_eq!("beginning".parse(), Ok(From::Beginning));
        assert_eq!("end".parse(), Ok(From::End));
        assert_eq!("17".parse(), Ok(From::Offset(17)));
        assert!("-1".parse::<From>().is_err());
        assert!("start".parse::<From>().is_err());
    }

    #[test]
    fn the_content_type_follows_the_data() {
        assert_eq!(
            content_type(b"{\"a\": 12345678901234567890123}"),
            "application/json"
        );
        assert_eq!(content_type(b"hello"), "text/plain; charset=utf-8");
        assert_eq!(content_type(b"\xff\xfe"), "application/octet-stream");
    }
}
