//! Lines of a dump with the broker's words: what an effect says, and which topic a partition is
//! of.

use bytes::Bytes;
use tidemill_core::TopicId;
use tidemill_log::PartitionId;
use tidemill_log::inspect as log;

use super::names::Names;
use super::{Line, Value};
use crate::machine::{Change, CommitChange, GroupId, MarkChange, take_change};
use crate::queue::QueueSettings;

type Fields = Vec<(&'static str, Value)>;

/// Retells one line of the log's; a chunk of the machine's becomes a line for each effect.
pub(super) fn tell(line: log::Line, names: &Names, each: &mut impl FnMut(Line) -> bool) -> bool {
    let mut fields = Vec::with_capacity(line.fields.len() + 2);
    let mut chunk = None;
    for (name, value) in line.fields {
        let value = match value {
            log::Value::Number(number) => Value::Number(number),
            log::Value::Signed(number) => Value::Signed(number),
            log::Value::Text(text) => Value::Text(text),
            log::Value::Flag(is_so) => Value::Flag(is_so),
            log::Value::Id(id) => Value::Text(id.to_string()),
            log::Value::Payload(bytes) => Value::Payload(bytes),
            log::Value::Headers(headers) => Value::Headers(headers),
            log::Value::Pairs(pairs) => Value::Pairs(pairs),
            log::Value::Partition(id) => {
                fields.extend(partition(id, names));
                continue;
            }
            log::Value::Effect(kind, bytes) => {
                fields.extend(effect(kind, &bytes, names));
                continue;
            }
            log::Value::Chunk(bytes) => {
                chunk = Some(bytes);
                continue;
            }
        };
        fields.push((name, value));
    }
    let depth = line.depth;
    let more = each(Line {
        depth,
        what: line.what,
        fields,
    });
    more && chunk.is_none_or(|chunk| effects(&chunk, depth + 1, names, each))
}

/// The effects of one chunk of a snapshot.
fn effects(
    chunk: &Bytes,
    depth: usize,
    names: &Names,
    each: &mut impl FnMut(Line) -> bool,
) -> bool {
    let mut rest: &[u8] = chunk;
    while !rest.is_empty() {
        let (what, fields, after) = match take_change(rest) {
            Ok((change, after)) => ("effect", told(change, names), after),
            Err(why) => ("unreadable", vec![("why", Value::Text(why))], &[][..]),
        };
        if !each(Line {
            depth,
            what,
            fields,
        }) {
            return false;
        }
        rest = after;
    }
    true
}

fn effect(kind: u16, bytes: &[u8], names: &Names) -> Fields {
    let mut fields = vec![("effect_kind", Value::Number(u64::from(kind)))];
    match Change::decode(kind, bytes) {
        Ok(change) => fields.extend(told(change, names)),
        Err(why) => fields.push(("why", Value::Text(why))),
    }
    fields
}

/// An effect in words.
fn told(change: Change, names: &Names) -> Fields {
    let (name, fields) = match change {
        Change::TopicCreated {
            id,
            partitions,
            name,
        } => {
            let fields = vec![
                ("topic", Value::Text(name.to_string())),
                ("topic_id", Value::Text(id.to_string())),
                ("partitions", Value::Number(u64::from(partitions))),
            ];
            ("topic created", fields)
        }
        Change::TopicDeleted { id } => {
            let mut fields = vec![("topic_id", Value::Text(id.to_string()))];
            let name = names.topic(id).map(|name| Value::Text(name.to_string()));
            fields.extend(name.map(|name| ("topic", name)));
            ("topic deleted", fields)
        }
        Change::GroupCreated { id, kind, name } => {
            let fields = vec![
                ("group", Value::Text(name.to_string())),
                ("group_id", Value::Number(id.0)),
                ("group_kind", Value::Number(kind.number())),
            ];
            ("group created", fields)
        }
        Change::GroupDeleted { id } => ("group deleted", group(id, names)),
        Change::CursorSet {
            group: id,
            partition: of,
            cursor,
        } => {
            let mut fields = group(id, names);
            fields.extend(partition(of, names));
            fields.push(("position", Value::Number(cursor.position().0)));
            let ranges = cursor.ranges().map(|of| (of.start.0, of.end.0));
            fields.push(("settled_above", Value::Pairs(ranges.collect())));
            ("cursor set", fields)
        }
        Change::Settled {
            group: id,
            partition: of,
            range,
        } => {
            let mut fields = group(id, names);
            fields.extend(partition(of, names));
            fields.push(("from", Value::Number(range.start.0)));
            fields.push(("until", Value::Number(range.end.0)));
            ("settled", fields)
        }
        Change::QueueSet {
            id,
            group: of,
            settings,
        } => ("queue set", queue(id, of, settings, names)),
        Change::Commit(change) => commit(change, names),
        Change::Mark(change) => ("attempt marker", marker(&change, names)),
        Change::NextGroup { id } => ("next group", vec![("group_id", Value::Number(id.0))]),
        #[allow(
            unreachable_patterns,
            reason = "kinds that come later are shown as they are"
        )]
        other => ("other", vec![("holds", Value::Text(format!("{other:?}")))]),
    };
    let mut all = vec![("effect", Value::Text(name.to_owned()))];
    all.extend(fields);
    all
}

fn commit(change: CommitChange, names: &Names) -> (&'static str, Fields) {
    match change {
        CommitChange::Committed {
            group: id,
            partition: of,
            committed,
        } => {
            let mut fields = group(id, names);
            fields.extend(partition(of, names));
            fields.push(("position", Value::Number(committed.offset.0)));
            fields.push(("at_ms", Value::Number(committed.at_ms)));
            let epoch = committed.note.leader_epoch;
            fields.extend(epoch.map(|epoch| ("leader_epoch", Value::Number(u64::from(epoch)))));
            let metadata = committed.note.metadata.to_string();
            fields.push(("metadata", Value::Text(metadata)));
            ("committed", fields)
        }
        CommitChange::Share {
            group: id,
            settings,
        } => {
            let mut fields = group(id, names);
            fields.push(("settings", Value::Text(format!("{settings:?}"))));
            ("share settings", fields)
        }
        CommitChange::Removed {
            group: id,
            partition: of,
        } => {
            let mut fields = group(id, names);
            fields.extend(partition(of, names));
            ("position removed", fields)
        }
    }
}

fn marker(change: &MarkChange, names: &Names) -> Fields {
    let mark = change.mark;
    let mut fields = group(change.group, names);
    fields.extend(partition(change.partition, names));
    fields.extend([
        ("offset", Value::Number(change.offset.0)),
        ("attempts", Value::Number(u64::from(mark.attempts))),
        ("epoch", Value::Number(mark.epoch)),
        ("first_ms", Value::Number(mark.first_ms)),
        ("last_ms", Value::Number(mark.last_ms)),
    ]);
    fields
}

fn queue(id: TopicId, of: GroupId, settings: QueueSettings, names: &Names) -> Fields {
    let name = names.topic(id).map(|name| Value::Text(name.to_string()));
    let mut fields: Fields = name.into_iter().map(|name| ("topic", name)).collect();
    fields.push(("topic_id", Value::Text(id.to_string())));
    fields.extend(group(of, names));
    let lease_ms = settings.lease.as_millis() as u64;
    fields.push(("lease_ms", Value::Number(lease_ms)));
    let most = settings.max_deliveries;
    fields.extend(most.map(|most| ("max_deliveries", Value::Number(u64::from(most)))));
    let ttl_ms = settings.ttl.map(|ttl| ttl.as_millis() as u64);
    fields.extend(ttl_ms.map(|ms| ("ttl_ms", Value::Number(ms))));
    fields
}

fn group(id: GroupId, names: &Names) -> Fields {
    let name = names.group(id).map(|name| Value::Text(name.to_string()));
    let name = name.map(|name| ("group", name));
    name.into_iter()
        .chain([("group_id", Value::Number(id.0))])
        .collect()
}

fn partition(id: PartitionId, names: &Names) -> Fields {
    let name = names.topic(id.topic);
    let name = name.map(|name| ("topic", Value::Text(name.to_string())));
    let known = [
        ("topic_id", Value::Text(id.topic.to_string())),
        ("partition", Value::Number(u64::from(id.partition.0))),
    ];
    name.into_iter().chain(known).collect()
}
