//! Zigzag variable-length integers as records use them (the encoding of Protocol Buffers'
//! `sint32` and `sint64`). Pure arithmetic; knows nothing of records.

/// Most bytes of a 32-bit value.
const MAX_BYTES_32: usize = 5;
/// Most bytes of a 64-bit value.
const MAX_BYTES_64: usize = 10;

/// How many bytes `value` takes; a 32-bit value takes as many as the same 64-bit one.
pub(super) fn size(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends `value`.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Reads a 64-bit value from the front of `bytes`: the value and its size in bytes. `None` where
/// the bytes end first or the value does not fit.
pub(super) fn get_64(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(MAX_BYTES_64).enumerate() {
        // The tenth byte has room for the 64th bit only.
        if index == MAX_BYTES_64 - 1 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((unzigzag(value), index + 1));
        }
    }
    None
}

/// Reads a 32-bit value from the front of `bytes`, like [`get_64`].
pub(super) fn get_32(bytes: &[u8]) -> Option<(i32, usize)> {
    let bounded = bytes.get(..MAX_BYTES_32).unwrap_or(bytes);
    let (value, size) = get_64(bounded)?;
    Some((i32::try_from(value).ok()?, size))
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, value);
        assert_eq!(out.len(), size(value), "{value}");
        out
    }

    #[test]
    fn known_values_have_their_known_bytes() {
        let cases: [(i64, &[u8]); 8] = [
            (0, &[0]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (300, &[0xd8, 0x04]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (value, bytes) in cases {
            assert_eq!(encoded(value), bytes, "{value}");
            assert_eq!(get_64(bytes), Some((value, bytes.len())));
            assert_eq!(get_32(bytes), Some((value as i32, bytes.len())));
        }
    }

    #[test]
    fn the_ends_of_the_range_survive() {
        for value in [i64::MIN, i64::MAX, i64::from(i32::MIN), -2, 2] {
            let bytes = encoded(value);
            assert_eq!(get_64(&bytes), Some((value, bytes.len())));
        }
    }

    #[test]
    fn what_overflows_or_ends_early_is_refused() {
        assert_eq!(get_32(&[]), None);
        assert_eq!(get_32(&[0x80]), None);
        assert_eq!(get_32(&[0xff, 0xff, 0xff, 0xff, 0x10]), None);
        assert_eq!(get_32(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x01]), None);
        assert_eq!(get_64(&[0xff; 10]), None);
        assert_eq!(get_64(&[0x80; 11]), None);
        let mut tenth_too_large = [0xff; 10];
        tenth_too_large[9] = 0x02;
        assert_eq!(get_64(&tenth_too_large), None);
    }
}
