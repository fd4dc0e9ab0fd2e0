//! The node's configurations by the names that Kafka gives them. What holds here is set on the
//! command line; what Kafka's brokers can change while they run, and nothing here has, is taken
//! without an effect, so that programs that set it work.

use super::configs::{Config, DEFAULT, OF_NODE};
use super::error::{Code, Refused};
use crate::config::{Advertised, KafkaConfig};

/// What Kafka's brokers can change while they run, and has no effect here: threads, caches and
/// rates of theirs, and what topics have that say nothing. Sorted. What is about who may connect,
/// and how, is not among it: nobody shall believe that it holds.
const NO_EFFECT: &[&str] = &[
    "background.threads",
    "compression.type",
    "follower.replication.throttled.rate",
    "leader.replication.throttled.rate",
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.io.buffer.load.factor",
    "log.cleaner.io.buffer.size",
    "log.cleaner.io.max.bytes.per.second",
    "log.cleaner.threads",
    "log.cleanup.policy",
    "log.flush.interval.messages",
    "log.flush.interval.ms",
    "log.index.interval.bytes",
    "log.index.size.max.bytes",
    "log.preallocate",
    "log.segment.delete.delay.ms",
    "metric.reporters",
    "min.insync.replicas",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
    "replica.alter.log.dirs.io.max.bytes.per.second",
    "sasl.kerberos.kinit.cmd",
    "sasl.kerberos.min.time.before.relogin",
    "sasl.kerberos.ticket.renew.jitter",
    "sasl.kerberos.ticket.renew.window.factor",
    "unclean.leader.election.enable",
];

/// Takes a change of the node's configuration, which has no effect then.
///
/// # Errors
/// It would have one, or there is no such configuration.
pub(super) fn change(name: &str) -> Result<(), Refused> {
    if NO_EFFECT.contains(&name) {
        tracing::warn!(
            config = name,
            "taken from a client of Kafka, and has no effect here"
        );
        return Ok(());
    }
    let why = format!(
        "{name:?} cannot be changed while the server runs: what there is of it is an option of \
         `tidemill serve`, or a configuration of single topics"
    );
    Err(Refused::new(Code::InvalidRequest, why))
}

fn of_node(name: &'static str, kind: i8, value: String, is_default: bool) -> Config {
    Config {
        name,
        value,
        kind,
        source: if is_default { DEFAULT } else { OF_NODE },
        read_only: true,
        synonyms: Vec::new(),
    }
}

/// What the node has that clients may want to know, sorted by name.
pub(super) fn of_broker(node: &KafkaConfig, advertised: &Advertised) -> Vec<Config> {
    let plain = KafkaConfig::default();
    let partitions = node.default_partitions;
    let max_bytes = node.message_max_bytes;
    let (create, id) = (node.auto_create, node.node_id);
    let session_min = node.session_min;
    let heartbeat = node.consumer_heartbeat_interval;
    let session = node.consumer_session_timeout;
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
            "group.consumer.heartbeat.interval.ms",
            3,
            heartbeat.as_millis().to_string(),
            heartbeat == plain.consumer_heartbeat_interval,
        ),
        of_node(
            "group.consumer.session.timeout.ms",
            3,
            session.as_millis().to_string(),
            session == plain.consumer_session_timeout,
        ),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_an_effect_is_refused_and_the_rest_is_taken() {
        assert!(NO_EFFECT.is_sorted());
        let node = KafkaConfig::default();
        let advertised = Advertised {
            host: "here".to_owned(),
            port: 1,
        };
        for config in of_broker(&node, &advertised) {
            let refused = change(config.name).err().unwrap();
            assert_eq!(refused.code, Code::InvalidRequest, "{}", config.name);
        }
        for name in [
            "log.retention.ms",
            "max.connections",
            "ssl.keystore.location",
            "",
        ] {
            assert!(change(name).is_err(), "{name}");
        }
        for name in NO_EFFECT {
            assert!(change(name).is_ok(), "{name}");
        }
    }
}
