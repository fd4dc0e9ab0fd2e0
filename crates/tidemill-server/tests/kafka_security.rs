//! Stock clients of Kafka that log in, with and without TLS, and what is refused.
//!
//! The clients are installed into the target folder, certificates are made by `openssl`. Where
//! that is not possible the tests are skipped and say why, except under `CI=true`, where that is a
//! failure.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use support::Running;
use support::certificates::certificates;
use support::stock::{SCRIPT_TIMEOUT, installed, scripts};
use tidemill_server::users::Users;
use tidemill_server::{Config, KafkaConfig, SaslConfig, Server, TlsConfig};
use tokio::process::Command;
use tokio::sync::OnceCell;

const USER: &str = "alice, the=1st";
const PASSWORD: &str = "correct horse: battery, staple=";

/// A server where the user has to log in, with a certificate if it is given one.
struct House {
    running: Running,
    address: String,
    folder: tempfile::TempDir,
}

impl House {
    async fn open(tls: Option<TlsConfig>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let users = folder.path().join("private");
        Users::new(&users).add(USER, PASSWORD).unwrap();
        let mut config = Config::at("127.0.0.1:0".parse().unwrap());
        config.kafka = Some(KafkaConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            sasl: Some(SaslConfig {
                users,
                cleartext: false,
            }),
            tls,
            ..KafkaConfig::default()
        });
        let broker = support::broker().await;
        let server = Server::bind(broker.clone(), config).await.unwrap();
        let address = server.kafka_addr().unwrap().to_string();
        let running = Running::of(broker, server);
        Self {
            running,
            address,
            folder,
        }
    }

    /// Runs a script that checks by itself, and asks for so many behaviours.
    async fn check(&self, mut script: Command, ca: Option<&Path>, holding: usize) {
        script.args([&self.address, USER, PASSWORD]).args(ca);
        let script = script.stdin(Stdio::null()).kill_on_drop(true).output();
        let output = tokio::time::timeout(SCRIPT_TIMEOUT, script).await;
        let output = output.expect("the script hangs").unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}\n{error}");
        assert_eq!(told.matches("holds: ").count(), holding, "{told}");
    }

    async fn check_all(&self, clients: &Path, ca: Option<&Path>) {
        let mut python = Command::new(clients.join("new/bin/python"));
        python.arg(scripts(CLIENTS).join("sasl_python.py"));
        self.check(python, ca, 11).await;
        let mut node = Command::new("node");
        node.arg(scripts(CLIENTS).join("sasl_kafkajs.js"));
        node.env("NODE_PATH", clients.join("node/node_modules"));
        self.check(node, ca, 4).await;
        self.kcat(ca).await;
    }

    /// kcat produces and consumes with every mechanism.
    async fn kcat(&self, ca: Option<&Path>) {
        let protocol = if ca.is_some() {
            "SASL_SSL"
        } else {
            "SASL_PLAINTEXT"
        };
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let mut kcat = Command::new("kcat");
            kcat.args(["-b", &self.address, "-C", "-t", &format!("rd-{mechanism}")]);
            kcat.args(["-o", "beginning", "-e", "-q"]);
            let mut set = |name: &str, value: &str| {
                kcat.arg("-X").arg(format!("{name}={value}"));
            };
            set("security.protocol", protocol);
            set("sasl.mechanism", mechanism);
            set("sasl.username", USER);
            set("sasl.password", PASSWORD);
            if let Some(ca) = ca {
                set("ssl.ca.location", ca.to_str().unwrap());
            }
            let output = kcat.stdin(Stdio::null()).kill_on_drop(true).output();
            let Ok(output) = tokio::time::timeout(SCRIPT_TIMEOUT, output).await.unwrap() else {
                let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
                assert!(!ci, "kcat is not installed");
                eprintln!("skipped: kcat is not installed");
                return;
            };
            let read = String::from_utf8_lossy(&output.stdout);
            assert_eq!(read, "hello\n", "{mechanism}: {output:?}");
        }
    }
}

const CLIENTS: &str = "clients/kafka";

async fn clients() -> Option<PathBuf> {
    static INSTALLED: OnceCell<Result<(), String>> = OnceCell::const_new();
    installed(&INSTALLED, CLIENTS, "kafka-clients").await
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_clients_log_in() {
    let Some(clients) = clients().await else {
        return;
    };
    let house = House::open(None).await;
    house.check_all(&clients, None).await;
    drop(house.folder);
    house.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_clients_log_in_over_tls() {
    let Some(clients) = clients().await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let Some((ca, tls)) = certificates(folder.path()).await else {
        return;
    };
    let house = House::open(Some(tls)).await;
    house.check_all(&clients, Some(&ca)).await;
    // Who does not speak TLS gets nothing, and does no harm.
    let mut plain = tokio::net::TcpStream::connect(&house.address)
        .await
        .unwrap();
    let hello = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    tokio::io::AsyncWriteExt::write_all(&mut plain, &hello)
        .await
        .unwrap();
    let mut said = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut plain, &mut said).await;
    // An alert of TLS, and no answer.
    assert!(said.is_empty() || said[0] == 21, "{said:?}");
    house.kcat(Some(&ca)).await;
    house.running.stop().await;
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let Some((ca, good)) = certificates(folder.path()).await else {
        return;
    };
    let nothing = folder.path().join("nothing.pem");
    let nonsense = folder.path().join("nonsense.pem");
    std::fs::write(&nonsense, "-----BEGIN CERTIFICATE-----\n?\n").unwrap();
    let with = |cert: &Path, key: &Path| TlsConfig {
        cert: cert.to_owned(),
        key: key.to_owned(),
    };
    for (tls, said) in [
        (with(&nothing, &good.key), "--kafka-tls-cert"),
        (with(&good.cert, &nothing), "--kafka-tls-key"),
        (with(&nonsense, &good.key), "--kafka-tls-cert"),
        (with(&good.key, &good.key), "no certificate in PEM"),
        (with(&good.cert, &good.cert), "no private key in PEM"),
        (
            with(&ca, &good.key),
            "not the private key of the certificate",
        ),
    ] {
        let mut config = Config::at("127.0.0.1:0".parse().unwrap());
        config.kafka = Some(KafkaConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: Some(tls),
            ..KafkaConfig::default()
        });
        let broker = support::broker().await;
        let refused = Server::bind(broker, config).await.unwrap_err().to_string();
        assert!(
            refused.contains(said) && refused.contains(".pem: "),
            "{refused}"
        );
    }
}
