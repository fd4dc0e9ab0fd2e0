//! A segment and its sidecar, read around their damage.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidemill_log::fuzzing::segment(bytes));
