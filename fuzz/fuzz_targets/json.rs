//! CloudEvents in JSON, one and many: what is read is written and read the same.

#![no_main]

use bytes::Bytes;
use tidemill_core::json;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(event) = json::decode(&bytes) {
        let again = json::decode(&json::to_bytes(&event));
        assert_eq!(again.as_ref(), Ok(&event));
    }
    if let Ok(events) = json::decode_batch(&bytes) {
        let again = json::decode_batch(&json::batch_to_bytes(&events));
        assert_eq!(again.as_ref(), Ok(&events));
    }
});
