//! The binary `tidemill-shop`: a process of its own that ends when it is asked to, goes on where it
//! was, and leaves its databases to nobody else.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use std::path::Path;
use std::process::Output;

use serde_json::json;
use support::http::Client;
use support::process::{Running, command};

fn arguments<'a>(services: &'a str, bus: &'a str, data: &'a str) -> Vec<&'a str> {
    vec![
        services,
        "--bus",
        bus,
        "--data",
        data,
        "--http",
        "127.0.0.1:0",
    ]
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn all_services_in_one_process_end_when_asked_and_go_on_where_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let (bus, data) = (folder.path().join("bus"), folder.path().join("data"));
    let arguments = arguments("all", text(&bus), text(&data));
    let shop = Running::start(&arguments);
    let mut client = Client::new(shop.http());
    // The first thing that anybody tries.
    let picked = json!({"user_id": 1, "product_id": 1});
    assert_eq!(client.post("/cart/add", &picked).unwrap().0, 200);
    let product = json!({"name": "Kettle", "price": 20, "stock": 2});
    let (code, product) = client.post("/products", &product).unwrap();
    assert_eq!(code, 201, "{product}");
    let order = json!({"user_id": 1, "products": [{"id": product["id"]}]});
    let (code, order) = client.post("/order/create", &order).unwrap();
    assert_eq!(code, 201, "{order}");
    shop.stop();
    let shop = Running::start(&arguments);
    let mut client = Client::new(shop.http());
    let (_, products) = client.get("/products").unwrap();
    assert_eq!(products["products"].as_array().unwrap().len(), 11);
    let id = json!({"order_id": order["order_id"]});
    assert_eq!(client.post("/order/pay", &id).unwrap().0, 200);

    // Two shops on one folder of databases: the second says what is wrong.
    let second = run(&["orders", "--bus", "memory:", "--data", text(&data)]);
    let said = error(&second);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(
        said.contains("orders") && said.contains("another process has it open"),
        "{said}"
    );
    // And on one bus that is a folder.
    let other = folder.path().join("other");
    let second = run(&["orders", "--bus", text(&bus), "--data", text(&other)]);
    assert_eq!(second.status.code(), Some(1), "{}", error(&second));
    assert_eq!(client.post("/order/confirm", &id).unwrap().0, 200);
    shop.stop();
}

#[test]
fn wrong_use_says_what_is_wrong() {
    for (arguments, part) in [
        (&["nonsense", "--bus", "memory:"][..], "possible values"),
        (&["orders"], "--bus"),
        (&["door", "--bus", "memory:"], "--http"),
        (
            &["orders", "--bus", "memory:", "--http", "0.0.0.0:0"],
            "--insecure",
        ),
    ] {
        let output = run(arguments);
        let said = error(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(part), "{said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let output = run(&["orders", "--bus", "nonsense://x", "--data", text(&data)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("no bus for nonsense"), "{output:?}");
    let help = run(&["--help"]);
    assert!(
        String::from_utf8(help.stdout)
            .unwrap()
            .contains("Examples:")
    );
}
