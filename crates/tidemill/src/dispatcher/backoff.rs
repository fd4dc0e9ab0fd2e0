//! Waits that grow and are spread. Pure: the randomness is a seed and a counter.

use std::time::Duration;

/// A wait that doubles with every use, up to a bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, max: Duration) -> Self {
        Self { next: first, max }
    }

    /// The wait to take now.
    pub(super) fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(self.max);
        wait
    }
}

/// `wait` and up to a quarter more, so that what failed together is not tried again together.
/// The same for the same `seed` and `count`.
pub(super) fn jittered(wait: Duration, seed: u64, count: u64) -> Duration {
    let part = f64::from((split_mix(seed, count) >> 32) as u32) / f64::from(u32::MAX);
    wait.saturating_add(wait.div_f64(4.0).mul_f64(part))
}

/// SplitMix64 (Steele, Lea, Flood 2014), the value number `count` of the sequence of `seed`.
fn split_mix(seed: u64, count: u64) -> u64 {
    let steps = count.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut z = seed.wrapping_add(steps);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first values of the reference implementation for the seed 1234567.
    #[test]
    fn the_sequence_is_split_mix() {
        assert_eq!(split_mix(1_234_567, 0), 6_457_827_717_110_365_317);
        assert_eq!(split_mix(1_234_567, 1), 3_203_168_211_198_807_973);
    }

    #[test]
    fn waits_double_and_are_bounded() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(10), ms(35));
        let waits: Vec<_> = std::iter::repeat_with(|| backoff.wait()).take(4).collect();
        assert_eq!(waits, [ms(10), ms(20), ms(35), ms(35)]);
    }

    #[test]
    fn jitter_adds_at_most_a_quarter_and_depends_on_the_seed() {
        let wait = Duration::from_millis(1000);
        let waits: Vec<_> = (0..1000).map(|n| jittered(wait, 7, n)).collect();
        assert!(waits.iter().all(|w| (wait..=wait * 5 / 4).contains(w)));
        assert!(waits.iter().any(|w| *w < wait * 21 / 20));
        assert!(waits.iter().any(|w| *w > wait * 24 / 20));
        assert_eq!(jittered(wait, 7, 3), waits[3]);
        assert_ne!(jittered(wait, 8, 3), waits[3]);
        assert_eq!(jittered(Duration::ZERO, 1, 1), Duration::ZERO);
    }
}
