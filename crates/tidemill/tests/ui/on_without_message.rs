//! `on` cannot know the event type of a handler that takes any JSON.

use tidemill::{Json, Router};

async fn handler(_: Json<u32>) {}

fn main() {
    let _: Router = Router::new().on(handler);
}
