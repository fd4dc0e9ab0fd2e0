//! The router is finished without the state that a handler asks for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::{Data, Message, Router};

#[derive(Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "order_created", topic = "orders", key = "order_id")]
struct OrderCreated {
    order_id: u64,
}

#[derive(Clone)]
struct Shop;

async fn handler(_: tidemill::State<Shop>, _: Data<OrderCreated>) {}

fn main() {
    let _ = Router::new().on(handler).finish();
}

fn serve(bus: tidemill::Bus) {
    let _ = tidemill::serve(bus, Router::new().on(handler).with_state(Shop));
    let _ = tidemill::serve(bus, Router::<Shop>::new().on(handler));
}
