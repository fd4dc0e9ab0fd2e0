//! The door for clients of Kafka: whatever a client sends, the door goes on and holds nothing of
//! it. Built with the feature `door` alone, because it is most of the server.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| tidemill_server::fuzzing::kafka_requests(bytes));
