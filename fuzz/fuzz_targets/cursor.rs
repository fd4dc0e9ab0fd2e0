//! A group's cursor: what is read is written and read the same.

#![no_main]

use tidemill_core::cursor::Cursor;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((cursor, rest)) = Cursor::decode(bytes) {
        let mut out = Vec::new();
        cursor.encode(&mut out);
        let (again, after) = Cursor::decode(&out).expect("it was written just now");
        assert!(again == cursor && after.is_empty() && rest.len() < bytes.len());
    }
});
