//! What holds those back who try passwords: few of one address log in at once, failures are
//! answered late, and passwords are hashed one after the other.
//!
//! A hash takes milliseconds of the processor, a proof of SCRAM microseconds, so that only PLAIN
//! needs the bound. Who knew his password once is recognized without it, as long as it stays the
//! same: clients of a busy address come back at once while somebody guesses beside them.
//!
//! Everything is bounded by [`KAFKA_LOGINS_MAX`], [`RATE_ADDRESSES_MAX`](crate::limits) and
//! [`USERS_MAX`](crate::limits).

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::rate::{RateLimit, Rates, network};
use crate::limits::{
    KAFKA_HASHES_AT_ONCE, KAFKA_LOGIN_DELAY, KAFKA_LOGIN_FAILURES, KAFKA_LOGIN_FAILURES_PER,
    KAFKA_LOGIN_PENALTY, KAFKA_LOGINS_MAX, KAFKA_LOGINS_OF_ADDRESS,
    KAFKA_LOGINS_WAITING_OF_ADDRESS,
};
use crate::users::credential::{Credential, Scram, same};

/// What all connections share that log in.
pub(super) struct Gate {
    places: Arc<Semaphore>,
    lanes: Arc<Lanes>,
    failures: Rates,
    pub(super) hashing: Arc<Semaphore>,
    /// Nobody else's, so that what it signs means nothing to them.
    secret: [u8; 32],
    /// By names, what a password that was right signs to.
    right: Mutex<HashMap<String, Vec<u8>>>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Gate");
        let shown = shown.field("places", &self.places.available_permits());
        shown.finish_non_exhaustive()
    }
}

type Lanes = Mutex<HashMap<IpAddr, (usize, Arc<Semaphore>)>>;

/// A connection's place among those that log in.
#[derive(Debug)]
pub(in super::super) struct Place {
    lanes: Arc<Lanes>,
    address: IpAddr,
    /// Of the lane, once it is this one's turn.
    turn: Option<OwnedSemaphorePermit>,
    /// Of all, from then on.
    place: Option<OwnedSemaphorePermit>,
}

impl Gate {
    /// With a secret that stays the same over restarts.
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self {
            places: Arc::new(Semaphore::new(KAFKA_LOGINS_MAX)),
            lanes: Arc::default(),
            failures: Rates::new(RateLimit::new(
                KAFKA_LOGIN_FAILURES,
                KAFKA_LOGIN_FAILURES_PER,
            )),
            hashing: Arc::new(Semaphore::new(KAFKA_HASHES_AT_ONCE)),
            secret,
            right: Mutex::default(),
        }
    }

    /// Takes a place; `None` where there are too many already, of all or of this address. Waits
    /// while others of this address are before it, and holds no place of all meanwhile.
    pub(super) async fn enter(&self, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let lane = {
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || (0, Arc::new(Semaphore::new(KAFKA_LOGINS_OF_ADDRESS)));
            let (count, lane) = lanes.entry(address).or_insert_with(new);
            if *count >= KAFKA_LOGINS_WAITING_OF_ADDRESS {
                return None;
            }
            *count += 1;
            Arc::clone(lane)
        };
        let mut place = Place {
            lanes: Arc::clone(&self.lanes),
            address,
            turn: None,
            place: None,
        };
        place.turn = lane.acquire_owned().await.ok();
        place.place = Some(Arc::clone(&self.places).try_acquire_owned().ok()?);
        Some(place)
    }

    /// How long a failure of this address is not answered, and whether there were few.
    pub(super) fn failed(&self, address: IpAddr) -> (Duration, bool) {
        match self.failures.take_now(address) {
            Ok(()) => (KAFKA_LOGIN_DELAY, true),
            Err(_) => (KAFKA_LOGIN_PENALTY, false),
        }
    }

    /// What stands in for the credential of a name that nobody has: the same each time, so that
    /// who asks cannot tell.
    pub(super) fn nobodys(&self, scram: Scram, name: &str) -> Credential {
        let mut salt = scram.sign(&self.secret, name.as_bytes());
        salt.truncate(crate::limits::SCRAM_SALT_BYTES);
        Credential {
            salt,
            ..Credential::unknown(scram)
        }
    }

    /// Whether this is the password of a credential.
    pub(super) async fn is_right(
        &self,
        name: String,
        scram: Scram,
        credential: Credential,
        password: Vec<u8>,
    ) -> bool {
        let sign = |password: &[u8]| {
            let key = Scram::Sha256.sign(&self.secret, &credential.stored_key);
            Scram::Sha256.sign(&key, password)
        };
        let signed = sign(&password);
        let known = |right: &HashMap<String, Vec<u8>>| {
            right.get(&name).is_some_and(|right| same(right, &signed))
        };
        if known(&self.right.lock().unwrap_or_else(PoisonError::into_inner)) {
            return true;
        }
        let Ok(turn) = Arc::clone(&self.hashing).acquire_owned().await else {
            return false;
        };
        let hashed = tokio::task::spawn_blocking(move || {
            // Held also where nobody waits for the answer any more.
            let _turn = turn;
            credential.is_of(scram, &password)
        });
        let is_right = hashed.await.unwrap_or(false);
        if is_right {
            let mut right = self.right.lock().unwrap_or_else(PoisonError::into_inner);
            if right.len() >= crate::limits::USERS_MAX {
                right.clear();
            }
            right.insert(name, signed);
        }
        is_right
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((count, _)) = lanes.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                lanes.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn gate() -> Gate {
        Gate::new([7; 32])
    }

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn few_of_an_address_log_in_at_once_and_others_are_not_held_up() {
        let gate = gate();
        let enter = |n| gate.enter(address(n)).now_or_never();
        let mut places: Vec<_> = (0..KAFKA_LOGINS_OF_ADDRESS)
            .map(|_| enter(1).unwrap().unwrap())
            .collect();
        let mut waits = Box::pin(gate.enter(address(1)));
        assert!(waits.as_mut().now_or_never().is_none());
        assert!(enter(2).unwrap().is_some());
        places.pop();
        assert!(waits.now_or_never().unwrap().is_some());
        places.push(enter(1).unwrap().unwrap());
        let mut more: Vec<_> = (places.len()..KAFKA_LOGINS_WAITING_OF_ADDRESS)
            .map(|_| Box::pin(gate.enter(address(1))))
            .collect();
        more.iter_mut().for_each(|waits| drop(waits.now_or_never()));
        // Who waits takes nothing from other addresses.
        let free = gate.places.available_permits();
        assert_eq!(free, KAFKA_LOGINS_MAX - places.len());
        assert!(enter(1).unwrap().is_none());
        drop((places, more));
        assert!(gate.lanes.lock().unwrap().is_empty());
        let _all: Vec<_> = (0..u32::try_from(KAFKA_LOGINS_MAX).unwrap())
            .map(|n| enter(n).unwrap().unwrap())
            .collect();
        assert!(enter(7).unwrap().is_none());
    }

    #[test]
    fn who_does_not_exist_is_asked_the_same_after_a_restart_and_each_name_otherwise() {
        let gates = [gate(), gate(), Gate::new([8; 32])];
        for scram in Scram::ALL {
            let [one, again, other] = gates.each_ref().map(|gate| gate.nobodys(scram, "bob"));
            let real = Credential::new(scram, b"one");
            assert_eq!(one.salt, again.salt);
            assert_ne!(one.salt, other.salt);
            assert_ne!(one.salt, gates[0].nobodys(scram, "eve").salt);
            assert_eq!(one.salt.len(), real.salt.len());
            assert_eq!(one.iterations, real.iterations);
        }
    }

    #[tokio::test]
    async fn what_is_shown_of_it_has_neither_secrets_nor_who_knew_his_password() {
        let gate = gate();
        let kept = Credential::new(Scram::Sha256, b"one");
        let right = gate.is_right("bob".into(), Scram::Sha256, kept, b"one".to_vec());
        assert!(right.await);
        let expected = format!("Gate {{ places: {KAFKA_LOGINS_MAX}, .. }}");
        assert_eq!(format!("{gate:?}"), expected);
    }

    #[test]
    fn many_failures_of_an_address_are_answered_later() {
        let gate = gate();
        for _ in 0..KAFKA_LOGIN_FAILURES {
            assert_eq!(gate.failed(address(1)), (KAFKA_LOGIN_DELAY, true));
        }
        assert_eq!(gate.failed(address(1)), (KAFKA_LOGIN_PENALTY, false));
        assert_eq!(gate.failed(address(2)), (KAFKA_LOGIN_DELAY, true));
    }

    #[tokio::test]
    async fn a_password_that_was_right_is_known_without_its_hash_until_it_changes() {
        let gate = gate();
        let scram = Scram::Sha256;
        let (old, new) = (
            Credential::new(scram, b"one"),
            Credential::new(scram, b"two"),
        );
        let is_right = |kept: &Credential, password: &[u8]| {
            gate.is_right("bob".into(), scram, kept.clone(), password.to_vec())
        };
        assert!(!is_right(&old, b"two").await);
        assert!(is_right(&old, b"one").await);
        // Nobody can hash any more.
        let _hashing = gate.hashing.try_acquire_many(1).unwrap();
        assert_eq!(is_right(&old, b"one").now_or_never(), Some(true));
        assert_eq!(is_right(&old, b"two").now_or_never(), None);
        assert_eq!(is_right(&new, b"one").now_or_never(), None);
    }
}
