//! Three orders are placed, charged and shipped: `cargo run -p tidemill --example orders`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::{BusExt as _, Data, Emit, Fail, Handler as _, Message, Router, State};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

#[derive(Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "order_created", topic = "orders", key = "order_id")]
struct OrderCreated {
    order_id: u64,
    cents: u32,
}

#[derive(Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "order_paid", topic = "orders", key = "order_id")]
struct OrderPaid {
    order_id: u64,
}

/// Where the handlers say what they did.
type Journal = UnboundedSender<String>;

async fn charge(Data(order): Data<OrderCreated>) -> Result<Emit<OrderPaid>, Fail> {
    if order.cents == 0 {
        return Err(Fail::permanent("an order costs something"));
    }
    let order_id = order.order_id;
    Ok(Emit(OrderPaid { order_id })) // published with the settlement, in one commit
}

async fn ship(State(journal): State<Journal>, Data(paid): Data<OrderPaid>) -> Result<(), Fail> {
    Ok(journal.send(format!("order {} is on its way", paid.order_id))?)
}

/// Runs until three orders are shipped; each line goes to `print`.
pub(crate) async fn run(mut print: impl FnMut(String)) -> Result<(), Box<dyn std::error::Error>> {
    let bus = tidemill::open("memory:").await?;
    let (journal, mut lines) = unbounded_channel();
    let router = Router::new()
        .on(charge.id("charge").retry(5))
        .on(ship.id("ship"))
        .with_state(journal);
    for handler in router.describe() {
        print(format!("{} handles {}", handler.id, handler.ty));
    }

    for (order_id, cents) in [(1, 1999), (2, 450), (3, 12_000)] {
        bus.send(&OrderCreated { order_id, cents }).await?;
    }

    let (done, shipped) = tokio::sync::oneshot::channel::<()>();
    let serving = tidemill::serve(bus, router)
        .group("shop")
        .with_graceful_shutdown(async { shipped.await.unwrap_or_default() });
    let serving = tokio::spawn(serving.into_future());
    for _ in 0..3 {
        print(lines.recv().await.ok_or("the handlers are gone")?);
    }
    drop(done);
    let served = serving.await??;
    print(format!("{served:?}"));
    Ok(())
}

#[allow(dead_code)] // a test runs the example as a module
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    run(|line| println!("{line}")).await
}
