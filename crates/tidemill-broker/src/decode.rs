//! Record batches into events: what a read of the log gives a group or a fetch.

use std::sync::Arc;

use tidemill_core::binding::{self, Place, RawRecord};
use tidemill_core::{Event, Offset, TopicName};
use tidemill_log::batch::Record;
use tidemill_log::{Batch, PartitionId};

use crate::transaction::Passing;

/// Events out of batches.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    /// With their offsets, ascending.
    pub(crate) events: Vec<(Offset, Arc<Event>)>,
    /// Where to read on.
    pub(crate) next: Offset,
    /// What could not be read, and which offsets were left out for it.
    pub(crate) damage: Option<String>,
}

/// How much to take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    pub(crate) from: Offset,
    pub(crate) events_max: usize,
    pub(crate) bytes_max: usize,
}

/// Takes events out of batches, from an offset on and as far as everything is decided. Control
/// batches have none, and those of aborted transactions none that count. A record that is
/// meant to be an event and is not a valid one is read as a stranger's record: every record
/// gives an event. A batch that is not what it says is left out as a whole: what comes before it
/// is given first, then the damage alone.
pub(crate) fn decode(
    batches: &[Batch],
    topic: &TopicName,
    id: PartitionId,
    want: Want,
    passing: &Passing,
) -> Decoded {
    let mut decoded = Decoded {
        next: want.from,
        ..Decoded::default()
    };
    let mut bytes = 0;
    for batch in batches {
        let end = batch.next_offset();
        if passing.is_undecided(batch) {
            break;
        }
        if end <= want.from || passing.is_passed(batch) {
            decoded.next = decoded.next.max(end);
            continue;
        }
        let records = match batch.checked_records() {
            Ok(records) => records,
            Err(_) if !decoded.events.is_empty() => return decoded,
            Err(why) => {
                let next = decoded.next;
                decoded.damage = Some(format!(
                    "{topic}/{}: the records from offset {next} until {end} cannot be read: {why}",
                    id.partition
                ));
                decoded.next = next.max(end);
                return decoded;
            }
        };
        // All of them were looked at.
        for record in records.map_while(Result::ok) {
            if record.offset < want.from {
                continue;
            }
            let full = decoded.events.len() >= want.events_max || bytes >= want.bytes_max;
            if full {
                return decoded;
            }
            let offset = record.offset;
            let event = event(&record, topic, id);
            bytes += event.size_bytes();
            decoded.events.push((offset, Arc::new(event)));
            decoded.next = offset.next();
        }
        decoded.next = decoded.next.max(end);
    }
    decoded
}

/// What a record holds, as it would be delivered.
pub(crate) fn event(record: &Record, topic: &TopicName, id: PartitionId) -> Event {
    let place = Place {
        topic,
        id: id.topic,
        partition: id.partition,
        offset: record.offset,
    };
    let raw = || RawRecord {
        key: record.key.clone(),
        value: record.value.clone(),
        timestamp_ms: record.timestamp_ms,
        headers: record
            .headers
            .iter()
            .map(|header| (header.name, header.value)),
    };
    binding::decode(raw(), &place).unwrap_or_else(|_| binding::decode_foreign(raw(), &place))
}
