//! `tidemill handler` and `tidemill graph` beside a demo: what the shop's services and the text
//! messages handle, and what flows between them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use support::{Running, run, tidemill};

const DEMO: [&str; 11] = [
    "demo",
    "--bus",
    "memory:",
    "--rate",
    "20",
    "--http",
    "127.0.0.1:0",
    "--shop",
    "127.0.0.1:0",
    "--messages",
    "127.0.0.1:0",
];

/// A demo that has begun, and where its doors are.
fn demo() -> (Running, String) {
    let mut command = tidemill();
    command.args(DEMO);
    let mut running = Running::start(command);
    let url = running
        .line("http:")
        .trim_start_matches("http: ")
        .to_owned();
    running.line("    1s  published");
    (running, url)
}

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_demos_handlers_are_listed_and_shown() {
    let (running, url) = demo();
    let ask = |words: &[&str]| run(&[words, &["--server", &url]].concat());
    let all = lines(&ask(&["handler", "list", "--json"]).done());
    let groups: std::collections::BTreeSet<_> = all
        .iter()
        .map(|handler| handler["group"].as_str().unwrap())
        .collect();
    for group in ["orders", "payment", "stock", "messages"] {
        assert!(groups.contains(group), "{groups:?}");
    }
    let publishing = |handler: &&Value| {
        let outputs = handler["outputs"].as_array().unwrap();
        outputs
            .iter()
            .any(|output| output["topic"].is_string() && output["schema"].is_object())
    };
    let one = all.iter().find(publishing).expect("a handler publishes");
    assert!(one["served_by"][0]["since"].is_string(), "{one}");
    let (id, group) = (one["id"].as_str().unwrap(), one["group"].as_str().unwrap());

    let table = ask(&["handler", "list", "--group", group]).done();
    assert!(
        table.trim_start().starts_with("HANDLER") && table.contains(id),
        "{table}"
    );
    let shown = ask(&["handler", "show", id, "--group", group]).done();
    assert!(
        shown.contains("served by") && shown.contains("schema"),
        "{shown}"
    );
    let shown = lines(&ask(&["handler", "show", id, "--group", group, "--json"]).done());
    assert_eq!(shown, std::slice::from_ref(one));
    let unknown = ask(&["handler", "show", "nobody"]).failed();
    assert!(unknown.contains("handler list"), "{unknown}");
    running.stop("TERM").done();
}

#[test]
fn the_demos_flow_is_shown_as_a_table_as_json_and_for_mermaid() {
    let (running, url) = demo();
    let ask = |words: &[&str]| run(&[words, &["--server", &url]].concat());
    let has = |graph: &Value, from: &str, to: &str| {
        let mut edges = graph["edges"].as_array().unwrap().iter();
        edges.any(|edge| edge["from"] == from && edge["to"] == to && edge["seen"] == true)
    };
    support::patiently("orders go from group to group", || {
        let json: Value = serde_json::from_str(&ask(&["graph", "--json"]).done()).unwrap();
        has(&json, "topic:orders", "group:payment") && has(&json, "group:orders", "topic:orders")
    });
    let table = ask(&["graph"]).done();
    assert!(
        table.trim_start().starts_with("FROM") && table.contains("topic:orders"),
        "{table}"
    );
    let text = ask(&["graph", "--mermaid"]).done();
    assert!(
        text.starts_with("flowchart LR\n") && text.contains("payment"),
        "{text}"
    );
    ask(&["graph", "--mermaid", "--json"]).misused();
    running.stop("TERM").done();
}

#[test]
fn a_folder_at_rest_is_served_by_nobody() {
    let data = support::data::written();
    let folder = data.path().to_str().unwrap();
    // No option of theirs says that they could be asked of one.
    for command in [&["handler", "list"][..], &["graph"], &["request", "t", "1"]] {
        let refused = run(&[command, &["--data", folder]].concat()).misused();
        assert!(refused.contains("--data"), "{refused}");
        let help = run(&[command, &["--help"]].concat()).done();
        assert!(!help.contains("--data"), "{help}");
    }
}
