//! A topic's configurations by the names that Kafka gives them: those that are kept, and those that
//! are taken without an effect.
//!
//! Which are kept is said in `KEPT`. The others of Kafka's topics are known: a value for them is
//! taken, so that programs that set them work, and the value that holds is told. So it is where a
//! value is beyond what the log can do. A name that is not known is refused.

use std::ops::RangeInclusive;

use kafka_protocol::protocol::StrBytes;
use tidemill_broker::{CompressionType, TopicSettings};

use super::error::{Code, Refused};
use crate::config::KafkaConfig;

/// It was set for this topic.
pub(super) const SET: i8 = 1;
/// It was set for this node, at its start.
pub(super) const OF_NODE: i8 = 4;
/// Nobody set it.
pub(super) const DEFAULT: i8 = 5;

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
    /// Where its value may come from: name, value and source, the one that holds first.
    pub(super) synonyms: Vec<(&'static str, String, i8)>,
}

/// Kafka's types of values.
pub(super) const TEXT: i8 = 2;
pub(super) const INT: i8 = 3;
const LONG: i8 = 5;
const LIST: i8 = 7;

/// A configuration that is kept of a topic.
struct Kept {
    name: &'static str,
    /// What Kafka calls it where it is a setting of the node.
    of_node: &'static str,
    kind: i8,
    /// The value, where it was set for the topic.
    own: fn(&TopicSettings) -> Option<String>,
    /// The value that holds where it was not.
    otherwise: fn(&TopicSettings, &KafkaConfig) -> String,
    /// Takes a value; without one, goes back to what holds otherwise.
    set: Setter,
}

type Setter = fn(&mut TopicSettings, &str, Option<&str>) -> Result<(), Refused>;

/// Kafka's largest number, which stands for no bound.
const NEVER: u64 = i64::MAX as u64;

/// The configurations of a topic that are kept, sorted by name.
const KEPT: &[Kept] = &[
    Kept {
        name: "cleanup.policy",
        of_node: "log.cleanup.policy",
        kind: LIST,
        own: |of| of.compact.then(|| cleanup_policy(of).to_owned()),
        otherwise: |_, _| "delete".to_owned(),
        set: |of, name, value| {
            of.compact = value.map_or(Ok(false), |value| compacts(name, value))?;
            Ok(())
        },
    },
    Kept {
        name: "compression.type",
        of_node: "compression.type",
        kind: TEXT,
        own: |of| (of.compression != CompressionType::None).then(|| of.compression.to_string()),
        otherwise: |_, _| "producer".to_owned(),
        set: |of, name, value| {
            let none = Ok(CompressionType::None);
            of.compression = value.map_or(none, |value| compression(name, value))?;
            Ok(())
        },
    },
    Kept {
        name: "delete.retention.ms",
        of_node: "log.cleaner.delete.retention.ms",
        kind: LONG,
        own: |of| told(of.tombstone_retention_ms),
        otherwise: |_, _| "86400000".to_owned(),
        set: |of, name, value| {
            of.tombstone_retention_ms = number(name, value, 0..=NEVER)?;
            Ok(())
        },
    },
    Kept {
        name: "max.compaction.lag.ms",
        of_node: "log.cleaner.max.compaction.lag.ms",
        kind: LONG,
        own: |of| told(of.compact_within_ms),
        otherwise: |_, _| NEVER.to_string(),
        set: |of, name, value| {
            of.compact_within_ms = number(name, value, 1..=NEVER)?.filter(|ms| *ms < NEVER);
            Ok(())
        },
    },
    Kept {
        name: "max.message.bytes",
        of_node: "message.max.bytes",
        kind: INT,
        own: |of| told(of.batch_max_bytes),
        otherwise: |_, node| node.message_max_bytes.to_string(),
        set: |of, name, value| {
            let (least, most) = TopicSettings::BATCH_MAX_BYTES.into_inner();
            let bytes = number(name, value, 0..=u64::from(i32::MAX.unsigned_abs()))?;
            of.batch_max_bytes = bytes.map(|bytes| bytes.clamp(least, most));
            Ok(())
        },
    },
    Kept {
        name: "message.timestamp.after.max.ms",
        of_node: "log.message.timestamp.after.max.ms",
        kind: LONG,
        own: |of| told(of.time_after_max_ms),
        otherwise: |_, _| NEVER.to_string(),
        set: |of, name, value| {
            of.time_after_max_ms = number(name, value, 0..=NEVER)?.filter(|ms| *ms < NEVER);
            Ok(())
        },
    },
    Kept {
        name: "message.timestamp.before.max.ms",
        of_node: "log.message.timestamp.before.max.ms",
        kind: LONG,
        own: |of| told(of.time_before_max_ms),
        otherwise: |_, _| NEVER.to_string(),
        set: |of, name, value| {
            of.time_before_max_ms = number(name, value, 0..=NEVER)?.filter(|ms| *ms < NEVER);
            Ok(())
        },
    },
    Kept {
        name: "message.timestamp.type",
        of_node: "log.message.timestamp.type",
        kind: TEXT,
        own: |of| of.append_time.then(|| "LogAppendTime".to_owned()),
        otherwise: |_, _| "CreateTime".to_owned(),
        set: |of, name, value| {
            of.append_time = match value {
                None | Some("CreateTime") => false,
                Some("LogAppendTime") => true,
                Some(other) => {
                    let what = "it is CreateTime or LogAppendTime";
                    return Err(invalid(name, other, what));
                }
            };
            Ok(())
        },
    },
    Kept {
        name: "min.compaction.lag.ms",
        of_node: "log.cleaner.min.compaction.lag.ms",
        kind: LONG,
        own: |of| told(of.compact_after_ms),
        otherwise: |_, _| "0".to_owned(),
        set: |of, name, value| {
            of.compact_after_ms = number(name, value, 0..=NEVER)?.filter(|ms| *ms > 0);
            Ok(())
        },
    },
    Kept {
        name: "retention.bytes",
        of_node: "log.retention.bytes",
        kind: LONG,
        own: |of| told(of.retention_bytes),
        otherwise: |_, _| "-1".to_owned(),
        set: |of, name, value| {
            // As Kafka has it: whatever is below 0.
            of.retention_bytes = bound(name, value, i64::MIN)?;
            Ok(())
        },
    },
    Kept {
        name: "retention.ms",
        of_node: "log.retention.ms",
        kind: LONG,
        own: |of| told(of.retention_ms),
        otherwise: |_, _| "-1".to_owned(),
        set: |of, name, value| {
            of.retention_ms = bound(name, value, -1)?;
            Ok(())
        },
    },
    Kept {
        name: "segment.bytes",
        of_node: "log.segment.bytes",
        kind: INT,
        own: |of| told(of.segment_bytes),
        otherwise: |of, _| of.closes_at_bytes().to_string(),
        set: |of, name, value| {
            let (least, most) = TopicSettings::SEGMENT_BYTES.into_inner();
            let bytes = number(name, value, 1..=u64::from(i32::MAX.unsigned_abs()))?;
            of.segment_bytes = bytes.map(|bytes| bytes.clamp(least, most));
            Ok(())
        },
    },
    Kept {
        name: "segment.ms",
        of_node: "log.roll.ms",
        kind: LONG,
        own: |of| told(of.segment_ms),
        otherwise: |of, _| of.closes_after_ms().unwrap_or(NEVER).min(NEVER).to_string(),
        set: |of, name, value| {
            of.segment_ms = number(name, value, 1..=NEVER)?;
            Ok(())
        },
    },
];

fn told(value: Option<u64>) -> Option<String> {
    value.map(|value| value.min(NEVER).to_string())
}

/// Configurations of topics that have no effect here, their types, and the values that hold.
const FIXED: &[(&str, i8, &str)] = &[
    ("file.delete.delay.ms", 5, "0"),
    ("flush.messages", 5, "1"),
    ("flush.ms", 5, "0"),
    ("follower.replication.throttled.replicas", 7, ""),
    ("index.interval.bytes", 3, "4096"),
    ("leader.replication.throttled.replicas", 7, ""),
    ("local.retention.bytes", 5, "-2"),
    ("local.retention.ms", 5, "-2"),
    ("min.cleanable.dirty.ratio", 6, "0.5"),
    ("min.insync.replicas", 3, "1"),
    ("preallocate", 1, "false"),
    ("remote.storage.enable", 1, "false"),
    ("segment.index.bytes", 3, "10485760"),
    ("segment.jitter.ms", 5, "0"),
    ("unclean.leader.election.enable", 1, "false"),
];

/// All that a topic has, sorted by name.
pub(super) fn of_topic(settings: &TopicSettings, node: &KafkaConfig) -> Vec<Config> {
    let plain = KafkaConfig::default();
    let kept = KEPT.iter().map(|kept| {
        let otherwise = (kept.otherwise)(settings, node);
        let of_node = otherwise != (kept.otherwise)(settings, &plain);
        let source = if of_node { OF_NODE } else { DEFAULT };
        let mut synonyms = vec![(kept.of_node, otherwise, source)];
        if let Some(own) = (kept.own)(settings) {
            synonyms.insert(0, (kept.name, own, SET));
        }
        let (_, value, source) = synonyms.first().cloned().unwrap_or_default();
        Config {
            name: kept.name,
            value,
            kind: kept.kind,
            source,
            read_only: false,
            synonyms,
        }
    });
    let fixed = FIXED.iter().map(|(name, kind, value)| Config {
        name,
        value: (*value).to_owned(),
        kind: *kind,
        source: DEFAULT,
        read_only: true,
        synonyms: Vec::new(),
    });
    let mut all: Vec<_> = kept.chain(fixed).collect();
    all.sort_unstable_by_key(|config| config.name);
    all
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

pub(super) fn invalid(name: &str, value: &str, what: &str) -> Refused {
    let why = format!("{value:?} is no value for {name}: {what}");
    Refused::new(Code::InvalidConfig, why)
}

/// Sets a configuration; without a value, to what holds where nobody sets it. What they say
/// together is looked at by [`check`].
///
/// # Errors
/// There is no such configuration, or the value is none for it.
pub(super) fn set(
    settings: &mut TopicSettings,
    name: &str,
    value: Option<&str>,
) -> Result<(), Refused> {
    if let Some(kept) = KEPT.iter().find(|kept| kept.name == name) {
        return (kept.set)(settings, name, value);
    }
    if FIXED.iter().any(|(known, ..)| *known == name) {
        return Ok(());
    }
    let why = format!("there is no topic configuration {name:?}");
    Err(Refused::new(Code::InvalidConfig, why))
}

/// Whether all configurations of a topic go together.
///
/// # Errors
/// They do not.
pub(super) fn check(settings: &TopicSettings) -> Result<(), Refused> {
    let most = settings.compact_within_ms.unwrap_or(u64::MAX);
    if settings.compact_after_ms.unwrap_or(0) > most {
        let why = "max.compaction.lag.ms is at least min.compaction.lag.ms";
        return Err(Refused::new(Code::InvalidConfig, why));
    }
    Ok(())
}

/// A number within bounds.
fn number(
    name: &str,
    value: Option<&str>,
    bounds: RangeInclusive<u64>,
) -> Result<Option<u64>, Refused> {
    let Some(text) = value else {
        return Ok(None);
    };
    let number = text.trim().parse().ok();
    let number = number.filter(|number| bounds.contains(number));
    let what = || format!("it is {} to {}", bounds.start(), bounds.end());
    number.map(Some).ok_or_else(|| invalid(name, text, &what()))
}

/// A number of Kafka's; what is below 0 stands for no bound, and is `least` or more.
fn bound(name: &str, value: Option<&str>, least: i64) -> Result<Option<u64>, Refused> {
    let Some(text) = value else {
        return Ok(None);
    };
    let number = text.trim().parse::<i64>();
    let number = number.ok().filter(|number| *number >= least);
    let what = "it is 0 or more, or -1 for no bound";
    let number = number.ok_or_else(|| invalid(name, text, what))?;
    Ok(u64::try_from(number).ok())
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
    fn retentions_are_what_kafka_takes() {
        for (name, value, kept) in [
            ("retention.ms", Some("0"), Some("0")),
            ("retention.ms", Some(" 1 "), Some("1")),
            (
                "retention.ms",
                Some("9223372036854775807"),
                Some("9223372036854775807"),
            ),
            ("retention.ms", Some("-1"), None),
            ("retention.ms", None, None),
            ("retention.bytes", Some("0"), Some("0")),
            ("retention.bytes", Some("-1"), None),
            ("retention.bytes", Some("-7"), None),
        ] {
            let mut settings = TopicSettings {
                retention_ms: Some(5),
                retention_bytes: Some(5),
                ..TopicSettings::default()
            };
            set(&mut settings, name, value).unwrap();
            let config = KEPT.iter().find(|config| config.name == name).unwrap();
            assert_eq!((config.own)(&settings).as_deref(), kept, "{name}={value:?}");
        }
    }

    #[test]
    fn what_is_no_configuration_or_no_value_is_refused() {
        let mut settings = TopicSettings::default();
        for (name, value) in [
            ("retention.mss", "1"),
            ("retention.ms", "soon"),
            ("retention.ms", "-2"),
            ("retention.ms", "9223372036854775808"),
            ("retention.bytes", "1k"),
            ("cleanup.policy", "burn"),
            ("compression.type", "rar"),
            ("segment.ms", "0"),
            ("max.message.bytes", "-1"),
            ("message.timestamp.type", "logappendtime"),
            ("segment.bytes", "0"),
            ("max.compaction.lag.ms", "0"),
            ("min.compaction.lag.ms", "-1"),
            ("delete.retention.ms", "9223372036854775808"),
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
    fn names_are_sorted_and_once() {
        assert!(FIXED.windows(2).all(|two| two[0].0 < two[1].0));
        assert!(KEPT.windows(2).all(|two| two[0].name < two[1].name));
        let twice = |kept: &Kept| FIXED.iter().any(|(name, ..)| *name == kept.name);
        assert!(!KEPT.iter().any(twice));
    }

    #[test]
    fn the_true_source_of_a_bound_is_told_and_what_lies_behind_it() {
        let node = KafkaConfig {
            message_max_bytes: 5000,
            ..KafkaConfig::default()
        };
        let bound = |settings: &TopicSettings, node: &KafkaConfig| {
            let all = of_topic(settings, node).into_iter();
            let mut bounds = all.filter(|config| config.name == "max.message.bytes");
            bounds.next().unwrap()
        };
        let mut settings = TopicSettings::default();
        let plain = KafkaConfig::default();
        assert_eq!(bound(&settings, &plain).source, DEFAULT);
        let told = bound(&settings, &node);
        assert_eq!((told.value.as_str(), told.source), ("5000", OF_NODE));
        set(&mut settings, "max.message.bytes", Some("6000")).unwrap();
        let told = bound(&settings, &node);
        assert_eq!((told.value.as_str(), told.source), ("6000", SET));
        let synonyms = [
            ("max.message.bytes", "6000".to_owned(), SET),
            ("message.max.bytes", "5000".to_owned(), OF_NODE),
        ];
        assert_eq!(told.synonyms, synonyms);
    }

    #[test]
    fn what_the_log_cannot_do_is_told_as_what_it_does() {
        let value = |settings: &TopicSettings, name: &str| {
            let all = of_topic(settings, &KafkaConfig::default());
            let mut all = all.into_iter().filter(|config| config.name == name);
            all.next().map(|config| (config.value, config.source))
        };
        let mut settings = TopicSettings::default();
        let told = |value: &str, source| Some((value.to_owned(), source));
        assert_eq!(
            value(&settings, "segment.bytes"),
            told("268435456", DEFAULT)
        );
        assert_eq!(
            value(&settings, "segment.ms"),
            told("9223372036854775807", DEFAULT)
        );
        set(&mut settings, "cleanup.policy", Some("compact")).unwrap();
        assert_eq!(value(&settings, "segment.bytes"), told("16777216", DEFAULT));
        assert_eq!(value(&settings, "segment.ms"), told("604800000", DEFAULT));
        set(&mut settings, "max.compaction.lag.ms", Some("5000")).unwrap();
        assert_eq!(value(&settings, "segment.ms"), told("5000", DEFAULT));
        for (asked, holds) in [("14", "65536"), ("2147483647", "268435456")] {
            set(&mut settings, "segment.bytes", Some(asked)).unwrap();
            assert_eq!(value(&settings, "segment.bytes"), told(holds, SET));
        }
        for (asked, holds) in [("0", "1"), ("2147483647", "33554432")] {
            set(&mut settings, "max.message.bytes", Some(asked)).unwrap();
            assert_eq!(value(&settings, "max.message.bytes"), told(holds, SET));
        }
        check(&settings).unwrap();
        set(&mut settings, "min.compaction.lag.ms", Some("5001")).unwrap();
        let refused = check(&settings).err().unwrap();
        assert_eq!(refused.code, Code::InvalidConfig);
    }
}
