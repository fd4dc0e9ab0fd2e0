//! The header of a commit, without its checksum.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidemill_log::fuzzing::commit(bytes));
