//! RabbitMQ over its HTTP API: a publish through the default exchange to a durable queue, which has
//! no batches, and a get that takes messages away. It runs as whoever runs the measure.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::plain::{Http, count, request};
use crate::server::{Server, free};
use crate::{Client, Fallible, VALUE_BYTES};

/// guest:guest
const LOGIN: &str = "authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\ncontent-type: application/json\r\n";
/// Longest time until its API answers.
const START: Duration = Duration::from_secs(60);

pub(crate) fn start(folder: &Path) -> Fallible<Server> {
    let (http, amqp, distribution, names) = (free()?, free()?, free()?, free()?);
    std::fs::create_dir_all(folder)?;
    let settings = format!(
        "listeners.tcp.1 = {amqp}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {}\n",
        http.port()
    );
    let file = folder.join("rabbitmq.conf");
    std::fs::write(&file, settings)?;
    let plugins = folder.join("plugins");
    std::fs::write(&plugins, "[rabbitmq_management].\n")?;
    let mut command = Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
    command
        .env(
            "RABBITMQ_NODENAME",
            format!("bench{}@localhost", http.port()),
        )
        .env("HOME", folder)
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", names.port().to_string())
        .env("RABBITMQ_DIST_PORT", distribution.port().to_string())
        .env("RABBITMQ_CONFIG_FILE", &file)
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins)
        .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
        .env("RABBITMQ_LOG_BASE", folder.join("logs"))
        .env("RABBITMQ_PID_FILE", folder.join("pid"));
    // The daemon that knows Erlang's nodes leaves the group of whoever began it.
    let mut end = Command::new("epmd");
    end.args(["-port", &names.port().to_string(), "-kill"]);
    let server = Server::run(command, http)?.ended_by(end);
    let queue = request("PUT /api/queues/%2F/bench", LOGIN, br#"{"durable":true}"#);
    let begun = Instant::now();
    while let Err(error) = Http::new(http).and_then(|mut http| http.ask(&queue)) {
        if begun.elapsed() > START {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(server)
}

/// See the module.
pub(crate) struct Connection {
    http: Http,
    publish: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(address: SocketAddr) -> Fallible<Self> {
        let pad = "x".repeat(VALUE_BYTES);
        let body = format!(
            "{{\"properties\":{{\"delivery_mode\":2}},\"routing_key\":\"bench\",\
             \"payload\":\"{pad}\",\"payload_encoding\":\"string\"}}"
        );
        let line = "POST /api/exchanges/%2F/amq.default/publish";
        Ok(Self {
            http: Http::new(address)?,
            publish: request(line, LOGIN, body.as_bytes()),
        })
    }
}

impl Client for Connection {
    fn publish(&mut self, events: usize) -> Fallible<()> {
        for _ in 0..events {
            let answer = self.http.ask(&self.publish)?;
            if answer != br#"{"routed":true}"# {
                return Err(String::from_utf8_lossy(&answer).into_owned().into());
            }
        }
        Ok(())
    }

    fn fetch(&mut self, most: usize) -> Fallible<usize> {
        let body =
            format!("{{\"count\":{most},\"ackmode\":\"ack_requeue_false\",\"encoding\":\"auto\"}}");
        let get = request("POST /api/queues/%2F/bench/get", LOGIN, body.as_bytes());
        Ok(count(&self.http.ask(&get)?, b"\"payload_bytes\""))
    }
}
