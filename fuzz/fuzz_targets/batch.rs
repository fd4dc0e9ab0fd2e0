//! Record batches, packed ones included.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidemill_log::fuzzing::batch(bytes));
