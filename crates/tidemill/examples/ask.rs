//! A question and its answer over a bus: `cargo run -p tidemill --example ask`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::{BusExt as _, Data, Fail, Handler as _, Message, Reply, Router};

#[derive(Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "price_asked", topic = "prices", key = "article")]
struct PriceAsked {
    article: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Price {
    cents: u32,
}

async fn price(Data(asked): Data<PriceAsked>) -> Result<Reply<Price>, Fail> {
    match asked.article.as_str() {
        "tea" => Ok(Reply(Price { cents: 450 })),
        other => Err(Fail::permanent(format!("there is no article {other:?}"))),
    }
}

/// Asks for two prices, one of which there is; each line goes to `print`.
pub(crate) async fn run(mut print: impl FnMut(String)) -> Result<(), Box<dyn std::error::Error>> {
    let bus = tidemill::open("memory:").await?;
    let (done, answered) = tokio::sync::oneshot::channel::<()>();
    let serving = tidemill::serve(bus.clone(), Router::new().on(price.id("price")))
        .group("prices")
        .with_graceful_shutdown(async { answered.await.unwrap_or_default() });
    let serving = tokio::spawn(serving.into_future());

    for article in ["tea", "gold"] {
        let asked = PriceAsked {
            article: article.to_owned(),
        };
        match bus.ask::<_, Price>(&asked, Duration::from_secs(5)).await {
            Ok(price) => print(format!("{article} costs {} cents", price.cents)),
            Err(error) => print(format!("no price for {article}: {error}")),
        }
    }
    drop(done);
    serving.await??;
    Ok(())
}

#[allow(dead_code)] // a test runs the example as a module
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    run(|line| println!("{line}")).await
}
