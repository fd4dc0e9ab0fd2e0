//! The way to the task that has the connection: calls that are answered, and commands that are
//! not. Calls are numbered here, once for the life of the bus.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidemill_core::Catalogue;
use tidemill_core::wire::{Call, ClientFrame, Failed, Fault, ServerFrame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

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
        /// Where nobody waits for its answer any longer, it need not be said at all. A settlement
        /// must be: who settled it is gone, and nobody else gives it back.
        droppable: bool,
        answered: Answered,
        /// What it takes of the calls there may be at once, until it has its answer.
        place: Option<OwnedSemaphorePermit>,
    },
    /// A new membership.
    Join(Arc<Joined>, oneshot::Sender<Result<(), Fault>>),
    /// Join anew, after the server had refused it.
    Rejoin(u64),
    /// Its member has left.
    Leave(u64),
    /// It may have more.
    Credit(u64),
    /// What its program handles.
    Describe(u64, Arc<Catalogue>),
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
    calls: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    counts: Arc<Counts>,
}

/// Counted by the task, read by calls.
#[derive(Default)]
pub(super) struct Counts {
    /// Numbers the session that is on.
    pub(super) epoch: AtomicU64,
    /// Numbers the connection that is on.
    pub(super) connection: AtomicU64,
}

impl Link {
    /// The link, and what its task takes.
    pub(super) fn new(counts: Arc<Counts>) -> (Self, mpsc::UnboundedReceiver<Command>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            next: AtomicU64::new(1),
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            waiting: Arc::new(Semaphore::new(WAITING_CALLS_MAX)),
            counts,
        });
        (Self { commands, shared }, receiver)
    }

    /// A number for a call, a subscription or a watch.
    pub(super) fn number(&self) -> u64 {
        self.shared.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The session that is on.
    pub(super) fn epoch(&self) -> u64 {
        self.shared.counts.epoch.load(Ordering::Acquire)
    }

    /// The connection that is on: as long as it is the same, no call was sent again.
    pub(super) fn connection(&self) -> u64 {
        self.shared.counts.connection.load(Ordering::Acquire)
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
        let place = Arc::clone(&self.shared.calls).acquire_owned().await;
        let place = Some(place.map_err(|_| Lost)?);
        let droppable = again == Again::Always;
        self.go(id, text, again, droppable, place).await
    }

    /// As [`Link::call`], for one that may have to wait long.
    pub(super) async fn wait(
        &self,
        id: u64,
        text: String,
        again: Again,
    ) -> Result<Result<ServerFrame, Fault>, Lost> {
        let place = Arc::clone(&self.shared.waiting).acquire_owned().await;
        let place = Some(place.map_err(|_| Lost)?);
        self.go(id, text, again, true, place).await
    }

    /// As [`Link::call`], for a caller that bounds its calls itself.
    pub(super) async fn send(
        &self,
        id: u64,
        text: String,
        again: Again,
    ) -> Result<Result<ServerFrame, Fault>, Lost> {
        self.go(id, text, again, false, None).await
    }

    async fn go(
        &self,
        id: u64,
        text: String,
        again: Again,
        droppable: bool,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<Result<ServerFrame, Fault>, Lost> {
        let (answered, answer) = oneshot::channel();
        self.tell(Command::Call {
            id,
            text,
            again,
            droppable,
            answered,
            place,
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
            droppable: false,
            answered,
            place: None,
        });
    }
}
