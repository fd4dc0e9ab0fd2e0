//! Sockets that send nothing, too little, too much or too many; readers that stop. The server
//! says so where it can, its memory stays bounded, and everybody else goes on.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Running, resident_bytes};
use tidemill_server::limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const IDLE_SOCKETS: u64 = 5_000;

/// Both ends of each socket are in this process. Tells how many sockets it may hold.
fn raise_file_limit() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let most = maximum.unwrap_or(u64::MAX);
    let wanted = Rlimit {
        current: Some(most.min(3 * IDLE_SOCKETS)),
        maximum,
    };
    setrlimit(Resource::Nofile, wanted).unwrap();
    (most.min(3 * IDLE_SOCKETS) - 1_000) / 2
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_sockets_harm_nobody() {
    let count = IDLE_SOCKETS.min(raise_file_limit());
    if count < IDLE_SOCKETS {
        eprintln!("skipped in part: only {count} idle sockets, raise the bound on open files");
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"));
    }
    let server = Running::start().await;
    let client = server.client();
    client.event("{}").await;
    let before = resident_bytes();
    let mut idle = Vec::new();
    for _ in 0..count {
        idle.push(TcpStream::connect(server.address).await.unwrap());
    }
    let began = Instant::now();
    for _ in 0..100 {
        assert_eq!(client.event("{\"n\":1}").await.status, 200);
    }
    let took = began.elapsed();
    let grown = resident_bytes().saturating_sub(before);
    println!(
        "{count} idle sockets: {} KiB, 100 publishes in {took:?}",
        grown / 1024
    );
    assert!(
        grown < count * 32 * 1024,
        "{grown} bytes for {count} sockets"
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(client.get("/health/ready").await.status, 200);
    drop(idle);
}

#[tokio::test]
async fn a_connection_beyond_the_bound_is_told_so() {
    let server = Running::with(|config| config.connections_max = 2).await;
    let one = TcpStream::connect(server.address).await.unwrap();
    let two = TcpStream::connect(server.address).await.unwrap();
    let refused = read_all(TcpStream::connect(server.address).await.unwrap()).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("retry-after: 1"), "{refused}");
    drop(one);
    // The place is free again as soon as the server has seen that.
    let answer = loop {
        let answer = exchange(
            server.address,
            "GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n",
        )
        .await;
        if !answer.starts_with("HTTP/1.1 503 ") {
            break answer;
        }
    };
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    drop(two);
}

async fn read_all(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends `text` and reads what comes until the head of an answer is there.
async fn exchange(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may have answered and closed before it has read all of this.
    let _ = stream.write_all(text.as_bytes()).await;
    let mut answer = String::new();
    let mut buffer = [0; 4096];
    while !answer.contains("\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(1..) => {}
            _ => break,
        }
        let end = buffer
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(buffer.len());
        answer += &String::from_utf8_lossy(&buffer[..end]);
        buffer = [0; 4096];
    }
    answer
}

#[tokio::test]
async fn heads_that_are_too_large_or_no_heads_at_all_are_refused() {
    let server = Running::start().await;
    let long = "x".repeat(limits::HEAD_MAX_BYTES + 1);
    let many = "a: b\r\n".repeat(limits::HEADERS_MAX + 1);
    for (head, status) in [
        (
            format!("GET / HTTP/1.1\r\nhost: localhost\r\nlong: {long}\r\n\r\n"),
            "431",
        ),
        (
            format!("GET / HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"),
            "431",
        ),
        (
            format!("GET /{long} HTTP/1.1\r\nhost: localhost\r\n\r\n"),
            "4",
        ),
        ("nonsense\r\n\r\n".to_owned(), "400"),
        ("\u{16}\u{3}\u{1} this is TLS\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = exchange(server.address, &head).await;
        let expected = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(&expected), "{answer} for {:.40}", head);
    }
    assert_eq!(server.client().get("/health/live").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_sends_no_request_is_closed() {
    let server = Running::start().await;
    for sent in ["", "GET / HTTP/1.1\r\nhost:"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let began = tokio::time::Instant::now();
        read_all(stream).await;
        assert!(began.elapsed() >= limits::HEAD_READ_TIMEOUT, "{sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_answered() {
    let server = Running::start().await;
    let head = "POST /event HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{";
    let began = tokio::time::Instant::now();
    let answer = exchange(server.address, head).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(began.elapsed() >= limits::BODY_READ_TIMEOUT);
}

#[tokio::test]
async fn a_client_that_sends_far_too_much_can_read_why_it_is_refused() {
    let server = Running::with(|config| config.body_max_bytes = 1000).await;
    for round in 0..20 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let length = 8 * 1024 * 1024;
        let head =
            format!("POST /event HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b' '; length]).await.unwrap();
        let mut answer = [0; 12];
        let read = stream.read_exact(&mut answer).await;
        read.unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(&answer, b"HTTP/1.1 413");
    }
}

#[tokio::test]
async fn a_chunked_body_is_bounded_too() {
    let server = Running::with(|config| config.body_max_bytes = 1000).await;
    let chunk = format!("400\r\n{}\r\n", " ".repeat(0x400));
    let head = "POST /event HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    let answer = exchange(server.address, &format!("{head}{chunk}0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_reader_that_stops_in_the_middle_of_an_answer_is_cut_off() {
    let server = Running::start().await;
    let client = server.client();
    let text = format!("\"{}\"", "x".repeat(8 * 1024 * 1024));
    for _ in 0..4 {
        assert_eq!(client.event(text.clone()).await.status, 200);
    }
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = "GET /v1/topics/events/events?max=1 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    // The head has come, so the answer is under way.
    stream.readable().await.unwrap();
    tokio::time::pause();
    // On the simulated clock: longer than the server waits for a reader.
    tokio::time::sleep(limits::WRITE_STALL_TIMEOUT * 2).await;
    let got = read_all(stream).await;
    assert!(got.starts_with("HTTP/1.1 200 OK"));
    assert!(
        got.len() < text.len(),
        "the answer was cut off after {}",
        got.len()
    );
    let metrics = client.get("/metrics").await.text;
    assert!(
        metrics.contains("tidemill_http_connections_stalled_total 1"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_taken_port_and_an_open_address_are_refused_with_advice() {
    let server = Running::start().await;
    let taken = support::bind(server.address, false).await.unwrap_err();
    assert!(taken.contains("--http"), "{taken}");
    let open = support::bind("0.0.0.0:0".parse().unwrap(), false)
        .await
        .unwrap_err();
    assert!(open.contains("--insecure"), "{open}");
    support::bind("0.0.0.0:0".parse().unwrap(), true)
        .await
        .unwrap();
}
