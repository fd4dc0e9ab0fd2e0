//! How many requests one client address may make. Off unless the server is told so.
//!
//! Each address has a bucket of as many requests as the rate's time allows, which fills evenly (the
//! generic cell rate algorithm: what is kept is when the bucket would be full again). The number
//! of buckets is bounded; addresses beyond share one. Pure but for the middleware.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::header::EXPECT;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::body::discard;
use super::problem::Problem;
use crate::connections::PeerAddress;
use crate::limits::RATE_ADDRESSES_MAX;

/// So many requests in a time, from one client address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    requests: u32,
    per: Duration,
}

impl FromStr for RateLimit {
    type Err = String;

    /// `1000/s`, `600/m` or `5000/h`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no rate of requests; write it as 1000/s, 600/m or 5000/h, with a \
                 whole number from 1 to 1000000"
            )
        };
        let (number, unit) = text.split_once('/').ok_or_else(wrong)?;
        let per = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return Err(wrong()),
        };
        let number = number.trim();
        let digits = number.bytes().all(|b| b.is_ascii_digit());
        let requests = number.parse().ok().filter(|_| digits);
        let requests = requests.filter(|n| (1..=1_000_000).contains(n));
        Ok(Self {
            requests: requests.ok_or_else(wrong)?,
            per: Duration::from_secs(per),
        })
    }
}

/// The buckets of all addresses.
#[derive(Debug)]
pub(crate) struct Rates {
    limit: RateLimit,
    /// What one request takes.
    each: Duration,
    begin: Instant,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    /// When each is full again, since the beginning.
    full_at: HashMap<IpAddr, Duration>,
    /// The one that is shared by addresses beyond the bound.
    shared: Duration,
    /// When those that are full were last forgotten.
    cleared: Duration,
}

impl RateLimit {
    /// So many in this time.
    #[cfg(feature = "kafka")]
    pub(crate) const fn new(requests: u32, per: Duration) -> Self {
        Self { requests, per }
    }
}

impl Rates {
    pub(crate) fn new(limit: RateLimit) -> Self {
        Self {
            limit,
            each: limit.per / limit.requests,
            begin: Instant::now(),
            buckets: Mutex::default(),
        }
    }

    /// Takes a request of this address in, as [`Rates::take`] at this moment.
    pub(crate) fn take_now(&self, address: IpAddr) -> Result<(), Duration> {
        self.take(address, self.begin.elapsed())
    }

    /// Takes a request of this address in, at a time since the beginning. Refused, it may come
    /// again after what is answered.
    fn take(&self, address: IpAddr, now: Duration) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets {
            full_at,
            shared,
            cleared,
        } = &mut *buckets;
        let address = network(address);
        if full_at.len() >= RATE_ADDRESSES_MAX
            && !full_at.contains_key(&address)
            && *cleared + self.each <= now
        {
            // One that is full says nothing.
            full_at.retain(|_, full_at| *full_at > now);
            *cleared = now;
        }
        let known = full_at.len() < RATE_ADDRESSES_MAX || full_at.contains_key(&address);
        let bucket = match known {
            true => full_at.entry(address).or_default(),
            false => shared,
        };
        let full = (*bucket).max(now) + self.each;
        match full.checked_sub(now + self.limit.per) {
            None | Some(Duration::ZERO) => {
                *bucket = full;
                Ok(())
            }
            Some(wait) => Err(wait),
        }
    }
}

/// What one client may be: an address, or of IPv6 the network that one has for himself.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        v4 => v4,
    }
}

/// The middleware that turns requests away that are too many. Who asks whether the server lives
/// is always answered.
pub(crate) async fn guard(
    State(rates): State<Arc<Rates>>,
    request: Request,
    next: Next,
) -> Response {
    let address = request.extensions().get::<PeerAddress>();
    let Some(PeerAddress(address)) = address.copied() else {
        return next.run(request).await;
    };
    if request.uri().path().starts_with("/health/") {
        return next.run(request).await;
    }
    let taken = rates.take_now(address.ip());
    let Err(wait) = taken else {
        return next.run(request).await;
    };
    // So that the answer is not lost; one that asks first has not begun to send.
    if !request.headers().contains_key(EXPECT) {
        discard(request.into_body()).await;
    }
    Problem::too_many(wait).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(text: &str) -> Rates {
        Rates::new(text.parse().unwrap())
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn rates_are_read_as_people_write_them() {
        assert_eq!(
            "600/m".parse(),
            Ok(RateLimit {
                requests: 600,
                per: Duration::from_secs(60)
            })
        );
        for text in [
            "",
            "5",
            "0/s",
            "-1/s",
            "+1/s",
            "1.5/s",
            "5/d",
            "1000001/s",
            "/s",
        ] {
            let error = text.parse::<RateLimit>().unwrap_err();
            assert!(error.contains("1000/s"), "{text}: {error}");
        }
    }

    #[test]
    fn a_bucket_empties_at_once_and_fills_evenly() {
        let rates = rates("4/s");
        let one = "10.0.0.1".parse().unwrap();
        for _ in 0..4 {
            assert_eq!(rates.take(one, ms(0)), Ok(()));
        }
        assert_eq!(rates.take(one, ms(0)), Err(ms(250)));
        assert_eq!(rates.take("10.0.0.2".parse().unwrap(), ms(0)), Ok(()));
        assert_eq!(rates.take(one, ms(249)), Err(ms(1)));
        assert_eq!(rates.take(one, ms(250)), Ok(()));
        assert_eq!(rates.take(one, ms(250)), Err(ms(250)));
        for _ in 0..4 {
            assert_eq!(rates.take(one, ms(60_000)), Ok(()));
        }
        assert!(rates.take(one, ms(60_000)).is_err());
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_a_mapped_address_its_own() {
        let rates = rates("1/s");
        let take = |text: &str| rates.take(text.parse().unwrap(), ms(0)).is_ok();
        assert!(take("2001:db8::1"));
        assert!(!take("2001:db8::ffff:1"));
        assert!(take("2001:db8:0:1::1"));
        assert!(take("::ffff:10.0.0.1"));
        assert!(!take("10.0.0.1"));
    }

    #[test]
    fn addresses_beyond_the_bound_share_a_bucket_and_memory_is_bounded() {
        let rates = rates("1/s");
        let address = |n: usize| IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
        for n in 0..RATE_ADDRESSES_MAX {
            assert!(rates.take(address(n), ms(1)).is_ok());
        }
        assert!(rates.take(address(RATE_ADDRESSES_MAX), ms(1)).is_ok());
        assert!(rates.take(address(RATE_ADDRESSES_MAX + 1), ms(1)).is_err());
        assert!(rates.take(address(0), ms(1)).is_err());
        let kept = || rates.buckets.lock().unwrap().full_at.len();
        assert_eq!(kept(), RATE_ADDRESSES_MAX);
        // Those that are full again make room.
        assert!(
            rates
                .take(address(RATE_ADDRESSES_MAX + 1), ms(5_000))
                .is_ok()
        );
        assert_eq!(kept(), 1);
    }
}
