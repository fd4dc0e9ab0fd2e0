//! Frames of the native protocol: what is read is written and read the same.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidemill_core::wire::{ClientFrame, ServerFrame};

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(frame) = ClientFrame::decode(&bytes) {
        let again = ClientFrame::decode(&Bytes::from(frame.encode()));
        assert_eq!(format!("{:?}", again.unwrap()), format!("{frame:?}"));
    }
    if let Ok(frame) = ServerFrame::decode(&bytes) {
        let again = ServerFrame::decode(&Bytes::from(frame.encode()));
        assert_eq!(format!("{:?}", again.unwrap()), format!("{frame:?}"));
    }
});
