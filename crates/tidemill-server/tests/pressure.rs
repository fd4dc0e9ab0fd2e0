//! A server with little memory and clients that do not read: what is taken stays within its
//! bound, and nobody else suffers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::Running;
use support::http::Client;
use tidemill_broker::Broker;
use tidemill_core::budget::Class;
use tidemill_server::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const MEMORY: usize = 8 * 1024 * 1024;

/// More answers than the system holds of one connection.
const ANSWERS: usize = 100;
const EVENT: usize = 10 * 1024;

/// Asks for everything, many times, and reads nothing but the beginning of the first answer.
async fn ask(server: &Running) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    // So that the system holds little of the answer.
    socket.set_recv_buffer_size(4096).unwrap();
    let mut socket = socket.connect(server.address).await.unwrap();
    let head = "GET /v1/topics/events/events?max=10000 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let heads = head.repeat(ANSWERS);
    socket.write_all(heads.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    socket.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    socket
}

async fn publish(client: &Client, number: usize) {
    let text = "x".repeat(EVENT);
    let answer = client
        .event(format!(r#"{{"n":{number},"text":"{text}"}}"#))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn clients_that_do_not_read_take_no_memory_from_those_who_publish_and_read() {
    let broker = Broker::builder().memory(MEMORY).open().await.unwrap();
    let memory = broker.memory().clone();
    let server = Running::over(broker, Config::at("127.0.0.1:0".parse().unwrap())).await;
    let client = server.client();
    for number in 0..60 {
        publish(&client, number).await;
    }
    let mut stuck = Vec::new();
    for _ in 0..20 {
        stuck.push(ask(&server).await);
    }
    // Each of them holds an answer by then.
    while memory.used(Class::Answers) < stuck.len() * EVENT {
        assert!(memory.total() <= memory.limit());
        tokio::task::yield_now().await;
    }
    // Others publish, and read everything, if in more pieces.
    for number in 60..80 {
        publish(&client, number).await;
    }
    let (mut next, mut seen) = (0, 0);
    while seen < 80 {
        let page = client
            .get(&format!("/v1/topics/events/events?offset={next}"))
            .await;
        let page = page.json();
        let events = page["events"].as_array().unwrap();
        assert!(!events.is_empty(), "{page}");
        seen += events.len();
        next = page["next"]["0"].as_u64().unwrap();
    }
    assert_eq!(memory.over(), 0);
    // What they held comes back when they go.
    drop(stuck);
    while memory.used(Class::Answers) > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_body_that_can_never_fit_is_too_large() {
    let broker = Broker::builder().memory(MEMORY).open().await.unwrap();
    let most = broker.memory().max(Class::Requests);
    let server = Running::over(broker, Config::at("127.0.0.1:0".parse().unwrap())).await;
    let client = server.client();
    let large = client.event(format!("\"{}\"", "x".repeat(most))).await;
    assert_eq!(large.problem(413), "too-large");
    // It fits into the memory for requests, and not into a publish.
    let large = client.event(format!("\"{}\"", "x".repeat(most / 2))).await;
    assert_eq!(large.problem(413), "too-large");
    publish(&client, 1).await;
}
