//! The way to the task that has the connection: calls that are answered, and commands that are
//! not. Calls are numbered here, once for the life of the bus.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_core::wire::{Call, ClientFrame, Failed, Fault, ServerFrame};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::joined::Joined;
use super::limits::{CALLS_MAX, WAITING_CALLS_MAX};
use super::watching::Watching;

/// The call's session is gone, and with it what is known of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost;

pub(super) type Answered = oneshot::Sender<Result<ServerFrame, Lost>>;

/// How long a call may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// Always: it changes nothing, or is known by its numbers.
    Always,
    /// Within this session, which knows its calls.
    InSession(u64),
}

/// What the connection's task is told.
pub(super) enum Command {
    /// A call that is answered.
    Call {
        id: u64,
        text: String,
        again: Again,
        answered: Answered,
    },
    /// A new membership.
    Join(Arc<Joined>, oneshot::Sender<Result<(), Fault>>),
    /// Join anew, after the server had refused it.
    Rejoin(u64),
    /// Its member has left.
    Leave(u64),
    /// It may have more.
    Credit(u64),
    /// A new watch.
    Watch(Arc<Watching>),
    /// It ended.
    Unwatch(u64),
}

/// See the module. Clones are the same; the connection ends with the last one.
#[derive(Clone)]
pub(super) struct Link {
    commands: mpsc::UnboundedSender<Command>,
    shared: Arc<Shared>,
}

struct Shared {
    next: AtomicU64,
    calls: Semaphore,
    waiting: Semaphore,
    epoch: Arc<AtomicU64>,
}

impl Link {
    /// The link, and what its task takes. `epoch` numbers the session that is on.
    pub(super) fn new(epoch: Arc<AtomicU64>) -> (Self, mpsc::UnboundedReceiver<Command>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            next: AtomicU64::new(1),
            calls: Semaphore::new(CALLS_MAX),
            waiting: Semaphore::new(WAITING_CALLS_MAX),
            epoch,
        });
        (Self { commands, shared }, receiver)
    }

    /// A number for a call, a subscription or a watch.
    pub(super) fn number(&self) -> u64 {
        self.shared.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The session that is on.
    pub(super) fn epoch(&self) -> u64 {
        self.shared.epoch.load(Ordering::Acquire)
    }

    pub(super) fn tell(&self, command: Command) {
        // The task ends after the last link alone.
        let _ = self.commands.send(command);
    }

    /// Sends a call, again after a connection that broke, until it has its answer.
    pub(super) async fn call(
        &self,
        id: u64,
        text: String,
        again: Again,
    ) -> Result<Result<ServerFrame, Fault>, Lost> {
        let _place = self.shared.calls.acquire().await.map_err(|_| Lost)?;
        self.send(id, text, again).await
    }

    /// As [`Link::call`], for one that may have to wait long.
    pub(super) async fn wait(
        &self,
        id: u64,
        text: String,
        again: Again,
    ) -> Result<Result<ServerFrame, Fault>, Lost> {
        let _place = self.shared.waiting.acquire().await.map_err(|_| Lost)?;
        self.send(id, text, again).await
    }

    /// As [`Link::call`], for a caller that bounds its calls itself.
    pub(super) async fn send(
        &self,
        id: u64,
        text: String,
        again: Again,
    ) -> Result<Result<ServerFrame, Fault>, Lost> {
        let (answered, answer) = oneshot::channel();
        self.tell(Command::Call {
            id,
            text,
            again,
            answered,
        });
        match answer.await {
            Ok(Ok(ServerFrame::Error(Failed { fault, .. }))) => Ok(Err(fault)),
            Ok(Ok(frame)) => Ok(Ok(frame)),
            Ok(Err(Lost)) | Err(_) => Err(Lost),
        }
    }

    /// A call that changes nothing.
    pub(super) async fn ask(&self, call: impl FnOnce(u64) -> Call) -> Result<ServerFrame, Fault> {
        let id = self.number();
        let frame = ClientFrame::Call(call(id));
        let asked = self.call(id, frame.encode(), Again::Always).await;
        // Only where the runtime ends.
        asked.unwrap_or(Err(Fault::Closed))
    }

    /// A call whose answer nobody waits for.
    pub(super) fn post(&self, id: u64, call: Call, again: Again) {
        let (answered, _) = oneshot::channel();
        self.tell(Command::Call {
            id,
            text: ClientFrame::Call(call).encode(),
            again,
            answered,
        });
    }
}
