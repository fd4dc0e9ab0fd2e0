//! Takes the money for orders.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::{Data, Emit, Handler as _, Message, Router};

#[derive(Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "order_created", topic = "orders", key = "order_id")]
struct OrderCreated {
    order_id: u64,
}

#[derive(Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "order_paid", topic = "payments", key = "order_id")]
struct OrderPaid {
    order_id: u64,
}

async fn charge(Data(order): Data<OrderCreated>) -> Emit<OrderPaid> {
    let order_id = order.order_id;
    println!("order {order_id} is paid");
    Emit(OrderPaid { order_id })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = std::env::var("TIDEMILL_BUS").unwrap_or("tidemill://127.0.0.1:7575".into());
    let ended = async { tokio::signal::ctrl_c().await.unwrap_or(()) };
    tidemill::serve(
        tidemill::open(bus).await?,
        Router::new().on(charge.id("charge")),
    )
    .group("billing")
    .with_graceful_shutdown(ended)
    .await?;
    Ok(())
}
