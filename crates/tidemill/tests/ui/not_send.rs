//! The future of the handler cannot move between threads.

use std::rc::Rc;

#[tidemill::handler]
async fn handler() {
    let shared = Rc::new(7);
    std::future::ready(()).await;
    drop(shared);
}

fn main() {}
