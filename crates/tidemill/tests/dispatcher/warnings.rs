//! Warnings of a test, each with its fields.
//!
//! One subscriber for the process keeps them by thread. A subscriber of each test's own would miss
//! some: where a line of code warns first on a thread without a subscriber, tracing remembers that
//! nobody listens to that line.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::OnceLock;

use tracing::field::{Field, Visit};
use tracing::{Level, Metadata, Subscriber, span};

thread_local! {
    static TOLD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Begins to listen; whatever runs a dispatcher calls this before.
pub(crate) fn listen() {
    static LISTENING: OnceLock<()> = OnceLock::new();
    LISTENING.get_or_init(|| tracing::subscriber::set_global_default(ByThread).unwrap());
}

/// Forgets what this thread was told before.
pub(crate) fn forget() {
    TOLD.with_borrow_mut(Vec::clear);
}

/// What this thread was told.
pub(crate) fn told() -> Vec<String> {
    TOLD.with_borrow(Vec::clone)
}

struct ByThread;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for ByThread {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        TOLD.with_borrow_mut(|told| told.push(line.0));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
