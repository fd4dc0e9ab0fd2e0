//! When a delivery that failed is tried again. Pure: time and randomness are arguments.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// The wait behind try number `attempt` (from 1): `first`, doubled with every try up to `max`, and
/// of that between a half and all of it, as `random` says.
pub(crate) fn wait(attempt: u32, first: Duration, max: Duration, random: u64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(31);
    let whole = first.saturating_mul(1 << doublings).min(max);
    let half = whole / 2;
    let part = u32::try_from(random % 1024).unwrap_or(0);
    half + (whole - half) * part / 1023
}

/// What a header `Retry-After` asks for: seconds, or a date. One that is past asks for nothing.
pub(crate) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than can be counted is as long as can be.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = DateTimeParser::new().parse_timestamp(value).ok()?;
    let seconds = date.as_second().saturating_sub(now.as_second());
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::WEBHOOK_RETRY_MAX_MS;

    #[test]
    fn waits_double_up_to_their_bound_and_are_spread() {
        let (first, max) = (Duration::from_secs(1), Duration::from_secs(60));
        for (attempt, whole) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (u32::MAX, 60)] {
            let whole = Duration::from_secs(whole);
            assert_eq!(wait(attempt, first, max, 1023), whole);
            assert_eq!(wait(attempt, first, max, 0), whole / 2);
            let between = wait(attempt, first, max, 300);
            assert!(between > whole / 2 && between < whole);
        }
        let day = Duration::from_millis(WEBHOOK_RETRY_MAX_MS.2);
        assert_eq!(wait(u32::MAX, day, day, u64::MAX), day);
    }

    #[test]
    fn seconds_and_dates_are_read_and_the_past_is_now() {
        let now: Timestamp = "1994-11-06T08:49:07Z".parse().unwrap();
        let cases = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("-5", None),
            ("soon", None),
            ("", None),
        ];
        for (value, seconds) in cases {
            let want = seconds.map(Duration::from_secs);
            assert_eq!(retry_after(value, now), want, "{value}");
        }
    }
}
