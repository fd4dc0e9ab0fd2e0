//! A question, its answer, and one that has none.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::{AskError, BusExt as _, Data, Fail, Handler as _, Message, Reply, Router};

#[derive(Message, Serialize, Deserialize, JsonSchema)]
#[message(type = "get_price", topic = "price_requests", key = "article")]
struct GetPrice {
    article: String,
}

async fn price(Data(asked): Data<GetPrice>) -> Result<Reply<u32>, Fail> {
    match asked.article.as_str() {
        "tea" => Ok(Reply(450)),
        other => Err(Fail::permanent(format!("there is no {other}"))),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bus = tidemill::open("memory:").await?;
    let serving = tidemill::serve(bus.clone(), Router::new().on(price.id("price"))).group("prices");
    tokio::spawn(serving.into_future());
    for article in ["tea", "gold"] {
        let asked = GetPrice {
            article: article.to_owned(),
        };
        let answer: Result<u32, AskError> = bus.ask(&asked, Duration::from_secs(10)).await;
        match answer {
            Ok(cents) => println!("{article} costs {cents} cents"),
            Err(why) => println!("no price for {article}: {why}"),
        }
    }
    Ok(())
}
