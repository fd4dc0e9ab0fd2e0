//! Values that people type: durations, data, headers, places to start from.
//!
//! This room may not know which command asks.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use http::Uri;
use jiff::{SignedDuration, Timestamp};

use crate::failure::Failure;

/// The command with options that take a negative number, or a negative time, as their value, which
/// then says what is wrong with it: else the parser takes it for an option of its own.
pub(crate) fn negative_too(command: clap::Command) -> clap::Command {
    let with_value = |arg: clap::Arg| {
        if arg.is_positional() || !arg.get_action().takes_values() {
            return arg;
        }
        let names = arg.get_value_names().unwrap_or_default();
        match names.iter().any(|name| name == "TIME") {
            true => arg.allow_hyphen_values(true),
            false => arg.allow_negative_numbers(true),
        }
    };
    command.mut_args(with_value).mut_subcommands(negative_too)
}

/// A length of time as `20s`, `500ms`, `1h30m`, `7d`.
///
/// # Errors
/// A sentence that shows the form.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no length of time; write it as 500ms, 20s, 1h30m or 7d");
    // Of 24 hours each: without a date none is longer.
    let days = text.split_once('d').filter(|(days, _)| are_digits(days));
    let (days, rest) = match days {
        Some((days, rest)) => (days.parse::<u64>().map_err(|_| wrong())?, rest.trim_start()),
        None => (0, text),
    };
    let rest = match rest.is_empty() && text.ends_with('d') {
        true => Duration::ZERO,
        false => {
            let signed = SignedDuration::from_str(rest).map_err(|_| wrong())?;
            Duration::try_from(signed).map_err(|_| wrong())?
        }
    };
    let days = days.checked_mul(24 * 60 * 60).map(Duration::from_secs);
    let whole = days.and_then(|days| days.checked_add(rest));
    whole.ok_or_else(wrong)
}

/// A length of time, or how many milliseconds it has.
///
/// # Errors
/// A sentence that shows the forms.
pub(crate) fn milliseconds(text: &str) -> Result<Duration, String> {
    if are_digits(text)
        && let Ok(ms) = text.parse()
    {
        return Ok(Duration::from_millis(ms));
    }
    duration(text).map_err(|why| format!("{why}; a number alone is of milliseconds"))
}

fn are_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Milliseconds as they can be typed.
pub(crate) fn shown_ms(millis: u64) -> String {
    const HOUR: u64 = 3600;
    match (millis % 1000, millis / 1000) {
        (0, seconds) if seconds > 0 && seconds % (24 * HOUR) == 0 => {
            format!("{}d", seconds / (24 * HOUR))
        }
        (0, seconds) if seconds > 0 && seconds % HOUR == 0 => format!("{}h", seconds / HOUR),
        (0, seconds) if seconds > 0 && seconds % 60 == 0 => format!("{}m", seconds / 60),
        (0, seconds) => format!("{seconds}s"),
        _ => format!("{millis}ms"),
    }
}

/// What may stand behind a number of bytes, the largest first.
const UNITS: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// Bytes as they can be typed.
pub(crate) fn shown_bytes(bytes: u64) -> String {
    let whole = UNITS
        .into_iter()
        .find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    match whole {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => bytes.to_string(),
    }
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

/// Reads a length of time of at most `most`, as `length` does.
///
/// # Errors
/// What it gives answers as `length`, and a sentence with the bound.
pub(crate) fn up_to(
    most: Duration,
    length: impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    move |text| match length(text)? {
        length if length <= most => Ok(length),
        _ => Err(format!(
            "it is at most {}",
            shown_ms(most.as_millis() as u64)
        )),
    }
}

/// Reads a length of time from `least` to `most`.
///
/// # Errors
/// What it gives answers as [`duration`], and a sentence that names both.
pub(crate) fn time_within(
    least: Duration,
    most: Duration,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    let shown = |bound: Duration| shown_ms(bound.as_millis() as u64);
    move |text| match duration(text)? {
        length if (least..=most).contains(&length) => Ok(length),
        _ => Err(format!("it is {} to {}", shown(least), shown(most))),
    }
}

/// Reads so many bytes, from `least` to `most`.
///
/// # Errors
/// What it gives answers as [`size`], and a sentence that names both.
pub(crate) fn size_within(
    bounds: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| {
        // Without a bound of its own what is negative has the sentence of what is no number.
        let bytes = match is_negative(text) {
            true => None,
            false => Some(size(text)? as u64),
        };
        bytes.filter(|it| bounds.contains(it)).ok_or_else(|| {
            let (least, most) = (shown_bytes(*bounds.start()), shown_bytes(*bounds.end()));
            format!("it is {least} to {most}")
        })
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

/// How many times: a whole number of at least 1.
///
/// # Errors
/// A sentence that says so.
pub(crate) fn count<T: FromStr + PartialEq + From<u8>>(text: &str) -> Result<T, String> {
    match text.parse() {
        Ok(count) if count != T::from(0) => Ok(count),
        Ok(_) => Err("it must be at least 1".to_owned()),
        Err(_) if is_negative(text) => Err("it must be at least 1".to_owned()),
        Err(_) => Err("write it as a whole number of at least 1".to_owned()),
    }
}

/// A bound, or the word that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound<T>(pub(crate) Option<T>);

/// Reads a bound; `word` says that there is none.
pub(crate) fn or_word<T: Clone + Send + Sync + 'static>(
    word: &'static str,
    bound: impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<Bound<T>, String> + Clone + Send + Sync + 'static {
    move |text| match text == word {
        true => Ok(Bound(None)),
        false => match bound(text) {
            Ok(value) => Ok(Bound(Some(value))),
            Err(why) => Err(format!("{why}; or {word}")),
        },
    }
}

fn is_negative(text: &str) -> bool {
    text.strip_prefix('-')
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
}

/// A whole number that is not negative.
///
/// # Errors
/// A sentence that says so.
pub(crate) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| match is_negative(text) {
        true => "it must be at least 0".to_owned(),
        false => "write it as a whole number".to_owned(),
    })
}

/// So many bytes: a whole number, or one with `KiB`, `MiB`, `GiB` or `TiB` behind it.
///
/// # Errors
/// A sentence that shows the form.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let with_unit = UNITS.iter().find_map(|(unit, factor)| {
        let number = text.strip_suffix(unit)?;
        Some((number.trim_end(), *factor))
    });
    let (number, factor) = with_unit.unwrap_or((text, 1));
    // Parsing would take a sign.
    if !are_digits(number) {
        return Err(format!(
            "{text:?} is no number of bytes such as 67108864, 64MiB or 2GiB: a whole number with \
             KiB, MiB, GiB, TiB or nothing behind it"
        ));
    }
    let bytes = number.parse().ok().and_then(|n: u64| n.checked_mul(factor));
    bytes
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| {
            format!("{text} is more bytes than there can be; write less than 16777216TiB")
        })
}

/// Reads a whole number from `least` to `most`.
///
/// # Errors
/// What it gives answers a sentence that names both.
pub(crate) fn within<T>(least: T, most: T) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + std::fmt::Display + Clone,
{
    move |text| match text.parse::<T>() {
        Ok(number) if (&least..=&most).contains(&&number) => Ok(number),
        _ => Err(format!("write it as a whole number from {least} to {most}")),
    }
}

/// Where a door listens: an IP address or `localhost`, which is 127.0.0.1 here, and a port.
///
/// # Errors
/// A sentence that shows the form.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    if let Some(port) = text.strip_prefix("localhost:")
        && let Ok(port) = port.parse()
    {
        return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    }
    let form = "write it as ADDRESS:PORT, as in 127.0.0.1:7575, [::1]:7575 or localhost:7575";
    text.parse().map_err(|_| form.to_owned())
}

/// The URL of a server, as in `http://127.0.0.1:7575`, without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerUrl(String);

impl ServerUrl {
    /// Where the server is when nothing else is said.
    pub(crate) fn default_place() -> Self {
        Self("http://127.0.0.1:7575".to_owned())
    }

    /// The URL, without a slash at its end.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "write it as http://HOST:PORT, as in http://localhost:7575";
        let uri: Uri = text.parse().map_err(|_| form.to_owned())?;
        if uri.scheme_str() == Some("https") {
            return Err("there is no TLS yet; write it as http://HOST:PORT".to_owned());
        }
        if uri.scheme_str() != Some("http") || uri.host().is_none_or(str::is_empty) {
            return Err(form.to_owned());
        }
        let user = uri.authority().is_some_and(|it| it.as_str().contains('@'));
        if user {
            return Err(format!("leave out what stands before the host; {form}"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!("leave out what follows the port; {form}"));
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

/// Where reading begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// At the oldest event that is kept.
    Beginning,
    /// After the newest event.
    End,
    /// At this offset in every partition.
    Offset(u64),
    /// At an offset of its own in each partition; what is not named begins at the beginning.
    Each(BTreeMap<u32, u64>),
    /// With what was published at this time or later.
    Since(Timestamp),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "beginning" => return Ok(Self::Beginning),
            "end" => return Ok(Self::End),
            _ => {}
        }
        if let Ok(offset) = text.parse() {
            return Ok(Self::Offset(offset));
        }
        let pairs: Option<Vec<(u32, u64)>> = text.split(',').map(pair).collect();
        let each: Option<BTreeMap<u32, u64>> = pairs
            .map(|pairs| (pairs.len(), pairs.into_iter().collect::<BTreeMap<_, _>>()))
            .and_then(|(given, each)| (given == each.len()).then_some(each));
        each.map(Self::Each).ok_or_else(|| {
            "write it as beginning, end, an offset, or PARTITION:OFFSET pairs, each partition \
             once, as in 0:17,1:4"
                .to_owned()
        })
    }
}

fn pair(text: &str) -> Option<(u32, u64)> {
    let (partition, offset) = text.split_once(':')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

const TEXT: &str = "text/plain; charset=utf-8";

/// The content type that `data` is published with; what is `text` is that, whatever it looks like.
///
/// # Errors
/// A text that looks like JSON and is none.
pub(crate) fn content_type(data: &[u8], text: bool) -> Result<&'static str, Failure> {
    let Ok(written) = std::str::from_utf8(data) else {
        return match text {
            true => Err(Failure::usage("the data is no UTF-8; leave --text out")),
            false => Ok("application/octet-stream"),
        };
    };
    if text {
        return Ok(TEXT);
    }
    if serde_json::from_str::<serde::de::IgnoredAny>(written).is_ok() {
        return Ok("application/json");
    }
    if written.trim_start().starts_with(['{', '[']) {
        let why = "the data looks like JSON, and is none; mend it, or send it with --text";
        return Err(Failure::usage(why));
    }
    Ok(TEXT)
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
            ("7d", 604_800_000),
            ("1d12h", 129_600_000),
            ("1d 30m", 88_200_000),
            ("0d", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "20",
            "-1s",
            "soon",
            "d",
            "-1d",
            "1.5d",
            "7days",
            "1d-1h",
            "9".repeat(19).as_str(),
        ] {
            assert!(duration(text).unwrap_err().contains("20s"), "{text}");
        }
        assert!(duration("999999999999999999d").is_err());
        for (text, ms) in [("6000", 6000), ("6s", 6000), ("0", 0)] {
            assert_eq!(milliseconds(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "-1", "+1", "1.5", "soon"] {
            assert!(
                milliseconds(text).unwrap_err().contains("milliseconds"),
                "{text}"
            );
        }
        assert!(positive_duration("0s").is_err());
        let ttl = up_to(Duration::from_secs(3600), positive_duration);
        assert_eq!(ttl("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(ttl("1h1ms").unwrap_err(), "it is at most 1h");
        assert!(ttl("0s").is_err() && ttl("soon").unwrap_err().contains("20s"));
        let timeout = time_within(Duration::from_millis(100), Duration::from_secs(30));
        assert_eq!(timeout("100ms"), Ok(Duration::from_millis(100)));
        for text in ["99ms", "31s"] {
            assert_eq!(timeout(text).unwrap_err(), "it is 100ms to 30s");
        }
        let segment = size_within(65_536..=1 << 28);
        assert_eq!(segment("1MiB"), Ok(1 << 20));
        for text in ["1", "-1", "0", "1TiB"] {
            assert_eq!(segment(text).unwrap_err(), "it is 64KiB to 256MiB");
        }
        assert!(segment("much").unwrap_err().contains("64MiB"));
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        for (ms, text) in [
            (0, "0s"),
            (1, "1ms"),
            (1500, "1500ms"),
            (90_000, "90s"),
            (120_000, "2m"),
            (5_400_000, "90m"),
            (36_000_000, "10h"),
            (604_800_000, "7d"),
        ] {
            assert_eq!(shown_ms(ms), text);
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)));
        }
        for (bytes, text) in [
            (0, "0"),
            (1000, "1000"),
            (65_536, "64KiB"),
            (3 << 30, "3GiB"),
            (2 << 40, "2TiB"),
        ] {
            assert_eq!(shown_bytes(bytes), text);
            assert_eq!(size(text), Ok(bytes as usize));
        }
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
        assert_eq!("beginning".parse(), Ok(Start::Beginning));
        assert_eq!("end".parse(), Ok(Start::End));
        assert_eq!("17".parse(), Ok(Start::Offset(17)));
        let each = BTreeMap::from([(0, 17), (3, 4)]);
        assert_eq!("3:4,0:17".parse(), Ok(Start::Each(each)));
        for text in [
            "-1",
            "start",
            "",
            "0:1,0:2",
            "0:1,",
            "0:",
            ":1",
            "0:1:2",
            "18446744073709551616",
        ] {
            let error = text.parse::<Start>().unwrap_err();
            assert!(error.contains("0:17,1:4"), "{text}: {error}");
        }
    }

    #[test]
    fn a_size_is_a_number_of_bytes_with_or_without_a_unit() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("4194304", Some(4 << 20)),
            ("64MiB", Some(64 << 20)),
            ("64MiBMiB", None),
            ("+64", None),
            ("+64MiB", None),
            ("2 GiB", Some(2 << 30)),
            ("1KiB", Some(1024)),
            ("", None),
            ("MiB", None),
            ("64MB", None),
            ("-1", None),
            ("1.5GiB", None),
            ("99999999999999GiB", None),
            ("16777215TiB", Some(16_777_215 << 40)),
            ("16777216TiB", None),
        ] {
            assert_eq!(size(text).ok(), bytes, "{text}");
        }
        assert!(size("64MB").unwrap_err().contains("KiB, MiB, GiB, TiB"));
        let too_many = size("16777216TiB").unwrap_err();
        assert!(too_many.contains("more bytes than"), "{too_many}");
    }

    #[test]
    fn a_count_is_at_least_one() {
        assert_eq!(count::<u64>("7"), Ok(7));
        for text in ["0", "-1", "", "many"] {
            assert!(
                count::<u32>(text).unwrap_err().contains("at least 1"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_number_lies_within_its_bounds() {
        let read = within(1_u16, 1000);
        assert_eq!((read("1"), read("1000")), (Ok(1), Ok(1000)));
        for text in ["0", "1001", "-1", "x", "", "1.5", "99999999999"] {
            let error = read(text).unwrap_err();
            assert!(error.contains("from 1 to 1000"), "{text}: {error}");
        }
        assert_eq!(number::<u64>("0"), Ok(0));
        assert!(number::<u64>("x").unwrap_err().contains("whole number"));
        assert!(number::<u64>("-1").unwrap_err().contains("at least 0"));
    }

    #[test]
    fn an_address_is_an_ip_address_or_localhost_and_a_port() {
        for (text, address) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("[::1]:80", "[::1]:80"),
            ("localhost:7575", "127.0.0.1:7575"),
        ] {
            assert_eq!(super::address(text).unwrap().to_string(), address);
        }
        for text in [
            "",
            "localhost",
            "localhost:",
            "localhost:99999",
            "7575",
            ":7575",
            "a.b:1",
        ] {
            let error = super::address(text).unwrap_err();
            assert!(error.contains("localhost:7575"), "{text}: {error}");
        }
    }

    #[test]
    fn only_plain_http_urls_are_servers() {
        let url: ServerUrl = "http://127.0.0.1:1/".parse().unwrap();
        assert_eq!(url.as_str(), "http://127.0.0.1:1");
        for text in [
            "",
            "127.0.0.1:7575",
            "localhost:7575",
            "https://a",
            "http://",
            "http://a?b",
            "http://a:1/base",
            "http://a:1/base/",
            "http://a:1//",
            "http://me@a:1",
            "ftp://a",
        ] {
            let error = text.parse::<ServerUrl>().unwrap_err();
            assert!(error.contains("http://HOST:PORT"), "{text}: {error}");
        }
    }

    #[test]
    fn the_content_type_follows_the_data() {
        let of = |data: &[u8]| content_type(data, false);
        assert_eq!(
            of(b"{\"a\": 12345678901234567890123}").unwrap(),
            "application/json"
        );
        assert_eq!(of(b"hello").unwrap(), TEXT);
        assert_eq!(of(b"\xff\xfe").unwrap(), "application/octet-stream");
        for broken in ["{\"a\": }", " [1, 2", "{\"a\":1}\n{\"a\":2}"] {
            let why = of(broken.as_bytes()).unwrap_err().to_string();
            assert!(why.contains("--text"), "{why}");
            assert_eq!(content_type(broken.as_bytes(), true).unwrap(), TEXT);
        }
        assert_eq!(content_type(b"{}", true).unwrap(), TEXT);
        assert!(content_type(b"\xff", true).is_err());
    }
}
