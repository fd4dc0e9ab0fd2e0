//! The return value is no outcome.

use tidemill::Router;

#[tidemill::handler]
async fn handler() -> u32 {
    7
}

fn main() {
    let _: Router = Router::new().on_pattern("orders", "*", handler);
}
