//! What a fuzzer calls: the decoders of what the broker keeps, with bytes of anybody's making.
//! Only with the feature `fuzzing`.
//!
//! This room may not know what is in the bytes: nothing here may panic, whatever they are.

use crate::machine::{Change, take_change};

/// An effect: its kind in the first two bytes, then its own. One that is read is written and read
/// the same.
///
/// # Panics
/// When it is not: that is what a fuzzer looks for.
pub fn effect(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    if let Ok(change) = Change::decode(u16::from_le_bytes(*kind), body) {
        let mut out = Vec::new();
        let kind = change.encode(&mut out);
        assert_eq!(Change::decode(kind, &out), Ok(change));
    }
}

/// A chunk of the machine's snapshot.
///
/// # Panics
/// When a change takes nothing of it.
pub fn chunk(bytes: &[u8]) {
    let mut rest = bytes;
    while let Ok((_, after)) = take_change(rest) {
        assert!(after.len() < rest.len(), "a change has bytes");
        rest = after;
    }
}
