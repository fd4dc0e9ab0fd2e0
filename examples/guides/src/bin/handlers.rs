//! Two orders are paid and sent off.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::{BusExt as _, Data, Emit, Fail, Handler as _, Message, Router, State};
use tokio::sync::{mpsc, oneshot};

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
    Emit(OrderPaid { order_id })
}

async fn ship(
    State(parcels): State<mpsc::Sender<u64>>,
    Data(paid): Data<OrderPaid>,
) -> Result<(), Fail> {
    parcels.send(paid.order_id).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = tidemill::open("memory:").await?;
    for order_id in [1, 2] {
        bus.send(&OrderCreated { order_id }).await?;
    }
    let (parcels, mut sent) = mpsc::channel(10);
    let router = Router::new()
        .on(charge.id("charge").retry(5))
        .on(ship.id("ship").retry(5))
        .with_state(parcels);
    let (stop, stopped) = oneshot::channel();
    let serving = tidemill::serve(bus, router)
        .group("shop")
        .with_graceful_shutdown(async { stopped.await.unwrap_or(()) });
    let serving = tokio::spawn(serving.into_future());
    for _ in 0..2 {
        sent.recv().await.ok_or("the handlers are gone")?;
    }
    stop.send(()).ok();
    let served = serving.await??;
    println!("{} events were handled", served.stats.handled);
    Ok(())
}
