//! A commit's entries and parts.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidemill_log::fuzzing::entries(bytes));
