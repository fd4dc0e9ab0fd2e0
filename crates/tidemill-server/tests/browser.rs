//! Stock browsers: the page for people, and the scripts of docs/BROWSER.md, in Chromium, driven by
//! puppeteer. Mermaid's own parser takes the flow graph.
//!
//! Chromium is the system's; the rest is installed into the target folder. Where that is not
//! possible the tests are skipped and say why, except under `CI=true`, where that is a failure.
//! Pictures of the page are in `target/tmp/page/` afterwards.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use support::stock::{Script, installed, scripts};
use support::{Running, broker};
use tidemill_broker::{Broker, CreateQueue, CreateTopic};
use tidemill_core::{
    Catalogue, Delivery, Event, EventId, EventType, GroupMember, GroupName, Order, Settlement,
    Source, Start, Subscription, TopicName,
};
use tidemill_server::Config;
use tokio::process::Command;
use tokio::sync::OnceCell;

const HOSTILE: &str = r#"<img src="/x" onerror="window.owned = 1">"#;

async fn folder() -> Option<PathBuf> {
    static INSTALLED: OnceCell<Result<(), String>> = OnceCell::const_new();
    installed(&INSTALLED, "browser", "browser").await
}

fn node(folder: &Path, script: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(scripts("browser").join(script));
    command.env("NODE_PATH", folder.join("node_modules"));
    command
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name.to_owned()).unwrap()
}

fn event(id: &str, source: &str, ty: &str, data: &str) -> Event {
    let id = EventId::new(id.to_owned()).unwrap();
    let source = Source::new(source.to_owned()).unwrap();
    let ty = EventType::new(ty.to_owned()).unwrap();
    let event = Event::builder(id, source, ty).data("application/json", data.to_owned());
    event.build().unwrap()
}

async fn publish(broker: &Broker, to: &str, event: Event) {
    let bus = broker.bus();
    bus.publish(topic(to), vec![event]).await.unwrap();
}

async fn join(broker: &Broker, group: &str) -> Box<dyn GroupMember> {
    let asked = Subscription {
        topics: vec![topic("orders")],
        group: GroupName::new(group).unwrap(),
        order: Order::None,
        start: Start::Beginning,
    };
    broker.bus().subscribe(asked).await.unwrap()
}

/// A member with handlers, and what it holds.
type Busy = (Box<dyn GroupMember>, Vec<(Delivery, Settlement)>);

/// Topics with events, a queue with messages, and a group that is behind.
async fn traffic(broker: &Broker) -> Busy {
    let two = CreateTopic {
        partitions: 2,
        ..CreateTopic::default()
    };
    broker.create_topic(topic("orders"), two).await.unwrap();
    for n in 0..7 {
        let order = event(
            &n.to_string(),
            "/page",
            "order_created",
            r#"{"order_id":7}"#,
        );
        publish(broker, "orders", order).await;
    }
    let jobs = broker.create_queue(topic("jobs"), CreateQueue::default());
    jobs.await.unwrap();
    let jobs = broker.queue(&topic("jobs")).unwrap();
    let messages = (0..3).map(|n| event(&n.to_string(), "/jobs", "resize", "{}"));
    jobs.enqueue(messages.collect()).await.unwrap();
    let mut member = join(broker, "billing").await;
    let text = json!({"name": "billing", "handlers": [
        {"id": "charge", "name": "shop::charge", "version": "3", "source": "/tidemill/charge",
         "topic": "orders", "type": "order_created",
         "input": {"type": "order_created",
                   "schema": {"type": "object", "properties": {"order_id": {"type": "integer"}}}},
         "outputs": [{"kind": "event", "type": "invoiced", "topic": "invoices", "schema": true},
                     {"kind": "reply"}]},
        {"id": HOSTILE, "topic": "orders", "type": HOSTILE},
    ]});
    let catalogue = Catalogue::from_json(&text.to_string()).unwrap();
    member.describe(Arc::new(catalogue)).unwrap();
    let mut held = Vec::new();
    while held.len() < 2 {
        held.extend(member.pull(2 - held.len()).await.unwrap());
    }
    (member, held)
}

/// Reads a script to its end; it asks for things to be done, and says what holds.
async fn follow(
    mut script: Script,
    mut doing: impl AsyncFnMut(&str) -> Option<&'static str>,
) -> usize {
    let (mut holding, mut done) = (0, false);
    while let Some(line) = script.line().await {
        println!("{line}");
        done |= line == "done";
        holding += usize::from(line.starts_with("holds: "));
        if let Some(answer) = doing(&line).await {
            script.tell(answer).await;
        }
    }
    assert!(script.child.wait().await.unwrap().success() && done);
    holding
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_what_goes_on_and_a_hostile_event_does_nothing() {
    let Some(folder) = folder().await else {
        return;
    };
    let broker = broker().await;
    let _busy = traffic(&broker).await;
    let mut server = Some(Running::over(broker.clone(), local()).await);
    let address = server.as_ref().unwrap().address;
    let pictures = folder.parent().unwrap().join("page");
    std::fs::create_dir_all(&pictures).unwrap();
    let mut command = node(&folder, "page.js");
    command.arg(format!("http://{address}")).arg(&pictures);
    command.arg(folder.join("mermaid-11.17.2.min.js"));
    let holding = follow(Script::start(command), async |line| match line {
        "publish the hostile event" => {
            let data = format!(
                "{{\"x\":{}}}",
                json!(format!("<script>alert(1)</script>{HOSTILE}"))
            );
            publish(&broker, "orders", event("x", "/hostile", HOSTILE, &data)).await;
            Some("published")
        }
        "stop the server" => {
            server.take().unwrap().stop().await;
            Some("stopped")
        }
        "start the server" => {
            publish(
                &broker,
                "orders",
                event("y", "/page", "after_restart", "{}"),
            )
            .await;
            let mut config = local();
            config.http = address;
            server = Some(Running::over(broker.clone(), config).await);
            Some("started")
        }
        _ => None,
    });
    assert_eq!(holding.await, 11);
}

#[cfg(feature = "kafka")]
#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_who_is_connected_and_a_hostile_name_does_nothing() {
    use tidemill_server::{KafkaConfig, Server};
    use tokio::net::TcpStream;

    let Some(folder) = folder().await else {
        return;
    };
    let broker = broker().await;
    let mut config = local();
    config.kafka = Some(KafkaConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        ..KafkaConfig::default()
    });
    let server = Server::bind(broker.clone(), config).await.unwrap();
    let kafka = server.kafka_addr().unwrap();
    let server = Running::of(broker, server);
    let mut command = node(&folder, "clients.js");
    command.arg(format!("http://{}", server.address));
    let mut client = None;
    let holding = follow(Script::start(command), async |line| match line {
        "connect" => {
            let mut stream = TcpStream::connect(kafka).await.unwrap();
            support::kafka::ask_versions(&mut stream, HOSTILE).await;
            client = Some(stream);
            Some("connected")
        }
        "leave" => {
            client = None;
            Some("left")
        }
        _ => None,
    });
    assert_eq!(holding.await, 2);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scripts_of_the_guide_do_what_it_says() {
    let Some(folder) = folder().await else {
        return;
    };
    let broker = broker().await;
    for id in ["1", "2"] {
        publish(&broker, "restarts", event(id, "/page", "n", "{}")).await;
    }
    let mut server = Some(Running::over(broker.clone(), shared()).await);
    let address = server.as_ref().unwrap().address;
    let mut command = node(&folder, "guide.js");
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/BROWSER.md");
    command.arg(format!("http://{address}")).arg(guide);
    command.arg(folder.join("node_modules/socket.io-client/dist/socket.io.min.js"));
    let holding = follow(Script::start(command), async |line| {
        if line != "restart the server" {
            return None;
        }
        server.take().unwrap().stop().await;
        publish(&broker, "restarts", event("3", "/page", "n", "{}")).await;
        let mut config = shared();
        config.http = address;
        server = Some(Running::over(broker.clone(), config).await);
        Some("restarted")
    });
    assert_eq!(holding.await, 8);
}

fn local() -> Config {
    Config::at("127.0.0.1:0".parse().unwrap())
}

/// Lets the pages of other programs on this machine read answers.
fn shared() -> Config {
    let mut config = local();
    config.cors = Some("*".parse().unwrap());
    config
}
