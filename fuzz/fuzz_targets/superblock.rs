//! A superblock, whose checksum is put right.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidemill_log::fuzzing::superblock(bytes));
