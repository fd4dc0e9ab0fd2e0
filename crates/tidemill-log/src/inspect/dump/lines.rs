//! How each thing of the format looks as a line.

use bytes::Bytes;

use super::{Out, Value, number};
use crate::batch::{Batch, Record};
use crate::disk::{DiskFile, read_exact_at};
use crate::inspect::snapshot::{At, Chunk};
use crate::journal::commit::CommitHeader;
use crate::journal::entry::Part;
use crate::limits::BATCH_MAX_BYTES;
use crate::segment::{Kept, Segment};
use crate::superblock::{FORMAT_VERSION, Superblock};

type Fields = Vec<(&'static str, Value)>;

fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

pub(super) fn superblock(path: &str, block: &Superblock) -> Fields {
    vec![
        ("file", text(path)),
        ("version", Value::Number(u64::from(FORMAT_VERSION))),
        ("sequence", Value::Number(block.sequence)),
        ("log", Value::Id(block.log)),
        ("journal", Value::Id(block.journal)),
        ("epoch", Value::Number(block.epoch)),
        ("snapshot", Value::Number(block.snapshot)),
        ("head_file", Value::Number(u64::from(block.head.file))),
        ("head_lap", Value::Number(block.head.lap)),
        ("head_byte", Value::Number(block.head.offset)),
        ("head_entry", Value::Number(block.head.first.0)),
        ("durable_through", Value::Number(block.durable_through.0)),
        ("head_bytes", Value::Number(block.head_bytes)),
    ]
}

pub(super) fn commit(path: &str, header: &CommitHeader) -> Fields {
    vec![
        ("file", text(path)),
        ("byte", Value::Number(header.offset)),
        ("first_entry", Value::Number(header.first.0)),
        ("entries", Value::Number(u64::from(header.count))),
        ("bytes", Value::Number(u64::from(header.length))),
        ("synced_through", Value::Number(header.synced_through.0)),
        ("lap", Value::Number(header.lap)),
        ("epoch", Value::Number(header.epoch)),
        ("journal", Value::Id(header.journal)),
    ]
}

/// A chunk of a snapshot, and what it holds of the log's own.
pub(super) fn chunk(out: &mut Out<'_>, path: &str, at: &At, chunk: &Chunk) {
    let kind = match chunk {
        Chunk::Machine(_) => "machine",
        Chunk::Table(_) => "partitions",
        Chunk::Housekeeping(_) => "deleted",
        Chunk::Skipped => "skipped",
        Chunk::Footer => "footer",
    };
    let mut fields = vec![
        ("file", text(path)),
        ("byte", Value::Number(at.byte)),
        ("chunk", Value::Number(u64::from(at.number))),
        ("kind", Value::Number(u64::from(at.kind))),
        ("holds", text(kind)),
        ("bytes", Value::Number(at.size_bytes)),
        ("through_entry", Value::Number(at.lsn.0)),
    ];
    if let Chunk::Machine(bytes) = chunk {
        fields.push(("effects", Value::Chunk(bytes.clone())));
    }
    if let Chunk::Housekeeping(kept) = chunk {
        fields.push(("clock_ms", Value::Signed(kept.clock_ms.unwrap_or(-1))));
        fields.push(("deleted", text(format!("{:?}", kept.gone))));
    }
    out.line(0, "chunk", fields);
    let Chunk::Table(entries) = chunk else {
        return;
    };
    for entry in entries {
        let epochs = entry.epochs.iter().map(|(epoch, at)| (*epoch, at.0));
        let fields = vec![
            ("partition", Value::Partition(entry.id)),
            ("earliest", number(entry.earliest)),
            ("compacted_until", number(entry.cleaned)),
            ("settings", text(format!("{:?}", entry.settings))),
            ("epochs", Value::Pairs(epochs.collect())),
        ];
        out.line(1, "partition", fields);
        for Kept {
            base,
            generation,
            times,
            at,
        } in &entry.segments
        {
            let fields = vec![
                ("first_offset", number(*base)),
                ("end_offset", number(at.end)),
                ("bytes", Value::Number(at.bytes)),
                ("batches", Value::Number(u64::from(at.lines))),
                ("generation", Value::Number(u64::from(*generation))),
                ("largest_time_ms", Value::Signed(at.largest_ms)),
                ("begun_ms", Value::Signed(times.begun_ms)),
                ("appended_ms", Value::Signed(times.appended_ms)),
                ("compacted_ms", Value::Signed(times.compacted_ms)),
            ];
            out.line(2, "segment", fields);
        }
    }
}

/// A part of an entry, and the records in it.
pub(super) fn part(out: &mut Out<'_>, part: Part) {
    let (kind, fields) = match part {
        Part::Epoch { epoch, wall_ms } => {
            let fields = vec![
                ("epoch", Value::Number(epoch)),
                ("wall_ms", Value::Signed(wall_ms)),
            ];
            ("epoch", fields)
        }
        Part::Marker => ("marker", Vec::new()),
        Part::PartitionCreate(id) => ("partition create", of_partition(id)),
        Part::PartitionDelete(id) => ("partition delete", of_partition(id)),
        Part::PartitionSettings { id, settings } => {
            let mut fields = of_partition(id);
            fields.push(("settings", text(format!("{settings:?}"))));
            ("partition settings", fields)
        }
        Part::SegmentCreate { id, base } => {
            let mut fields = of_partition(id);
            fields.push(("first_offset", number(base)));
            ("segment create", fields)
        }
        Part::SegmentDelete {
            id,
            bases,
            earliest,
        } => {
            let mut fields = of_partition(id);
            let bases: Vec<_> = bases.iter().map(|base| base.0).collect();
            fields.push(("first_offsets", text(format!("{bases:?}"))));
            fields.push(("earliest", number(earliest)));
            ("segment delete", fields)
        }
        Part::SegmentSwap { id, swap } => {
            let mut fields = of_partition(id);
            fields.push(("compacted_until", number(swap.cleaned)));
            let old = swap
                .old
                .iter()
                .map(|(base, generation)| (base.0, *generation));
            fields.push(("old", text(format!("{:?}", old.collect::<Vec<_>>()))));
            if let Some(new) = swap.new {
                fields.push(("first_offset", number(new.base)));
                fields.push(("generation", Value::Number(new.generation.into())));
                fields.push(("bytes", Value::Number(new.at.bytes)));
            }
            ("segment swap", fields)
        }
        Part::Effect { kind, bytes } => ("effect", vec![("effect", Value::Effect(kind, bytes))]),
        Part::Records { id, batch } => {
            let mut fields = vec![("kind", text("records"))];
            fields.extend(of_partition(id));
            out.line(2, "part", fields);
            return self::batch(out, 3, None, &batch);
        }
        #[allow(
            unreachable_patterns,
            reason = "kinds that come later are shown as they are"
        )]
        other => ("other", vec![("holds", text(format!("{other:?}")))]),
    };
    let mut all = vec![("kind", text(kind))];
    all.extend(fields);
    out.line(2, "part", all);
}

fn of_partition(id: crate::machine::PartitionId) -> Fields {
    vec![("partition", Value::Partition(id))]
}

/// A batch and its records.
fn batch(out: &mut Out<'_>, depth: usize, byte: Option<u64>, batch: &Batch) {
    let mut fields = Vec::new();
    fields.extend(byte.map(|byte| ("byte", Value::Number(byte))));
    fields.extend([
        ("first_offset", number(batch.base_offset())),
        ("last_offset", number(batch.last_offset())),
        ("records", Value::Number(u64::from(batch.record_count()))),
        ("bytes", Value::Number(batch.size_bytes() as u64)),
        ("leader_epoch", Value::Signed(batch.leader_epoch().into())),
        ("base_time_ms", Value::Signed(batch.base_timestamp_ms())),
        ("max_time_ms", Value::Signed(batch.max_timestamp_ms())),
        ("compression", text(batch.compression().to_string())),
    ]);
    if let Some(producer) = batch.producer() {
        let sequence = i64::from(producer.base_sequence);
        fields.extend([
            ("producer", Value::Signed(producer.id)),
            ("producer_epoch", Value::Signed(producer.epoch.into())),
            ("first_sequence", Value::Signed(sequence)),
        ]);
    }
    for (name, is_so) in [
        ("append_time", batch.is_log_append_time()),
        ("transactional", batch.is_transactional()),
        ("control", batch.is_control()),
    ] {
        fields.extend(is_so.then_some((name, Value::Flag(true))));
    }
    out.line(depth, "batch", fields);
    for read in batch.records() {
        match read {
            Ok(read) if read.offset.0 < out.what.from && byte.is_some() => {}
            Ok(read) => out.line(depth + 1, "record", record(read)),
            Err(error) => {
                let why = vec![("why", text(error.to_string()))];
                out.line(depth + 1, "unreadable", why);
            }
        }
    }
}

fn record(record: Record) -> Fields {
    let headers = record.headers.iter();
    let headers = headers.map(|header| (header.name.to_owned(), header.value));
    vec![
        ("offset", number(record.offset)),
        ("time_ms", Value::Signed(record.timestamp_ms)),
        ("key", Value::Payload(record.key)),
        ("value", Value::Payload(record.value)),
        ("headers", Value::Headers(headers.collect())),
    ]
}

/// The batches of a segment, up to what is synced of it where that is known.
pub(super) fn segment(out: &mut Out<'_>, path: &str, known: Option<&Segment>) {
    let opened = out.disk.open(path);
    let (file, size) = match opened.and_then(|file| file.len().map(|size| (file, size))) {
        Ok(opened) => opened,
        Err(error) => return out.unreadable(path, 0, error.to_string()),
    };
    let size = known.map_or(size, |segment| size.min(segment.synced.bytes));
    let fields = vec![("file", text(path)), ("bytes", Value::Number(size))];
    out.line(0, "segment", fields);
    let mut byte = 0;
    while byte < size && out.open {
        match batch_at(file.as_ref(), byte, size) {
            Ok(found) => {
                if found.last_offset().0 >= out.what.from {
                    batch(out, 1, Some(byte), &found);
                }
                byte += found.size_bytes() as u64;
            }
            Err(why) => return out.unreadable(path, byte, why),
        }
    }
}

/// The batch that begins at a place of a segment.
pub(crate) fn batch_at(file: &dyn DiskFile, byte: u64, size: u64) -> Result<Batch, String> {
    let head = (size - byte).min(crate::batch::HEADER_BYTES as u64) as usize;
    let head = read_exact_at(file, byte, head).map_err(|error| error.to_string())?;
    let bytes = Batch::size_from_front(&head).map_err(|error| error.to_string())?;
    debug_assert!(bytes <= BATCH_MAX_BYTES);
    let bytes: Bytes = read_exact_at(file, byte, bytes).map_err(|error| error.to_string())?;
    let (batch, _) = Batch::parse(bytes).map_err(|error| error.to_string())?;
    Ok(batch)
}

/// A line of a sidecar.
pub(super) fn sidecar_line(line: &crate::segment::sidecar::Line, byte: u64) -> Fields {
    vec![
        ("byte", Value::Number(byte)),
        ("first_offset", number(line.base)),
        ("batch_byte", Value::Number(u64::from(line.position))),
        ("batch_bytes", Value::Number(u64::from(line.size_bytes))),
        ("header_crc", Value::Number(u64::from(line.header_crc))),
        ("largest_time_ms", Value::Signed(line.largest_ms)),
    ]
}
