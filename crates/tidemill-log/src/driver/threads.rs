//! The two threads: the log's, which also writes the journal, and one for steps in the background.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tidemill_core::error::Unavailable;

use super::Observer;
use super::clock::Clock;
use super::inbox::{Arrivals, Control, Inbox};
use crate::backup::Pinned;
use crate::disk::DiskLock;
use crate::io::{Files, Io, Lane};
use crate::log::{Health, Log, Outcome, PinId, Place, Step};
use crate::machine::Machine;

/// What is called when an operation has ended.
pub(super) type Done<M> = Box<dyn FnOnce(Outcome<M>) + Send>;

/// Who waits for a moment of the log.
type PinSender = mpsc::Sender<(PinId, Pinned)>;

/// An operation on its way to the log.
pub(super) struct Submission<M: Machine> {
    pub(super) operation: M::Operation,
    pub(super) done: Done<M>,
    /// Its memory.
    pub(super) place: Place,
}

/// What the log's thread works with.
pub(super) struct LogThread<M: Machine> {
    pub(super) log: Log<M, Done<M>>,
    pub(super) inbox: Arc<Inbox<Submission<M>>>,
    pub(super) files: Arc<Files>,
    pub(super) clock: Clock,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) health: Arc<ArcSwap<Health>>,
    /// The background's thread; at most one step is on its way.
    pub(super) background: mpsc::Sender<Io>,
    /// Held as long as the log may write.
    pub(super) lock: DiskLock,
    /// Something was handled in this life: a good end of it counts.
    pub(super) handling: Arc<AtomicBool>,
}

impl<M: Machine> LogThread<M> {
    /// Runs until the log has ended.
    pub(super) fn run(mut self) {
        let _guard = AtTheEnd {
            inbox: self.inbox.clone(),
            health: self.health.clone(),
        };
        let mut closing = false;
        let mut pins = Vec::new();
        self.log.space(self.files.disk().available_bytes());
        loop {
            self.log.tick(self.clock.now());
            self.pin(&mut pins);
            match self.log.poll() {
                Step::Io(io) if io.lane == Lane::Journal => {
                    let result = io.run(&self.files);
                    self.log.finish(io.id, result);
                    let arrivals = self.inbox.take();
                    self.take(arrivals, &mut closing, &mut pins);
                }
                Step::Io(io) => {
                    self.background
                        .send(io)
                        .expect("the background's thread ends after this one");
                }
                Step::Done { token, outcome } => token(outcome),
                Step::Advanced { id, end } => self.observer.advanced(id, end),
                Step::Failed(why) => {
                    tracing::error!(%why, "the log takes no more writes");
                    self.show_health();
                    self.observer.failed(&why);
                }
                Step::Idle { wake_at } => {
                    self.show_health();
                    let now = self.clock.now().monotonic;
                    let at_most = wake_at.map(|at| at.saturating_sub(now));
                    let at_most = at_most.map(|wait| wait.max(Duration::from_micros(50)));
                    let arrivals = self.inbox.wait(at_most, closing);
                    self.take(arrivals, &mut closing, &mut pins);
                }
                Step::Closed => break,
            }
        }
        if !self.lock.after_bad_end() || self.handling.load(Ordering::Acquire) {
            self.lock.end_well();
        }
        for left in self.inbox.abandon() {
            self.log
                .submit_at(left.operation, left.done, Some(left.place));
        }
        while let Step::Done { token, outcome } = self.log.poll() {
            token(outcome);
        }
    }

    /// Holds moments for those who wait for one, if that is possible now.
    fn pin(&mut self, waiting: &mut Vec<PinSender>) {
        while !waiting.is_empty()
            && let Some((id, pinned)) = self.log.pin()
        {
            let taken = waiting.pop().map(|sender| sender.send((id, pinned)));
            if !matches!(taken, Some(Ok(()))) {
                self.log.release(id);
            }
        }
    }

    fn take(
        &mut self,
        arrivals: Arrivals<Submission<M>>,
        closing: &mut bool,
        pins: &mut Vec<PinSender>,
    ) {
        for control in arrivals.controls {
            match control {
                Control::Pin(sender) => pins.push(sender),
                Control::Loosen(id) => self.log.loosen(id),
                Control::Release(id) => self.log.release(id),
            }
        }
        for (id, result, left_bytes) in arrivals.finished {
            self.log.finish(id, result);
            self.log.space(left_bytes);
        }
        for submission in arrivals.items {
            let Submission {
                operation,
                done,
                place,
            } = submission;
            self.log.submit_at(operation, done, Some(place));
        }
        if arrivals.closing && !*closing {
            *closing = true;
            self.log.close();
        }
    }

    fn show_health(&self) {
        let health = self.log.health();
        if **self.health.load() != health {
            self.health.store(Arc::new(health));
        }
    }
}

/// However the log's thread ends, by a panic too, whoever waits for it must learn of it: what
/// they gave is dropped, and nothing more is taken.
struct AtTheEnd<T> {
    inbox: Arc<Inbox<T>>,
    health: Arc<ArcSwap<Health>>,
}

impl<T> Drop for AtTheEnd<T> {
    fn drop(&mut self) {
        drop(self.inbox.abandon());
        if !matches!(**self.health.load(), Health::ReadOnly(_)) {
            self.health
                .store(Arc::new(Health::ReadOnly(Unavailable::Closed)));
        }
    }
}

/// Runs the background's steps until the log's thread is gone.
pub(super) fn background<M: Machine>(
    steps: &mpsc::Receiver<Io>,
    files: &Files,
    readers: &Files,
    inbox: &Inbox<Submission<M>>,
) {
    for io in steps {
        let result = io.run(files);
        readers.forget_removed(&io);
        inbox.finished((io.id, result, files.disk().available_bytes()));
    }
}
