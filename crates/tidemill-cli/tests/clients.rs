//! `tidemill client list` beside a server with a client of the Kafka protocol.

#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;
use support::{Server, run};

#[test]
fn who_is_connected_is_listed_as_a_table_and_as_json() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start_with(data.path(), &["--kafka", "127.0.0.1:0"]);
    let kafka = server.running.line("kafka ");
    assert_eq!(server.run(&["client", "list", "--json"]).done(), "");
    let mut stream = TcpStream::connect(kafka.trim()).unwrap();
    // ApiVersions, version 3, of `billing` 2.0, by a client that tries to add a row.
    let request = b"\0\x12\0\x03\0\0\0\x01\0\x10jobs\n root admin\0\x08billing\x042.0\0";
    let length = u32::try_from(request.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], request].concat()).unwrap();
    stream.read_exact(&mut [0; 8]).unwrap();
    let table = server.run(&["client", "list"]).done();
    let address = stream.local_addr().unwrap().to_string();
    for word in [
        "CLIENT",
        "jobs\\n root admin",
        "billing 2.0",
        &address,
        "ApiVersions",
    ] {
        assert!(table.contains(word), "{word}: {table}");
    }
    assert_eq!(table.lines().count(), 2, "{table}");
    // As 2026-01-31T13:00:00Z: nobody reads nanoseconds.
    let whole = |word: &str| word.len() == 20 && word.ends_with('Z');
    assert!(table.split_whitespace().any(whole), "{table}");
    let listed = server.run(&["client", "list", "--json"]).done();
    let one: Value = serde_json::from_str(listed.trim()).unwrap();
    assert_eq!(one["software_name"], "billing");
    assert_eq!(
        (&one["door"], &one["requests"]),
        (&"kafka".into(), &1.into())
    );
    drop(stream);
    server.running.stop("TERM").done();
    let folder = ["client", "list", "--data", data.path().to_str().unwrap()];
    let refused = run(&folder).misused();
    assert!(refused.contains("ask that with --server"), "{refused}");
}
