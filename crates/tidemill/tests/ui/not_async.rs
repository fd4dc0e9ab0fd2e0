//! The function is not async.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::{Data, Message, Router};

#[derive(Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "order_created", topic = "orders", key = "order_id")]
struct OrderCreated {
    order_id: u64,
}

#[tidemill::handler]
fn handler(_: Data<OrderCreated>) {}

fn main() {
    let _: Router = Router::new().on(handler);
}
