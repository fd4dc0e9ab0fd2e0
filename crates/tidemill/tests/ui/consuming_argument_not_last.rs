//! An argument that consumes the event is not the last one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::{Data, Message, Router};

#[derive(Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "order_created", topic = "orders", key = "order_id")]
struct OrderCreated {
    order_id: u64,
}

#[tidemill::handler]
async fn handler(_: Data<OrderCreated>, _: tidemill::Subject) {}

fn main() {
    let _: Router = Router::new().on_pattern("orders", "*", handler);
}
