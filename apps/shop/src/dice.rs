//! Repeatable chance: numbers that look drawn but follow from a seed. Knows nothing of the shop.

/// One step of SplitMix64 (Steele, Lea, Flood 2014): spreads a number over all 64 bits.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::mix;

    /// The first outputs of the reference implementation for the seed 1234567.
    #[test]
    fn it_is_splitmix64() {
        let step = 0x9e37_79b9_7f4a_7c15_u64;
        let outputs: Vec<u64> = (0..3)
            .map(|n| mix(1_234_567_u64.wrapping_add(step.wrapping_mul(n))))
            .collect();
        assert_eq!(
            outputs,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }
}
