//! `/metrics` once more under the names of `kafka_exporter`, so that dashboards and alerts which
//! were made for Apache Kafka show this server: offsets of partitions, lag and members of groups.
//! Of so many partitions as the bound says; those beyond are counted.
//!
//! There is one node, so each partition has one replica, which is in sync.

use std::collections::BTreeMap;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tidemill_broker::{Broker, GroupInfo, GroupKind};
use tidemill_core::TopicBounds;

use super::metrics::{Labels, set};
use crate::limits::METRIC_KAFKA_PARTITIONS_MAX;

type Gauges = Family<Labels, Gauge>;

/// What there is, under those names; and, under ours, how much of it was left out.
pub(super) fn registries(
    topics: &[TopicBounds],
    groups: &[GroupInfo],
    broker: Option<&Broker>,
) -> [Registry; 2] {
    let mut kafka = Registry::default();
    let nodes = Gauge::<i64>::default();
    nodes.set(1);
    kafka.register("kafka_brokers", "Nodes of the cluster", nodes);
    let left_out = Gauges::default();
    let without = |what: &str, count| {
        set(&left_out, &vec![("what", what.to_owned())], count);
    };
    without("topic_partitions", add_topics(topics, &mut kafka));
    without("group_partitions", add_groups(groups, broker, &mut kafka));
    let mut ours = Registry::with_prefix("tidemill");
    ours.register(
        "metrics_left_out",
        "Partitions that the metrics named kafka_ leave out at their bound",
        left_out,
    );
    [kafka, ours]
}

/// Every topic's partitions; how many were left out.
fn add_topics(topics: &[TopicBounds], registry: &mut Registry) -> u64 {
    let [count, end, oldest, replicas, in_sync, under] = [(); 6].map(|()| Gauges::default());
    let mut told = 0;
    let mut left_out = 0;
    for topic in topics {
        let all = topic.partitions.len();
        let name = || topic.topic.to_string();
        if told >= METRIC_KAFKA_PARTITIONS_MAX {
            left_out += all as u64;
            continue;
        }
        set(&count, &vec![("topic", name())], all as u64);
        for bounds in &topic.partitions {
            if told >= METRIC_KAFKA_PARTITIONS_MAX {
                left_out += 1;
                continue;
            }
            told += 1;
            let partition = bounds.partition.to_string();
            let labels = vec![("partition", partition), ("topic", name())];
            set(&end, &labels, bounds.end.0);
            set(&oldest, &labels, bounds.earliest.0);
            set(&replicas, &labels, 1);
            set(&in_sync, &labels, 1);
            set(&under, &labels, 0);
        }
    }
    for (name, help, gauges) in [
        ("partitions", "Partitions of a topic", count),
        ("partition_current_offset", "Offset of the next event", end),
        ("partition_oldest_offset", "First offset kept", oldest),
        ("partition_replicas", "Replicas of a partition", replicas),
        ("partition_in_sync_replica", "Replicas in sync", in_sync),
        (
            "partition_under_replicated_partition",
            "1 where a replica is behind",
            under,
        ),
    ] {
        registry.register(format!("kafka_topic_{name}"), help, gauges);
    }
    left_out
}

/// Every group's positions; how many were left out.
fn add_groups(groups: &[GroupInfo], broker: Option<&Broker>, registry: &mut Registry) -> u64 {
    let [members, at, at_sum, lag, lag_sum] = [(); 5].map(|()| Gauges::default());
    let mut told = 0;
    let mut left_out = 0;
    for group in groups {
        let all = group.partitions.len();
        if told >= METRIC_KAFKA_PARTITIONS_MAX {
            left_out += all.max(1) as u64;
            continue;
        }
        let labels = || vec![("consumergroup", group.name.to_string())];
        set(&members, &labels(), members_of(group, broker) as u64);
        // A group without positions is one to be told of, too.
        told += usize::from(all == 0);
        let mut sums = BTreeMap::<String, (u64, u64)>::new();
        for place in &group.partitions {
            let sum = sums.entry(place.topic.to_string()).or_default();
            sum.0 = sum.0.saturating_add(place.position.0);
            sum.1 = sum.1.saturating_add(place.lag);
            if told >= METRIC_KAFKA_PARTITIONS_MAX {
                left_out += 1;
                continue;
            }
            told += 1;
            let mut labels = labels();
            labels.push(("partition", place.partition.to_string()));
            labels.push(("topic", place.topic.to_string()));
            set(&at, &labels, place.position.0);
            set(&lag, &labels, place.lag);
        }
        for (topic, (position, behind)) in sums {
            let mut labels = labels();
            labels.push(("topic", topic));
            set(&at_sum, &labels, position);
            set(&lag_sum, &labels, behind);
        }
    }
    for (name, help, gauges) in [
        ("members", "Members that are there", members),
        ("current_offset", "Everything before is settled", at),
        ("current_offset_sum", "The same, of a whole topic", at_sum),
        ("lag", "Events that are not settled", lag),
        ("lag_sum", "The same, of a whole topic", lag_sum),
    ] {
        registry.register(format!("kafka_consumergroup_{name}"), help, gauges);
    }
    left_out
}

/// Members of any kind.
fn members_of(group: &GroupInfo, broker: Option<&Broker>) -> usize {
    let consumer = broker.and_then(|broker| {
        let consumer = broker.consumer_groups().describe(&group.name);
        consumer.or_else(|| broker.share_groups().describe(&group.name))
    });
    if let Some(consumer) = consumer {
        return consumer.members.len();
    }
    let classic = broker
        .filter(|_| group.kind == GroupKind::Classic)
        .and_then(|broker| broker.classic_groups().describe(&group.name));
    classic.map_or(group.members.len(), |classic| classic.members.len())
}
