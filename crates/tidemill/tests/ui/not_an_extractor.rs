//! An argument takes nothing from a delivery.

use tidemill::Router;

struct Number(u32);

#[tidemill::handler]
async fn handler(_: Number) {}

fn main() {
    let _: Router = Router::new().on_pattern("orders", "*", handler);
}
