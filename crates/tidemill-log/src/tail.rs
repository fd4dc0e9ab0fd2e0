//! The in-memory end of a partition: what is committed but not yet in its segment.
//!
//! A chain of blocks that only grows at one end, by one writer, and that is freed by moving the
//! head. Readers walk it without a lock: a slot is set once, and a block stays alive as long
//! as somebody walks it.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tidemill_core::Offset;

use crate::batch::Batch;
use crate::limits::TAIL_BLOCK_SLOTS;

/// A block is closed when its batches have this many bytes: what was released stays in memory
/// until its block is passed.
const BLOCK_CLOSED_AT_BYTES: usize = 64 * 1024;

#[derive(Debug)]
struct Block {
    slots: Box<[OnceLock<Batch>]>,
    next: OnceLock<Arc<Block>>,
}

impl Block {
    fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self {
            slots: (0..slots).map(|_| OnceLock::new()).collect(),
            next: OnceLock::new(),
        })
    }

    fn get(&self, index: usize) -> Option<&Batch> {
        self.slots.get(index).and_then(OnceLock::get)
    }
}

/// A place in the chain.
#[derive(Clone, Debug)]
struct Cursor {
    block: Arc<Block>,
    index: usize,
}

impl Cursor {
    /// The batch here, moving on to the next block where this one is passed.
    fn batch(&mut self) -> Option<Batch> {
        loop {
            if let Some(batch) = self.block.get(self.index) {
                return Some(batch.clone());
            }
            // A closed block may have free slots: nothing follows in it once it has a next.
            let next = self.block.next.get()?.clone();
            if let Some(batch) = self.block.get(self.index) {
                return Some(batch.clone());
            }
            *self = Self {
                block: next,
                index: 0,
            };
        }
    }
}

/// What readers hold.
#[derive(Debug)]
pub(crate) struct Tail {
    head: ArcSwap<Cursor>,
}

impl Tail {
    /// Batches from the one that holds `offset` on, below `end`, until `max_bytes` are reached
    /// (at least one). `None` where the tail begins after `offset`.
    pub(crate) fn read(&self, offset: Offset, end: Offset, max_bytes: usize) -> Option<Vec<Batch>> {
        let mut cursor = Cursor::clone(&self.head.load());
        let first = cursor.batch()?;
        if first.base_offset() > offset {
            return None;
        }
        seek(&mut cursor, offset);
        let mut batches = Vec::new();
        let mut bytes = 0;
        while let Some(batch) = cursor.batch() {
            cursor.index += 1;
            if batch.last_offset() < offset {
                continue;
            }
            if batch.base_offset() >= end {
                break;
            }
            let size_bytes = batch.size_bytes();
            if !batches.is_empty() && bytes + size_bytes > max_bytes {
                break;
            }
            bytes += size_bytes;
            batches.push(batch);
        }
        Some(batches)
    }
}

/// Moves on by whole blocks while the next one still begins at or before `offset`, then inside
/// of the block.
fn seek(cursor: &mut Cursor, offset: Offset) {
    while let Some(next) = cursor.block.next.get() {
        match next.get(0) {
            Some(batch) if batch.base_offset() <= offset => {
                *cursor = Cursor {
                    block: next.clone(),
                    index: 0,
                };
            }
            _ => break,
        }
    }
    let before = |slot: &OnceLock<Batch>| slot.get().is_some_and(|b| b.last_offset() < offset);
    let index = cursor.block.slots.partition_point(before);
    cursor.index = cursor.index.max(index);
}

/// The one who appends and frees.
#[derive(Debug)]
pub(crate) struct TailWriter {
    head: Cursor,
    last: Arc<Block>,
    used: usize,
    used_bytes: usize,
}

impl TailWriter {
    /// An empty tail.
    pub(crate) fn new() -> (Self, Tail) {
        let block = Block::new(TAIL_BLOCK_SLOTS.0);
        let head = Cursor {
            block: block.clone(),
            index: 0,
        };
        let tail = Tail {
            head: ArcSwap::from_pointee(head.clone()),
        };
        let writer = Self {
            head,
            last: block,
            used: 0,
            used_bytes: 0,
        };
        (writer, tail)
    }

    /// Appends a batch.
    pub(crate) fn push(&mut self, batch: Batch) {
        if self.used == self.last.slots.len() || self.used_bytes >= BLOCK_CLOSED_AT_BYTES {
            let full = self.used == self.last.slots.len();
            let slots = if full { 2 * self.used } else { self.used };
            self.link(slots.clamp(TAIL_BLOCK_SLOTS.0, TAIL_BLOCK_SLOTS.1));
        }
        self.used_bytes += batch.size_bytes();
        if let Some(slot) = self.last.slots.get(self.used) {
            slot.set(batch)
                .expect("only the writer sets slots, each once");
        }
        self.used += 1;
    }

    fn link(&mut self, slots: usize) {
        let block = Block::new(slots);
        self.last
            .next
            .set(block.clone())
            .expect("only the writer links blocks, each once");
        self.last = block;
        self.used = 0;
        self.used_bytes = 0;
    }

    /// Frees every batch below `end`. What replaces it must be there for readers already.
    pub(crate) fn release(&mut self, tail: &Tail, end: Offset) {
        while self
            .head
            .batch()
            .is_some_and(|batch| batch.next_offset() <= end)
        {
            self.head.index += 1;
        }
        if self.head.batch().is_none() && self.used > 0 {
            self.link(TAIL_BLOCK_SLOTS.0);
            self.head = Cursor {
                block: self.last.clone(),
                index: 0,
            };
        }
        tail.head.store(Arc::new(self.head.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;

    fn batch(base: u64, records: u64, size: usize) -> Batch {
        let mut builder = BatchBuilder::new();
        for _ in 0..records {
            builder
                .push(0, None, Some(&vec![7; size]), std::iter::empty())
                .unwrap();
        }
        builder.finish().unwrap().with_base_offset(Offset(base))
    }

    fn bases(batches: Option<Vec<Batch>>) -> Option<Vec<u64>> {
        Some(batches?.iter().map(|batch| batch.base_offset().0).collect())
    }

    #[test]
    fn reads_begin_with_the_batch_that_holds_the_offset() {
        let (mut writer, tail) = TailWriter::new();
        for base in 0..5_000 {
            writer.push(batch(base * 2, 2, 10));
        }
        let read = tail.read(Offset(7_003), Offset(10_000), 1);
        assert_eq!(bases(read), Some(vec![7_002]));
        let read = tail.read(Offset(7_003), Offset(7_006), usize::MAX);
        assert_eq!(bases(read), Some(vec![7_002, 7_004]));
        let read = tail.read(Offset(9_998), Offset(10_000), usize::MAX);
        assert_eq!(bases(read), Some(vec![9_998]));
    }

    #[test]
    fn released_batches_are_gone_and_the_rest_is_there() {
        let (mut writer, tail) = TailWriter::new();
        for base in 0..300 {
            writer.push(batch(base, 1, 5_000));
            if base >= 10 {
                writer.release(&tail, Offset(base - 9));
                assert_eq!(tail.read(Offset(base - 10), Offset(base + 1), 1), None);
                let read = tail
                    .read(Offset(base - 9), Offset(base + 1), usize::MAX)
                    .unwrap();
                assert_eq!(read.len(), 10);
            }
        }
        writer.release(&tail, Offset(300));
        assert_eq!(tail.read(Offset(299), Offset(300), 1), None);
        writer.push(batch(300, 1, 5));
        assert_eq!(
            bases(tail.read(Offset(300), Offset(301), 1)),
            Some(vec![300])
        );
    }

    #[test]
    fn a_walk_goes_on_after_its_blocks_were_released() {
        let (mut writer, tail) = TailWriter::new();
        writer.push(batch(0, 1, 5));
        let mut early = Cursor::clone(&tail.head.load());
        writer.release(&tail, Offset(1));
        writer.push(batch(1, 1, 5));
        assert_eq!(early.batch().unwrap().base_offset(), Offset(0));
        early.index += 1;
        assert_eq!(early.batch().unwrap().base_offset(), Offset(1));
    }
}
