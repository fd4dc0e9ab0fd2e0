//! Configurations of groups by the names that Kafka gives them: those of share groups that are
//! kept, and the times of members, which are the node's for all groups: a value for one is taken,
//! so that programs that set it work, and the one that holds is told. Others are refused.

use kafka_protocol::protocol::StrBytes;
use tidemill_broker::ShareSettings;

use super::configs::{Config, DEFAULT, INT, TEXT, invalid};
use super::error::{Code, Refused};
use crate::config::KafkaConfig;

/// It was set for this group, as Kafka's number.
const OF_GROUP: i8 = 8;

const RESET: &str = "share.auto.offset.reset";
const LOCK: &str = "share.record.lock.duration.ms";
const ISOLATION: &str = "share.isolation.level";

/// Those of all groups' members.
const HEARTBEAT: &str = "consumer.heartbeat.interval.ms";
const SESSION: &str = "consumer.session.timeout.ms";

/// What holds of a group, sorted by name.
pub(super) fn all(settings: &ShareSettings, node: &KafkaConfig) -> Vec<Config> {
    let of_node = |name, value: std::time::Duration| Config {
        name,
        value: value.as_millis().to_string(),
        kind: INT,
        source: DEFAULT,
        read_only: true,
        synonyms: Vec::new(),
    };
    let one = |name, kind, value: String, set: bool| {
        let source = if set { OF_GROUP } else { DEFAULT };
        Config {
            name,
            synonyms: vec![(name, value.clone(), source)],
            value,
            kind,
            source,
            read_only: false,
        }
    };
    let reset = match settings.from_beginning {
        Some(true) => "earliest",
        _ => "latest",
    };
    let isolation = match settings.read_committed {
        Some(true) => "read_committed",
        _ => "read_uncommitted",
    };
    let lock = settings.lock().as_millis().to_string();
    let is_set = settings.from_beginning.is_some();
    vec![
        of_node(HEARTBEAT, node.consumer_heartbeat_interval),
        of_node(SESSION, node.consumer_session_timeout),
        one(RESET, TEXT, reset.to_owned(), is_set),
        one(
            ISOLATION,
            TEXT,
            isolation.to_owned(),
            settings.read_committed.is_some(),
        ),
        one(LOCK, INT, lock, settings.lock_ms.is_some()),
    ]
}

/// Sets one, or takes it back.
///
/// # Errors
/// There is no such configuration, or the value is none for it.
pub(super) fn set(
    settings: &mut ShareSettings,
    name: &str,
    value: Option<&str>,
) -> Result<(), Refused> {
    let either = |no: &str, yes: &str| match value {
        None => Ok(None),
        Some(text) if text == no => Ok(Some(false)),
        Some(text) if text == yes => Ok(Some(true)),
        Some(text) => Err(invalid(name, text, &format!("it is {no} or {yes}"))),
    };
    match name {
        RESET => settings.from_beginning = either("latest", "earliest")?,
        ISOLATION => settings.read_committed = either("read_uncommitted", "read_committed")?,
        LOCK => {
            let number = |text: &str| {
                let number = text.trim().parse().ok();
                let number = number.filter(|ms| ShareSettings::LOCK_MS.contains(ms));
                let (least, most) = ShareSettings::LOCK_MS.into_inner();
                number.ok_or_else(|| invalid(name, text, &format!("it is {least} to {most}")))
            };
            settings.lock_ms = value.map(number).transpose()?;
        }
        HEARTBEAT | SESSION => {
            let number = |text: &str| text.trim().parse::<i32>().is_ok_and(|ms| ms > 0);
            if let Some(text) = value.filter(|text| !number(text)) {
                return Err(invalid(name, text, "it is a number of milliseconds"));
            }
        }
        _ => {
            let why =
                format!("no group has {name:?} here; {RESET}, {ISOLATION} and {LOCK} are kept");
            return Err(Refused::new(Code::InvalidConfig, why));
        }
    }
    Ok(())
}

/// Changes one by one of Kafka's numbers for that: 0 sets it, 1 takes it back.
///
/// # Errors
/// As [`set`], or it is no list.
pub(super) fn change(
    settings: &mut ShareSettings,
    name: &str,
    operation: i8,
    value: Option<&StrBytes>,
) -> Result<(), Refused> {
    match operation {
        0 => set(settings, name, value.map(StrBytes::as_str)),
        1 => set(settings, name, None),
        _ => Err(Refused::new(Code::InvalidRequest, "groups have no lists")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(settings: &ShareSettings) -> Vec<(&'static str, String, i8)> {
        let all = all(settings, &KafkaConfig::default()).into_iter();
        let own = all.filter(|one| !one.read_only);
        own.map(|one| (one.name, one.value, one.source)).collect()
    }

    #[test]
    fn what_is_set_is_told_and_taken_back() {
        let mut settings = ShareSettings::default();
        let plain = told(&settings);
        assert!(plain.iter().all(|(.., source)| *source == DEFAULT));
        set(&mut settings, RESET, Some("earliest")).unwrap();
        set(&mut settings, LOCK, Some("15000")).unwrap();
        set(&mut settings, ISOLATION, Some("read_committed")).unwrap();
        let values: Vec<_> = told(&settings)
            .into_iter()
            .map(|(_, value, _)| value)
            .collect();
        assert_eq!(values, ["earliest", "read_committed", "15000"]);
        let sources = told(&settings).into_iter().map(|(.., source)| source);
        assert!(sources.eq([OF_GROUP; 3]));
        for (name, ..) in &plain {
            change(&mut settings, name, 1, None).unwrap();
        }
        assert_eq!(told(&settings), plain);
    }

    #[test]
    fn the_times_of_members_are_the_nodes_whatever_is_asked() {
        let mut settings = ShareSettings::default();
        set(&mut settings, SESSION, Some("50000")).unwrap();
        change(&mut settings, SESSION, 1, None).unwrap();
        assert_eq!(settings, ShareSettings::default());
        let node = KafkaConfig::default();
        let told = all(&settings, &node);
        let session = told.iter().find(|one| one.name == SESSION).unwrap();
        let holds = node.consumer_session_timeout.as_millis().to_string();
        assert_eq!((&session.value, session.read_only), (&holds, true));
    }

    #[test]
    fn what_is_none_is_refused_and_changes_nothing() {
        let mut settings = ShareSettings::default();
        let wrong = [
            (RESET, "by_duration:PT1H"),
            (LOCK, "999"),
            (LOCK, "3600001"),
            (LOCK, "soon"),
            (ISOLATION, "committed"),
            ("consumer.assignment.interval.ms", "1"),
            (SESSION, "soon"),
        ];
        for (name, value) in wrong {
            let refused = set(&mut settings, name, Some(value)).unwrap_err();
            assert_eq!(refused.code, Code::InvalidConfig, "{name} {value}");
        }
        assert_eq!(settings, ShareSettings::default());
        assert!(change(&mut settings, RESET, 2, None).is_err());
    }
}
