//! `tidemill webhook` against a server, with endpoints that speak HTTP, plain and over TLS.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use support::{Running, Server, patiently, run, tidemill};

/// No test waits longer for a request.
const PATIENCE: Duration = Duration::from_secs(30);

fn tls_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/tls")
        .join(name)
}

fn tls() -> Arc<ServerConfig> {
    let chain = CertificateDer::from_pem_file(tls_file("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(tls_file("key.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = config.with_no_client_auth();
    Arc::new(config.with_single_cert(vec![chain], key).unwrap())
}

/// Takes what it is sent, while it is `open`; answers its address and the bodies.
fn endpoint(tls: Option<Arc<ServerConfig>>, open: &Arc<AtomicBool>) -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let (got, bodies) = channel();
    let open = Arc::clone(open);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let status = match open.load(Ordering::SeqCst) {
                true => "204 Taken",
                false => "500 Closed",
            };
            let body = match &tls {
                None => take(stream, status),
                Some(tls) => {
                    let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
                    take(StreamOwned::<_, TcpStream>::new(connection, stream), status)
                }
            };
            // A client that does not trust it sends nothing.
            if let Some(body) = body
                && got.send(body).is_err()
            {
                return;
            }
        }
    });
    (format!("{scheme}://{address}/events"), bodies)
}

fn open() -> Arc<AtomicBool> {
    Arc::new(AtomicBool::new(true))
}

fn take(stream: impl Read + Write, status: &str) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    reader.get_mut().write_all(answer.as_bytes()).ok()?;
    reader.get_mut().flush().ok()?;
    serde_json::from_slice(&body).ok()
}

fn next(bodies: &Receiver<Value>) -> Value {
    bodies.recv_timeout(PATIENCE).unwrap()
}

fn shown(server: &Server, name: &str) -> Value {
    let text = server.run(&["webhook", "show", name, "--json"]).done();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_webhook_is_made_watched_turned_and_deleted() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let (url, bodies) = endpoint(None, &open());
    let make = [
        "webhook",
        "create",
        "shop",
        &url,
        "--topic",
        "orders",
        "--type",
        "order.*",
        "--header",
        "authorization=Bearer 7",
        "--timeout",
        "5s",
        "--attempts",
        "3",
    ];
    let made = server.run(&make).done();
    assert!(made.starts_with("created shop\nsecret whsec_"), "{made}");
    let twice = server.run(&make).failed();
    assert!(twice.contains("there is a webhook shop already"), "{twice}");
    let tested = server.run(&["webhook", "test", "shop"]).done();
    assert!(tested.starts_with("taken with 204 after"), "{tested}");
    assert_eq!(next(&bodies)["type"], "tidemill.webhook.test");

    server
        .run(&["publish", "orders", "1", "--type", "order.paid"])
        .done();
    assert_eq!(next(&bodies)["data"], 1);
    patiently("it is not settled", || shown(&server, "shop")["lag"] == 0);
    let table = server.run(&["webhook", "list"]).done();
    assert!(table.contains("shop") && table.contains("works"), "{table}");
    let text = server.run(&["webhook", "show", "shop"]).done();
    assert!(
        text.contains("webhook.shop") && text.contains("authorization"),
        "{text}"
    );
    assert!(
        !text.contains("Bearer") && !text.contains("whsec_"),
        "{text}"
    );

    assert_eq!(
        server.run(&["webhook", "pause", "shop"]).done(),
        "paused shop\n"
    );
    server
        .run(&["publish", "orders", "2", "--type", "order.paid"])
        .done();
    assert_eq!(shown(&server, "shop")["lag"], 1);
    assert_eq!(
        server.run(&["webhook", "resume", "shop"]).done(),
        "resumed shop\n"
    );
    assert_eq!(next(&bodies)["data"], 2);
}

#[test]
fn a_webhook_is_changed_and_keeps_its_place() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let (url, bodies) = endpoint(None, &open());
    // Nobody is there.
    let make = [
        "webhook",
        "create",
        "shop",
        "http://127.0.0.1:1/",
        "--topic",
    ];
    let more = ["orders", "--header", "x-key=7", "--retry-first", "10ms"];
    server.run(&[&make[..], &more[..]].concat()).done();
    server
        .run(&["publish", "orders", "1", "--type", "paid"])
        .done();
    let nothing = server.run(&["webhook", "set", "shop"]).misused();
    assert!(nothing.contains("nothing is to be changed"), "{nothing}");
    let both = ["webhook", "set", "shop", "--no-headers", "--header", "a=b"];
    server.run(&both).misused();
    let set = ["webhook", "set", "shop", "--url", &url, "--attempts", "3"];
    let more = ["--retry-max", "20ms", "--type", "paid", "--no-headers"];
    let told = server.run(&[&set[..], &more[..]].concat()).done();
    assert!(
        told.contains(&url) && told.contains("doubled up to 20ms") && !told.contains("x-key"),
        "{told}"
    );
    assert_eq!(next(&bodies)["data"], 1);
    let made = shown(&server, "shop");
    assert_eq!(
        (&made["attempts"], &made["types"][0]),
        (&3.into(), &"paid".into())
    );
    assert_eq!(made["retry_first_ms"], 10);
    let wrong = server
        .run(&["webhook", "set", "shop", "--url", "ftp://x/"])
        .misused();
    assert!(wrong.contains("http://"), "{wrong}");
    assert_eq!(shown(&server, "shop")["url"], url);
}

#[test]
fn a_secret_is_renewed_and_kept_and_a_webhook_deleted() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let url = "http://127.0.0.1:1/";
    let make = ["webhook", "create", "shop", url, "--topic", "orders"];
    server.run(&make).done();
    let rotated = server
        .run(&["webhook", "rotate", "shop", "--overlap", "1h"])
        .done();
    assert!(
        rotated.starts_with("secret whsec_") && rotated.contains("both secrets"),
        "{rotated}"
    );
    for _ in 0..2 {
        server.run(&["webhook", "rotate", "shop"]).done();
    }
    let rotated = server.run(&["webhook", "rotate", "shop"]).done();
    assert!(
        rotated.contains("4 secrets sign") && rotated.contains("the oldest secret is over"),
        "{rotated}"
    );
    let endless = ["webhook", "rotate", "shop", "--secret-file", "/dev/zero"];
    let refused = server.run(&endless).failed();
    assert!(refused.contains("more than 512 bytes"), "{refused}");
    let file = data.path().join("private/webhooks.json");
    let kept = std::fs::read_to_string(&file).unwrap();
    assert!(kept.contains("whsec_"));
    let folder = data.path().to_str().unwrap();
    let at_rest = run(&["webhook", "list", "--data", folder]).misused();
    assert!(
        at_rest.contains("unexpected argument '--data'"),
        "{at_rest}"
    );
    assert_eq!(
        server.run(&["webhook", "delete", "shop"]).done(),
        "deleted shop\n"
    );
    let unknown = server.run(&["webhook", "show", "shop"]).failed();
    assert!(unknown.contains("unknown webhook shop"), "{unknown}");
}

#[test]
fn the_log_and_its_backups_leave_the_file_of_webhooks_alone() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let make = [
        "webhook",
        "create",
        "shop",
        "http://127.0.0.1:1/",
        "--topic",
        "orders",
    ];
    server.run(&make).done();
    server.running.stop("TERM");
    let folder = data.path().to_str().unwrap();
    let verified = run(&["log", "verify", "--data", folder]).done();
    assert!(!verified.contains("private"), "{verified}");
    let target = tempfile::tempdir().unwrap();
    let to = target.path().join("backup");
    run(&[
        "log",
        "backup",
        "--data",
        folder,
        "--to",
        to.to_str().unwrap(),
    ])
    .done();
    assert!(!to.join("private").exists());
    let again = Server::start(data.path());
    assert_eq!(shown(&again, "shop")["url"], "http://127.0.0.1:1/");
    assert!(!data.path().join("aside").exists());
}

#[test]
fn kill_9_while_it_tries_again_loses_no_event() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let door = Arc::new(AtomicBool::new(false));
    let (url, bodies) = endpoint(None, &door);
    let make = [
        "webhook",
        "create",
        "shop",
        &url,
        "--topic",
        "orders",
        "--retry-first",
        "10ms",
    ];
    server.run(&make).done();
    let numbers = ["1", "2", "3"];
    for number in numbers {
        let publish = ["publish", "orders", number, "--key", number];
        server.run(&publish).done();
        next(&bodies);
    }
    server.running.stop("KILL");
    // What was refused counts no more.
    bodies.try_iter().for_each(drop);
    door.store(true, Ordering::SeqCst);
    let again = Server::start(data.path());
    patiently("not all are taken", || {
        let shown = shown(&again, "shop");
        shown["lag"] == 0 && shown["delivered"] == 3
    });
    let seen: Vec<String> = bodies
        .try_iter()
        .map(|body| body["data"].to_string())
        .collect();
    for number in numbers {
        assert!(
            seen.iter().any(|data| data == number),
            "{number} in {seen:?}"
        );
    }
}

/// A server that trusts this file of certificates.
fn trusting(data: &Path, file: &Path) -> (Running, String) {
    let mut command = tidemill();
    command
        .args(["serve", "--http", "127.0.0.1:0", "--data"])
        .arg(data);
    command
        .env("SSL_CERT_FILE", file)
        .env_remove("SSL_CERT_DIR");
    let mut running = Running::start(command);
    let url = running.line("http");
    (running, url)
}

#[test]
fn an_endpoint_over_tls_gets_events_where_it_is_trusted_and_nothing_where_it_is_not() {
    let (url, bodies) = endpoint(Some(tls()), &open());
    let make = ["webhook", "create", "shop", &url, "--topic", "orders"];
    let test = ["webhook", "test", "shop"];
    let at = |server: &str, arguments: &[&str]| run(&[arguments, &["--server", server]].concat());

    let data = tempfile::tempdir().unwrap();
    let (_running, server) = trusting(data.path(), &tls_file("cert.pem"));
    at(&server, &make).done();
    at(&server, &["publish", "orders", "1"]).done();
    assert_eq!(next(&bodies)["data"], 1);
    assert!(at(&server, &test).done().contains("204"));
    assert_eq!(next(&bodies)["type"], "tidemill.webhook.test");

    // Where nothing is trusted, that is said.
    let data = tempfile::tempdir().unwrap();
    let empty = data.path().join("none.pem");
    std::fs::write(&empty, "").unwrap();
    let (_running, server) = trusting(&data.path().join("log"), &empty);
    at(&server, &make).done();
    let why = at(&server, &test).failed();
    assert!(
        why.contains("certificate") && why.contains("SSL_CERT_FILE"),
        "{why}"
    );

    // Where others are.
    let data = tempfile::tempdir().unwrap();
    let (_running, server) = trusting(data.path(), &tls_file("other.pem"));
    at(&server, &make).done();
    let why = at(&server, &test).failed();
    assert!(why.contains("certificate"), "{why}");
    assert!(bodies.try_recv().is_err());
}
