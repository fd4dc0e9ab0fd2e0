//! What the derive macro refuses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::Message;

#[derive(Message, Serialize, Deserialize, JsonSchema)]
#[message(topic = "orders")]
struct NoType;

#[derive(Message, Serialize, Deserialize, JsonSchema)]
struct Nothing;

#[derive(Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "a", topic = "no topic")]
struct IllegalTopic;

#[derive(Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "a", topic = "b", key = "ordre_id")]
struct NoSuchKey {
    order_id: u64,
}

#[derive(Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "a", topic = "b", color = "red")]
struct Unknown;

#[derive(Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "a", topic = "b")]
struct Generic<T> {
    value: T,
}

#[derive(tidemill::Emission)]
enum Decided {
    Paid { order_id: u64 },
}

#[derive(tidemill::Emission)]
struct NoEnum;

fn main() {}
