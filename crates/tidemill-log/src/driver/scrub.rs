//! The scrubbing's thread: reads what the scrubber says, and sleeps between.

use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};

use super::clock::Clock;
use crate::disk::Disk;
use crate::scrub::{ScrubStep, Scrubber};

/// Runs until nobody holds the other end of `off`.
pub(super) fn run(mut scrubber: Scrubber, disk: &dyn Disk, clock: Clock, off: &Receiver<()>) {
    loop {
        match scrubber.poll(clock.now()) {
            ScrubStep::Read(read) => {
                scrubber.finish(read.run(disk));
                if off.try_recv() == Err(TryRecvError::Disconnected) {
                    return;
                }
            }
            ScrubStep::Wait(wait) => {
                if off.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        }
    }
}
