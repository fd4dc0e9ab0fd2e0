//! What may be set for one queue, and its bytes in the journal: `FORMAT.md`, section 4.1.

use std::time::Duration;

use serde::{Serialize, Serializer};
use tidemill_core::varint;

use super::{QueueError, expiry};
use crate::limits::{LEASE_DEFAULT, LEASE_MAX};

const LEASE_MS: u64 = 1;
const MAX_DELIVERIES: u64 = 2;
const TTL_MS: u64 = 3;

/// What may be set for one queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueueSettings {
    /// How long a message is its taker's, unless the taker says otherwise: a whole number of
    /// milliseconds, up to [`LEASE_MAX`].
    #[serde(rename = "lease_ms", serialize_with = "in_millis")]
    #[cfg_attr(feature = "schema", schemars(with = "u64"))]
    pub lease: Duration,
    /// After how many deliveries without an ack a message goes to the dead letters, at least 1;
    /// `None`: never.
    pub max_deliveries: Option<u32>,
    /// How long a message is good for, unless it says less itself: a whole number of milliseconds,
    /// up to [`QUEUE_TTL_MAX`](crate::limits::QUEUE_TTL_MAX); `None`: for ever. What has expired
    /// is given to nobody: it goes to the dead letters where there is a bound for deliveries, and
    /// is settled else.
    #[serde(rename = "ttl_ms", serialize_with = "in_millis_if_any")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<u64>"))]
    pub ttl: Option<Duration>,
}

fn in_millis_if_any<S: Serializer>(time: &Option<Duration>, out: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => in_millis(time, out),
        None => out.serialize_none(),
    }
}

fn in_millis<S: Serializer>(time: &Duration, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_u64(time.as_millis() as u64)
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            lease: LEASE_DEFAULT,
            max_deliveries: None,
            ttl: None,
        }
    }
}

impl QueueSettings {
    /// # Errors
    /// [`QueueError::Limit`] where a value is none that a queue can have.
    pub(super) fn checked(self) -> Result<Self, QueueError> {
        let lease = Duration::from_millis(self.lease.as_millis() as u64);
        if lease.is_zero() || lease > LEASE_MAX {
            let max_ms = LEASE_MAX.as_millis();
            let why = format!("a queue's lease is 1 to {max_ms} ms");
            return Err(QueueError::Limit(why));
        }
        if self.max_deliveries == Some(0) {
            let why = "max_deliveries is at least 1; leave it out for no bound";
            return Err(QueueError::Limit(why.to_owned()));
        }
        let ttl = self.ttl.map(expiry::checked).transpose()?;
        Ok(Self { lease, ttl, ..self })
    }

    /// Appends how many settings are not as by default, and these.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let lease = Some(self.lease).filter(|lease| *lease != LEASE_DEFAULT);
        let settings = [
            (LEASE_MS, lease.map(|lease| lease.as_millis() as u64)),
            (MAX_DELIVERIES, self.max_deliveries.map(u64::from)),
            (TTL_MS, self.ttl.map(|ttl| ttl.as_millis() as u64)),
        ];
        let set = settings.into_iter().filter_map(|(n, v)| Some((n, v?)));
        varint::put(out, set.clone().count() as u64);
        let mut bytes = Vec::new();
        for (number, value) in set {
            bytes.clear();
            varint::put(&mut bytes, value);
            varint::put(out, number);
            varint::put(out, bytes.len() as u64);
            out.extend_from_slice(&bytes);
        }
    }

    /// Takes one setting.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(crate) fn take(&mut self, number: u64, value: &[u8]) -> Result<(), String> {
        let whole = varint::take(value).filter(|(_, rest)| rest.is_empty());
        let wrong = || format!("a queue's setting {number} has a wrong value");
        match number {
            LEASE_MS => {
                let (ms, _) = whole.ok_or_else(wrong)?;
                self.lease = Duration::from_millis(ms);
            }
            MAX_DELIVERIES => {
                let (count, _) = whole.ok_or_else(wrong)?;
                self.max_deliveries = Some(u32::try_from(count).map_err(|_| wrong())?);
            }
            TTL_MS => {
                let (ms, _) = whole.ok_or_else(wrong)?;
                self.ttl = Some(Duration::from_millis(ms));
            }
            _ => {
                return Err(format!(
                    "a queue's setting {number} is not supported by this version; use a newer one"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::QUEUE_TTL_MAX;

    #[test]
    fn what_no_queue_can_have_is_refused() {
        let with = |lease, max_deliveries| {
            QueueSettings {
                lease,
                max_deliveries,
                ttl: None,
            }
            .checked()
        };
        assert!(with(LEASE_MAX, Some(1)).is_ok());
        assert!(with(LEASE_MAX + Duration::from_millis(1), None).is_err());
        assert!(with(Duration::from_micros(999), None).is_err());
        assert!(with(LEASE_DEFAULT, Some(0)).is_err());
        let good_for = |ttl| {
            let ttl = Some(ttl);
            let settings = QueueSettings::default();
            QueueSettings { ttl, ..settings }.checked()
        };
        assert!(good_for(QUEUE_TTL_MAX).is_ok());
        assert!(good_for(QUEUE_TTL_MAX + Duration::from_millis(1)).is_err());
        assert!(good_for(Duration::from_micros(999)).is_err());
    }

    #[test]
    fn unknown_settings_and_wrong_values_are_told() {
        let mut settings = QueueSettings::default();
        let unknown = settings.take(4, &[1]).unwrap_err();
        assert!(unknown.contains("setting 4"), "{unknown}");
        assert!(settings.take(TTL_MS, &[]).is_err());
        assert!(settings.take(LEASE_MS, &[1, 1]).is_err());
        assert!(settings.take(MAX_DELIVERIES, &[]).is_err());
        assert_eq!(settings, QueueSettings::default());
    }
}
