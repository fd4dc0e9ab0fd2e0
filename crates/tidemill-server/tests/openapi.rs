//! The OpenAPI document against the server that answers it: every path, every method, every query
//! parameter. The bodies of real answers are checked by a stock validator (`stock_clients.rs`).

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use support::Running;
use support::http::{Answer, Client};

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
const JSON: &str = "application/json";

/// Each path with its operations by method, in capitals.
type Paths = BTreeMap<String, BTreeMap<String, Value>>;

async fn paths(client: &Client) -> Paths {
    let answer = client.get("/openapi.json").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), JSON);
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.1");
    let one = |item: &Value| {
        let operations = item.as_object().unwrap().iter();
        let upper = operations.map(|(method, said)| (method.to_uppercase(), said.clone()));
        upper.collect()
    };
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .map(|(path, item)| (path.clone(), one(item)))
        .collect()
}

/// The path with a name that nothing has.
fn filled(path: &str) -> String {
    let part = |part: &str| match part.starts_with('{') {
        true => "nothing-of-this-name".to_owned(),
        false => part.to_owned(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

async fn send(client: &Client, method: &str, path: &str) -> Answer {
    let body = if method == "POST" { "{}" } else { "" };
    client
        .send(method, path, &[("content-type", JSON)], body)
        .await
}

#[tokio::test]
async fn the_document_names_every_method_that_a_path_has_and_no_other() {
    // No topic is made by a request, and then followed without an end.
    let builder = tidemill_broker::Broker::builder().in_memory(1 << 20);
    let broker = builder.auto_create_topics(false).open().await.unwrap();
    let config = tidemill_server::Config::at("127.0.0.1:0".parse().unwrap());
    let server = Running::over(broker, config).await;
    let client = server.client();
    let paths = paths(&client).await;
    assert!(paths.len() >= 20, "{}", paths.len());
    for (path, operations) in &paths {
        let documented: Vec<&str> = operations.keys().map(String::as_str).collect();
        for method in METHODS {
            let answer = send(&client, method, &filled(path)).await;
            if documented.contains(&method) {
                assert_ne!(answer.status, 405, "{method} {path}");
                let missing = answer.text.contains("urn:tidemill:problem:not-found");
                assert!(!missing, "{method} {path}");
            } else {
                assert_eq!(answer.problem(405), "method-not-allowed", "{method} {path}");
                assert_eq!(answer.header("allow"), documented.join(", "), "{path}");
            }
        }
    }
}

/// What a refusal of an unknown parameter says that there is.
fn refused(answer: &Answer) -> BTreeSet<String> {
    assert_eq!(answer.problem(400), "invalid-query");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("zzz"), "{detail}");
    let (_, known) = detail.split_once("this path has ").unwrap();
    let names = known.split(", ").filter(|name| *name != "none");
    names.map(str::to_owned).collect()
}

/// These answer whatever stands behind their `?`.
const WITHOUT_QUERY: [&str; 5] = ["/", "/health/live", "/health/ready", "/metrics", "/v1/ws"];

#[tokio::test]
async fn the_document_names_every_query_parameter_that_a_door_takes_and_no_other() {
    let server = Running::start().await;
    let client = server.client();
    let mut seen = 0;
    for (path, operations) in paths(&client).await {
        for (method, operation) in operations {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let query = parameters.filter(|one| one["in"] == "query");
            let names = query.map(|one| one["name"].as_str().unwrap().to_owned());
            let documented: BTreeSet<String> = names.collect();
            if WITHOUT_QUERY.contains(&path.as_str()) {
                assert!(documented.is_empty(), "{path}");
                continue;
            }
            let answer = send(&client, &method, &format!("{}?zzz=1", filled(&path))).await;
            assert_eq!(refused(&answer), documented, "{method} {path}");
            seen += 1;
        }
    }
    assert!(seen >= 20, "{seen}");
}

#[tokio::test]
async fn bounds_of_numbers_are_those_that_the_server_keeps() {
    let server = Running::start().await;
    let client = server.client();
    client.event(r#"{"topic":"nothing-of-this-name"}"#).await;
    for (path, operations) in paths(&client).await {
        for (method, operation) in operations {
            for one in operation["parameters"].as_array().into_iter().flatten() {
                let name = one["name"].as_str().unwrap();
                let (min, max) = (
                    one["schema"]["minimum"].as_u64(),
                    one["schema"]["maximum"].as_u64(),
                );
                let Some((min, max)) = min.zip(max) else {
                    continue;
                };
                let outside = [min.checked_sub(1), max.checked_add(1)];
                for value in outside.into_iter().flatten() {
                    let path = format!("{}?{name}={value}", filled(&path));
                    let answer = send(&client, &method, &path).await;
                    assert_eq!(answer.problem(400), "invalid-query", "{method} {path}");
                    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
                    assert!(detail.contains(&format!("{name} is ")), "{detail}");
                    assert!(detail.contains(&format!("{min} to {max}")), "{detail}");
                }
            }
        }
    }
}

#[tokio::test]
async fn every_operation_has_a_name_of_its_own_and_every_reference_an_end() {
    let server = Running::start().await;
    let client = server.client();
    let document = client.get("/openapi.json").await.json();
    let mut names = BTreeSet::new();
    for operations in paths(&client).await.into_values() {
        for operation in operations.into_values() {
            let name = operation["operationId"].as_str().unwrap().to_owned();
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{name}");
            assert!(operation["responses"]["default"].is_object(), "{name}");
            assert!(names.insert(name.clone()), "{name} is there twice");
        }
    }
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 20);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

/// All that is referred to.
fn collect(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value.as_str() {
                    Some(reference) if name == "$ref" => into.push(reference.to_owned()),
                    _ => collect(value, into),
                }
            }
        }
        Value::Array(elements) => elements.iter().for_each(|element| collect(element, into)),
        _ => {}
    }
}
