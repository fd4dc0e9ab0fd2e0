//! A chunk of the broker's snapshot.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidemill_broker::fuzzing::chunk(bytes));
