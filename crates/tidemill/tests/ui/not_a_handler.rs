//! Without `#[tidemill::handler]` the message says how to learn more.

use tidemill::Router;

async fn handler(_: u32) {}

fn main() {
    let _: Router = Router::new().on_pattern("orders", "*", handler);
}
