//! A Socket.IO reader that stops, beside one that goes on. Alone in its process, whose memory is
//! measured.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::time::Duration;

use support::socketio::SocketIo;
use support::{Running, resident_bytes};
use tokio::sync::watch;

/// Bytes of all events together: far more than the kernel and an outbox hold for one reader.
const FLOOD_EVENTS: usize = 1_000;
const FLOOD_EVENT_BYTES: usize = 64 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_is_disconnected_and_the_others_get_everything() {
    let server = Running::start().await;
    let client = server.client();
    let mut stuck = SocketIo::connect(server.address).await;
    let mut reader = SocketIo::connect(server.address).await;
    let before = resident_bytes();
    let text = |n: usize| format!("\"{n:05}{}\"", "x".repeat(FLOOD_EVENT_BYTES));
    let (read, mut reads) = watch::channel(0);
    let reading = tokio::spawn(async move {
        for n in 0..FLOOD_EVENTS {
            let got = reader.event().await;
            assert_eq!(got[1..6], format!("{n:05}"));
            read.send_replace(n);
        }
        reader
    });
    for n in 0..FLOOD_EVENTS {
        // The reader that reads is never far behind, so only the other one can be slow.
        reads.wait_for(|read| n - read < 64).await.unwrap();
        assert_eq!(client.event(text(n)).await.status, 200);
    }
    let mut reader = reading.await.unwrap();
    let stored = (FLOOD_EVENTS * FLOOD_EVENT_BYTES) as u64;
    let grown = resident_bytes().saturating_sub(before + stored);
    println!("a stuck reader: {} KiB beside the log", grown / 1024);
    assert!(grown < 128 * 1024 * 1024, "{grown} bytes");
    let counted = async {
        loop {
            let metrics = client.get("/metrics").await.text;
            if metrics.contains("tidemill_socketio_clients_slow_total 1") {
                return metrics;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let metrics = tokio::time::timeout(Duration::from_secs(20), counted).await;
    let metrics = metrics.unwrap();
    assert!(metrics.contains("tidemill_socketio_clients 1"), "{metrics}");

    // It reads again, and is told after what was on its way that it is disconnected.
    let mut last = String::new();
    let mut events = 0;
    while let Some(text) = stuck.text().await {
        events += usize::from(text.starts_with("42"));
        last = text;
        if last == "41" {
            break;
        }
    }
    assert_eq!(last, "41");
    assert!(events < FLOOD_EVENTS, "{events}");
    client.event("\"after\"").await;
    assert_eq!(reader.event().await, "\"after\"");
}
