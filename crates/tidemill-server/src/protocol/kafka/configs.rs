//! Configurations by the names that Kafka gives them: those of a topic that are kept, those that
//! are taken without an effect, and those of the node, which are set on the command line.
//!
//! Kept are `cleanup.policy`, `retention.ms`, `retention.bytes` and `compression.type`. The others
//! of Kafka's topics are known: a value for them is taken, so that programs that set them work, and
//! the value that holds is told. A name that is not known is refused.

use kafka_protocol::protocol::StrBytes;
use tidemill_broker::{AlterTopic, CompressionType, TopicSettings};

use super::error::{Code, Refused};
use crate::config::{Advertised, KafkaConfig};

/// It was set for this topic.
const SET: i8 = 1;
/// It was set for this node, at its start.
const OF_NODE: i8 = 4;
/// Nobody set it.
const DEFAULT: i8 = 5;

/// A configuration and its value.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) name: &'static str,
    pub(super) value: String,
    /// One of Kafka's numbers for types: 1 a truth value, 2 a text, 3 a number of 32 bits, 5 one
    /// of 64, 6 a fraction, 7 a list.
    pub(super) kind: i8,
    /// Where it comes from, as Kafka's number.
    pub(super) source: i8,
    /// Whether it cannot be changed here.
    pub(super) read_only: bool,
}

/// Configurations of topics that have no effect here, their types, and the values that hold.
const FIXED: &[(&str, i8, &str)] = &[
    ("delete.retention.ms", 5, "86400000"),
    ("file.delete.delay.ms", 5, "0"),
    ("flush.messages", 5, "1"),
    ("flush.ms", 5, "0"),
    ("follower.replication.throttled.replicas", 7, ""),
    ("index.interval.bytes", 3, "4096"),
    ("leader.replication.throttled.replicas", 7, ""),
    ("local.retention.bytes", 5, "-2"),
    ("local.retention.ms", 5, "-2"),
    ("max.compaction.lag.ms", 5, "9223372036854775807"),
    ("message.timestamp.after.max.ms", 5, "9223372036854775807"),
    ("message.timestamp.before.max.ms", 5, "9223372036854775807"),
    ("message.timestamp.type", 2, "CreateTime"),
    ("min.cleanable.dirty.ratio", 6, "0.5"),
    ("min.compaction.lag.ms", 5, "0"),
    ("min.insync.replicas", 3, "1"),
    ("preallocate", 1, "false"),
    ("remote.storage.enable", 1, "false"),
    ("segment.bytes", 3, "1073741824"),
    ("segment.index.bytes", 3, "10485760"),
    ("segment.jitter.ms", 5, "0"),
    ("segment.ms", 5, "604800000"),
    ("unclean.leader.election.enable", 1, "false"),
];

/// All that a topic has, sorted by name.
pub(super) fn of_topic(settings: &TopicSettings, node: &KafkaConfig) -> Vec<Config> {
    let ours = TopicSettings::default();
    let source = |is_default: bool| if is_default { DEFAULT } else { SET };
    let kept = |name, kind, value, is_default| Config {
        name,
        value,
        kind,
        source: source(is_default),
        read_only: false,
    };
    let number = |value: Option<u64>| value.map_or("-1".to_owned(), |value| value.to_string());
    let same = settings.compact == ours.compact;
    let policy = cleanup_policy(settings).to_owned();
    let packed = settings.compression == ours.compression;
    let compression = match settings.compression {
        CompressionType::None => "producer".to_owned(),
        other => other.to_string(),
    };
    let (ms, bytes) = (settings.retention_ms, settings.retention_bytes);
    let max_bytes = node.message_max_bytes;
    let mut all = vec![
        kept("cleanup.policy", 7, policy, same),
        kept("retention.ms", 5, number(ms), ms.is_none()),
        kept("retention.bytes", 5, number(bytes), bytes.is_none()),
        kept("compression.type", 2, compression, packed),
        of_node(
            "max.message.bytes",
            3,
            max_bytes.to_string(),
            max_bytes == KafkaConfig::default().message_max_bytes,
        ),
    ];
    all.extend(FIXED.iter().map(|(name, kind, value)| Config {
        name,
        value: (*value).to_owned(),
        kind: *kind,
        source: DEFAULT,
        read_only: true,
    }));
    all.sort_unstable_by_key(|config| config.name);
    all
}

fn of_node(name: &'static str, kind: i8, value: String, is_default: bool) -> Config {
    Config {
        name,
        value,
        kind,
        source: if is_default { DEFAULT } else { OF_NODE },
        read_only: true,
    }
}

/// What the node has that clients may want to know, sorted by name.
pub(super) fn of_broker(node: &KafkaConfig, advertised: &Advertised) -> Vec<Config> {
    let plain = KafkaConfig::default();
    let partitions = node.default_partitions;
    let max_bytes = node.message_max_bytes;
    let (create, id) = (node.auto_create, node.node_id);
    let session_min = node.session_min;
    let host = match advertised.host.contains(':') {
        true => format!("[{}]", advertised.host),
        false => advertised.host.clone(),
    };
    vec![
        of_node(
            "advertised.listeners",
            2,
            format!("PLAINTEXT://{host}:{}", advertised.port),
            node.advertise.is_none(),
        ),
        of_node(
            "auto.create.topics.enable",
            1,
            create.to_string(),
            create == plain.auto_create,
        ),
        of_node("default.replication.factor", 3, "1".to_owned(), true),
        of_node(
            "group.min.session.timeout.ms",
            3,
            session_min.as_millis().to_string(),
            session_min == plain.session_min,
        ),
        of_node(
            "log.dirs",
            2,
            node.log_dir.clone(),
            node.log_dir == plain.log_dir,
        ),
        of_node(
            "message.max.bytes",
            3,
            max_bytes.to_string(),
            max_bytes == plain.message_max_bytes,
        ),
        of_node("node.id", 3, id.to_string(), id == plain.node_id),
        of_node(
            "num.partitions",
            3,
            partitions.to_string(),
            partitions == plain.default_partitions,
        ),
        of_node("offsets.topic.replication.factor", 3, "1".to_owned(), true),
    ]
}

/// Kafka's word for what is deleted of a topic.
fn cleanup_policy(settings: &TopicSettings) -> &'static str {
    let deletes = settings.retention_ms.is_some() || settings.retention_bytes.is_some();
    match (settings.compact, deletes) {
        (false, _) => "delete",
        (true, false) => "compact",
        (true, true) => "compact,delete",
    }
}

fn invalid(name: &str, value: &str, what: &str) -> Refused {
    let why = format!("{value:?} is no value for {name}: {what}");
    Refused::new(Code::InvalidConfig, why)
}

/// Sets a configuration; without a value, to what holds where nobody sets it.
///
/// # Errors
/// There is no such configuration, or the value is none for it.
pub(super) fn set(
    settings: &mut TopicSettings,
    name: &str,
    value: Option<&str>,
) -> Result<(), Refused> {
    let plain = TopicSettings::default();
    match (name, value) {
        ("retention.ms", value) => settings.retention_ms = bound(name, value)?,
        ("retention.bytes", value) => settings.retention_bytes = bound(name, value)?,
        ("cleanup.policy", None) => settings.compact = plain.compact,
        ("cleanup.policy", Some(value)) => settings.compact = compacts(name, value)?,
        ("compression.type", None) => settings.compression = plain.compression,
        ("compression.type", Some(value)) => settings.compression = compression(name, value)?,
        ("max.message.bytes", _) => {}
        (name, _) if FIXED.iter().any(|(known, ..)| *known == name) => {}
        (name, _) => {
            let why = format!("there is no topic configuration {name:?}");
            return Err(Refused::new(Code::InvalidConfig, why));
        }
    }
    Ok(())
}

/// A number, or -1 for no bound.
fn bound(name: &str, value: Option<&str>) -> Result<Option<u64>, Refused> {
    let Some(text) = value.filter(|text| text.trim() != "-1") else {
        return Ok(None);
    };
    let number = text.trim().parse().ok().filter(|number| *number > 0);
    let number = number.ok_or_else(|| invalid(name, text, "it is 1 or more, or -1"))?;
    Ok(Some(number))
}

fn compacts(name: &str, value: &str) -> Result<bool, Refused> {
    let mut compact = false;
    for word in value
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
    {
        match word {
            "compact" => compact = true,
            "delete" => {}
            _ => return Err(invalid(name, value, "it is delete, compact, or both")),
        }
    }
    Ok(compact)
}

/// How a topic is packed on its way into segments. What a producer packed stays so.
fn compression(name: &str, value: &str) -> Result<CompressionType, Refused> {
    match value.trim() {
        "lz4" => Ok(CompressionType::Lz4),
        "zstd" => Ok(CompressionType::Zstd),
        // The other codecs are kept as producers send them, and not packed anew.
        "producer" | "uncompressed" | "gzip" | "snappy" => Ok(CompressionType::None),
        _ => {
            let what = "it is producer, uncompressed, gzip, snappy, lz4 or zstd";
            Err(invalid(name, value, what))
        }
    }
}

/// One change of an incremental alteration: 0 sets, 1 takes back, 2 adds to a list, and 3 takes
/// from it.
///
/// # Errors
/// There is no such configuration, the value is none for it, or it is no list.
pub(super) fn change(
    settings: &mut TopicSettings,
    name: &str,
    operation: i8,
    value: Option<&StrBytes>,
) -> Result<(), Refused> {
    let value = value.map(StrBytes::as_str);
    match (operation, name) {
        (0, _) => set(settings, name, value),
        (1, _) => set(settings, name, None),
        (2 | 3, "cleanup.policy") => {
            if compacts(name, value.unwrap_or_default())? {
                settings.compact = operation == 2;
            }
            Ok(())
        }
        (2 | 3, _) => Err(invalid(name, value.unwrap_or_default(), "it is no list")),
        _ => Err(Refused::new(
            Code::InvalidRequest,
            "there is no such operation",
        )),
    }
}

/// What is to be changed, so that a topic has these settings.
pub(super) fn alter(settings: TopicSettings) -> AlterTopic {
    AlterTopic {
        partitions: None,
        retention_ms: Some(settings.retention_ms),
        retention_bytes: Some(settings.retention_bytes),
        compact: Some(settings.compact),
        compression: Some(settings.compression),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(settings: &TopicSettings) -> Vec<(&'static str, String)> {
        let all = of_topic(settings, &KafkaConfig::default());
        let kept = all.into_iter().filter(|config| config.source == SET);
        kept.map(|config| (config.name, config.value)).collect()
    }

    #[test]
    fn what_is_set_is_told_and_taken_back() {
        let mut settings = TopicSettings::default();
        assert_eq!(values(&settings), []);
        set(&mut settings, "retention.ms", Some("1000")).unwrap();
        set(&mut settings, "cleanup.policy", Some("compact, delete")).unwrap();
        set(&mut settings, "compression.type", Some("zstd")).unwrap();
        set(&mut settings, "min.insync.replicas", Some("2")).unwrap();
        let told = [
            ("cleanup.policy", "compact,delete".to_owned()),
            ("compression.type", "zstd".to_owned()),
            ("retention.ms", "1000".to_owned()),
        ];
        assert_eq!(values(&settings), told);
        let compact = StrBytes::from_static_str("compact");
        change(&mut settings, "cleanup.policy", 3, Some(&compact)).unwrap();
        change(&mut settings, "retention.ms", 1, None).unwrap();
        change(&mut settings, "compression.type", 1, None).unwrap();
        assert_eq!(settings, TopicSettings::default());
    }

    #[test]
    fn what_is_no_configuration_or_no_value_is_refused() {
        let mut settings = TopicSettings::default();
        for (name, value) in [
            ("retention.mss", "1"),
            ("retention.ms", "soon"),
            ("retention.ms", "0"),
            ("cleanup.policy", "burn"),
            ("compression.type", "rar"),
        ] {
            let refused = set(&mut settings, name, Some(value)).err().unwrap();
            assert_eq!(refused.code, Code::InvalidConfig, "{name}");
        }
        let list = change(&mut settings, "retention.ms", 2, None)
            .err()
            .unwrap();
        assert_eq!(list.code, Code::InvalidConfig);
    }

    #[test]
    fn fixed_values_are_sorted_and_once() {
        assert!(FIXED.windows(2).all(|two| two[0].0 < two[1].0));
    }
}
