//! Who waits for the reply to a request. In memory only: a reply is never stored.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytestring::ByteString;
use tidemill_core::Event;
use tidemill_core::event::REPLY_TO;
use tokio::sync::oneshot;

use crate::limits::INBOXES_MAX;

/// What a request is answered with.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The handler's reply.
    Reply(Box<Event>),
    /// The handler gave it up, for this reason.
    DeadLettered(String),
}

/// The inboxes of this process, by their names.
#[derive(Debug)]
pub(crate) struct Inboxes {
    /// What the names begin with: another process' inboxes have other names.
    prefix: String,
    next: AtomicU64,
    waiting: Mutex<HashMap<ByteString, oneshot::Sender<Answer>>>,
}

impl Inboxes {
    /// Inboxes of one opening of a broker, whose number no other has.
    pub(crate) fn new(incarnation: &str) -> Self {
        Self {
            prefix: format!("inbox/{incarnation}/"),
            next: AtomicU64::new(0),
            waiting: Mutex::default(),
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<ByteString, oneshot::Sender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an inbox for one answer; `None` where too many wait.
    pub(crate) fn open(self: &Arc<Self>) -> Option<(Inbox, oneshot::Receiver<Answer>)> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = ByteString::from(format!("{}{number}", self.prefix));
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting();
        if waiting.len() >= INBOXES_MAX {
            return None;
        }
        waiting.insert(name.clone(), sender);
        let inboxes = Arc::clone(self);
        Some((Inbox { name, inboxes }, receiver))
    }

    /// Answers a request, if it came from here and is still waited for; the first answer wins.
    pub(crate) fn answer(&self, request: &Event, answer: Answer) -> bool {
        let Some(to) = request.extension_str(REPLY_TO) else {
            return false;
        };
        let sender = self.waiting().remove(to);
        sender.is_some_and(|sender| sender.send(answer).is_ok())
    }
}

/// One inbox; dropped, nobody waits any longer.
#[derive(Debug)]
pub(crate) struct Inbox {
    name: ByteString,
    inboxes: Arc<Inboxes>,
}

impl Inbox {
    /// What `replyto` is to be.
    pub(crate) fn name(&self) -> &ByteString {
        &self.name
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.inboxes.waiting().remove(&self.name);
    }
}
