//! Takes a backup of a log that is open: its thread holds the moment, this one copies.

use std::sync::Arc;
use std::sync::mpsc;

use uuid::Uuid;

use super::clock::Clock;
use super::handle::Handle;
use super::inbox::{Control, Inbox};
use crate::backup::{self, BackedUp, BackupError, Pinned, Taking};
use crate::disk::Disk;
use crate::inspect::Progress;
use crate::log::PinId;
use crate::machine::Machine;

/// Holds a moment of the log until it is dropped.
struct Hold<T> {
    inbox: Arc<Inbox<T>>,
    id: PinId,
}

impl<T> Hold<T> {
    /// Waits until the log holds a moment.
    fn take(inbox: &Arc<Inbox<T>>) -> Result<(Self, Pinned), BackupError> {
        let (sender, receiver) = mpsc::channel();
        inbox.control(Control::Pin(sender));
        // Nobody sends where the log has ended.
        let (id, pinned) = receiver.recv().map_err(|_| BackupError::Closed)?;
        let inbox = inbox.clone();
        Ok((Self { inbox, id }, pinned))
    }
}

impl<T> Drop for Hold<T> {
    fn drop(&mut self) {
        self.inbox.control(Control::Release(self.id));
    }
}

impl<M: Machine> Handle<M> {
    /// Takes a backup of what is durable now into an empty disk, while the log goes on. Blocks
    /// until it is whole and durable. Where `link` is given, files that never change again share
    /// their bytes with the log's, if both lie on one file system.
    ///
    /// # Errors
    /// [`BackupError`]; what is in `to` then is refused by [`backup::restore()`].
    pub fn backup(
        &self,
        to: &dyn Disk,
        link: bool,
        watch: &mut dyn FnMut(Progress<'_>),
    ) -> Result<BackedUp, BackupError> {
        let (hold, pinned) = Hold::take(self.inbox())?;
        let how = Taking {
            taken: Clock::start().now().wall,
            seed: Uuid::now_v7(),
            link,
            watch,
        };
        let from = self.reader().files().disk().clone();
        let mut loosen = || hold.inbox.control(Control::Loosen(hold.id));
        backup::take(from.as_ref(), &pinned, to, how, &mut loosen)
    }
}
