//! Reads a snapshot chunk by chunk, without holding more than one.

use bytes::{Buf, Bytes};

use crate::disk::{Disk, read_exact_at};
use crate::machine::Lsn;
use crate::snapshot::{
    CHUNK_HEADER_BYTES, ChunkHead, FLAG_SKIPPABLE, Housekeeping, KIND_FOOTER, KIND_HOUSEKEEPING,
    KIND_MACHINE, KIND_TABLE, TableEntry, read_table, snapshot_path,
};

/// One chunk that is whole.
pub(crate) enum Chunk {
    Machine(Bytes),
    Table(Vec<TableEntry>),
    Housekeeping(Housekeeping),
    /// Of a kind that may be skipped.
    Skipped,
    Footer,
}

/// Where a chunk lies and what moment it is of.
pub(crate) struct At {
    pub(crate) byte: u64,
    pub(crate) number: u32,
    pub(crate) kind: u16,
    pub(crate) lsn: Lsn,
    pub(crate) size_bytes: u64,
}

/// Reads snapshot `number`; `each` gets every chunk in order, and ends the reading by `false`.
///
/// # Errors
/// Where the snapshot stops to make sense, in bytes, and why.
pub(crate) fn read(
    disk: &dyn Disk,
    number: u64,
    mut each: impl FnMut(&At, Chunk) -> bool,
) -> Result<(), (u64, String)> {
    let file = disk
        .open(&snapshot_path(number))
        .map_err(|error| (0, error.to_string()))?;
    let size = file.len().map_err(|error| (0, error.to_string()))?;
    let (mut byte, mut moment) = (0, None);
    for index in 0.. {
        let wrong = |why: String| (byte, why);
        let cut = || wrong(format!("it ends inside of chunk {index}"));
        let read = |at, len| read_exact_at(file.as_ref(), at, len);
        let head = read(byte, CHUNK_HEADER_BYTES).map_err(|_| cut())?;
        let head = ChunkHead::get(&head)
            .ok_or_else(|| wrong(format!("chunk {index} does not begin here")))?;
        let size_bytes = (CHUNK_HEADER_BYTES + head.length) as u64;
        if byte + size_bytes > size {
            return Err(cut());
        }
        let payload = read(byte + CHUNK_HEADER_BYTES as u64, head.length)
            .map_err(|error| wrong(error.to_string()))?;
        if !head.covers(&payload) || head.number != index {
            return Err(wrong(format!(
                "the checksum of chunk {index} does not hold"
            )));
        }
        if *moment.get_or_insert(head.lsn) != head.lsn {
            return Err(wrong(format!("chunk {index} is of another moment")));
        }
        let chunk = chunk(&head, payload).map_err(wrong)?;
        let at = At {
            byte,
            number: index,
            kind: head.kind,
            lsn: head.lsn,
            size_bytes,
        };
        let is_last = matches!(chunk, Chunk::Footer);
        byte += size_bytes;
        if !each(&at, chunk) {
            return Ok(());
        }
        if is_last {
            break;
        }
    }
    match size - byte {
        0 => Ok(()),
        more => Err((byte, format!("{more} bytes follow the footer"))),
    }
}

fn chunk(head: &ChunkHead, payload: Bytes) -> Result<Chunk, String> {
    let index = head.number;
    match head.kind {
        KIND_MACHINE => Ok(Chunk::Machine(payload)),
        KIND_TABLE => {
            let mut table = Vec::new();
            read_table(payload, &mut table)
                .ok_or_else(|| format!("chunk {index} is no table of partitions"))?;
            Ok(Chunk::Table(table))
        }
        KIND_HOUSEKEEPING => {
            let mut kept = Housekeeping::default();
            Housekeeping::get(payload, &mut kept)
                .ok_or_else(|| format!("chunk {index} is no list of what was deleted"))?;
            Ok(Chunk::Housekeeping(kept))
        }
        KIND_FOOTER if payload.len() == 8 && payload.clone().get_u32_le() == index => {
            Ok(Chunk::Footer)
        }
        KIND_FOOTER => Err("the footer counts other chunks".to_owned()),
        _ if head.flags & FLAG_SKIPPABLE != 0 => Ok(Chunk::Skipped),
        kind => Err(format!(
            "chunk {index} has kind {kind}, use a newer version"
        )),
    }
}
