//! `tidemill group delete` on a group that is in use: a server in this process, with a member.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::run;
use tidemill::broker::Broker;
use tidemill::core::{Order, PullError, Start, Subscription};
use tidemill::{GroupName, TopicName};
use tidemill_server::{Config, Server};

async fn on_server(url: &str, arguments: &[&str]) -> support::Ended {
    let words = [arguments, &["--server", url]].concat();
    let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    let ended = tokio::task::spawn_blocking(move || {
        run(&words.iter().map(String::as_str).collect::<Vec<_>>())
    });
    ended.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_with_members_is_deleted_only_by_force() {
    let broker = Broker::in_memory();
    let config = Config::at("127.0.0.1:0".parse().unwrap());
    let server = Server::bind(broker.clone(), config).await.unwrap();
    let url = format!("http://{}", server.http_addr());
    let serving = tokio::spawn(server.run(std::future::pending()));
    let subscription = Subscription {
        topics: vec![TopicName::new("orders").unwrap()],
        group: GroupName::new("the billing").unwrap(),
        order: Order::PerKey,
        start: Start::Beginning,
    };
    let mut one = broker.bus().subscribe(subscription.clone()).await.unwrap();
    let other = broker.bus().subscribe(subscription).await.unwrap();
    let delete = ["group", "delete", "the billing"];
    let error = on_server(&url, &delete).await.failed();
    for part in [
        "has 2 members",
        &format!("`tidemill group delete 'the billing' --force --server {url}`"),
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    drop(other);
    let error = on_server(&url, &delete).await.failed();
    assert!(error.contains("has 1 member,"), "{error}");
    // A topic goes, whoever reads it, as it does elsewhere.
    let deleted = on_server(&url, &["topic", "delete", "orders"]).await;
    assert_eq!(deleted.done(), "deleted orders\n");
    let forced = [&delete[..], &["--force"]].concat();
    let deleted = on_server(&url, &forced).await.done();
    assert_eq!(deleted, "deleted the billing\n");
    assert_eq!(one.pull(1).await.unwrap_err(), PullError::Gone);
    let error = on_server(&url, &forced).await.failed();
    assert!(error.contains("unknown group 'the billing'"), "{error}");
    serving.abort();
}
