//! A snapshot is written a chunk at a time: commits wait for one chunk, never for all of them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;

use common::{ByHand, Operation};
use tidemill_log::driver::MemoryDisk;
use tidemill_log::{Action, Disk, Io, Lane, Options, Step};

const REGISTERS: u64 = 200;

/// The bytes that this writes to a snapshot, where it does.
fn snapshot_bytes(io: &Io) -> Option<usize> {
    let written = io.actions.iter().filter_map(|action| match action {
        Action::Write { path, pieces, .. } if path.starts_with("snapshots/") => {
            Some(pieces.iter().map(bytes::Bytes::len).sum::<usize>())
        }
        _ => None,
    });
    written.reduce(|all, more| all + more)
}

/// Sets a register, with one step of the background beside the commit. Answers what that wrote
/// to a snapshot.
fn set(log: &mut ByHand, key: u64, value: u64) -> Option<usize> {
    let token = log.submit(Operation::Set(key, value));
    let mut beside = None;
    loop {
        match log.log.poll() {
            Step::Io(io) if io.lane == Lane::Journal => {
                finish(log, &io);
                if let Some(io) = &beside {
                    finish(log, io);
                }
            }
            Step::Io(io) => {
                assert!(beside.is_none(), "a commit waits for one step at most");
                beside = Some(io);
            }
            Step::Done { token: of, outcome } => {
                assert_eq!(of, token);
                outcome.unwrap();
                return beside.as_ref().and_then(snapshot_bytes);
            }
            Step::Advanced { .. } => {}
            Step::Idle { .. } => panic!("the commit is to be made"),
            Step::Failed(why) => panic!("{why}"),
            Step::Closed => panic!("it is open"),
        }
    }
}

fn finish(log: &mut ByHand, io: &Io) {
    let result = io.run(&log.files);
    log.log.finish(io.id, result);
}

#[test]
fn a_commit_waits_for_one_chunk_of_a_snapshot_at_most() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30));
    let mut options = Options::default();
    options.checkpoint_after_bytes = 2 << 20;
    let mut log = ByHand::open(&disk, &options).unwrap();
    let (mut count, mut pieces) = (0, 0);
    // Ten registers a chunk.
    while pieces < REGISTERS / 10 {
        let written = set(&mut log, count % REGISTERS, count);
        if let Some(bytes) = written {
            assert!(bytes < 1000, "a commit waited for {bytes} bytes");
            pieces += 1;
        }
        count += 1;
        assert!(count < 5000, "{pieces} chunks were written");
    }
    for _ in 0..10 {
        set(&mut log, count % REGISTERS, count);
        count += 1;
    }
    drop(log);
    let mut log = ByHand::open(&disk, &options).unwrap();
    for n in count - REGISTERS..count {
        let value = log.run(Operation::Get(n % REGISTERS)).unwrap();
        assert_eq!(value, n, "register {}", n % REGISTERS);
    }
}
