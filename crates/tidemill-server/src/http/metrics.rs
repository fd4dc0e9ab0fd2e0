//! `/metrics`: what the server counts, and what the bus has, in the text form of OpenMetrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use tidemill_broker::{Broker, GroupInfo, Health};
use tidemill_core::TopicBounds;
use tidemill_core::budget::{Budget, Class};

use super::doors::Methods;
use super::metrics_kafka;
use super::openapi::Operation;
use super::openapi::types::AnyText;
use super::problem::{Kind, Problem};
use crate::app::App;
use crate::limits::METRIC_QUEUES_MAX;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) type Labels = Vec<(&'static str, String)>;

/// The methods of `/metrics`.
pub(crate) fn methods() -> Methods {
    let operation = Operation::new("metrics", "What is counted, for Prometheus")
        .answers_as::<AnyText>(200, OPEN_METRICS, "OpenMetrics 1.0");
    Methods::new().get(metrics, operation)
}

/// All metrics.
async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let mut registry = Registry::with_prefix("tidemill");
    add_memory(&app.memory, &mut registry);
    let topics = app.bus.topics().await?;
    let groups = app.broker.as_ref().map(Broker::groups).unwrap_or_default();
    add_topics(&topics, &mut registry);
    if let Some(broker) = &app.broker {
        add_groups(&groups, &mut registry);
        add_queues(broker, &mut registry).await;
        add_counters(broker, &mut registry);
    }
    let held = Gauge::<i64>::default();
    held.set(i64::try_from(app.pullers.held()).unwrap_or(i64::MAX));
    registry.register(
        "pull_leases",
        "Events that are held under leases over HTTP",
        held,
    );
    let waiting = app.memory.used(Class::Outboxes);
    let waiting = i64::try_from(waiting).unwrap_or(i64::MAX);
    app.metrics.waiting_bytes.set(waiting);
    let mut text = String::new();
    let written = encode_registry(&mut text, app.metrics.registry())
        .and_then(|()| encode_registry(&mut text, &registry))
        .and_then(|()| {
            let more = metrics_kafka::registries(&topics, &groups, app.broker.as_ref());
            more.iter()
                .try_for_each(|one| encode_registry(&mut text, one))
        })
        .and_then(|()| encode_eof(&mut text));
    match written {
        Ok(()) => Ok(([(CONTENT_TYPE, OPEN_METRICS)], text).into_response()),
        Err(error) => Err(Problem::new(Kind::Internal, error.to_string())),
    }
}

/// What is taken of the memory budget.
fn add_memory(memory: &Budget, registry: &mut Registry) {
    let used = Family::<Labels, Gauge>::default();
    for class in Class::ALL {
        let labels = vec![("class", class.name().to_owned())];
        set(&used, &labels, memory.used(class) as u64);
    }
    let gauge = |bytes: usize| {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        gauge
    };
    let help = "Memory that is taken for what is on its way, by what for";
    registry.register_with_unit("memory", help, Unit::Bytes, used);
    let help = "Memory that may be taken for what is on its way";
    registry.register_with_unit("memory_limit", help, Unit::Bytes, gauge(memory.limit()));
    let help = "Memory beyond the limit, of single things that are larger than their part of it";
    registry.register_with_unit("memory_over", help, Unit::Bytes, gauge(memory.over()));
}

/// What each partition holds.
fn add_topics(topics: &[TopicBounds], registry: &mut Registry) {
    let earliest = Family::<Labels, Gauge>::default();
    let end = Family::<Labels, Gauge>::default();
    for topic in topics {
        for bounds in &topic.partitions {
            let labels = vec![
                ("topic", topic.topic.to_string()),
                ("partition", bounds.partition.to_string()),
            ];
            set(&earliest, &labels, bounds.earliest.0);
            set(&end, &labels, bounds.end.0);
        }
    }
    registry.register("partition_earliest_offset", "First offset kept", earliest);
    registry.register("partition_end_offset", "Offset of the next event", end);
}

/// How far each group is behind.
fn add_groups(groups: &[GroupInfo], registry: &mut Registry) {
    let lag = Family::<Labels, Gauge>::default();
    let in_flight = Family::<Labels, Gauge>::default();
    let members = Family::<Labels, Gauge>::default();
    for group in groups {
        let name = group.name.to_string();
        let labels = vec![("group", name.clone())];
        set(&members, &labels, group.members.len() as u64);
        for at in &group.partitions {
            let labels = vec![
                ("group", name.clone()),
                ("topic", at.topic.to_string()),
                ("partition", at.partition.to_string()),
            ];
            set(&lag, &labels, at.lag);
            set(&in_flight, &labels, at.in_flight as u64);
        }
    }
    registry.register(
        "group_lag_events",
        "Durable events that are not settled",
        lag,
    );
    registry.register(
        "group_in_flight_events",
        "Events that members have now",
        in_flight,
    );
    let help = "Members that are connected, but for those of clients of Kafka, which \
                kafka_consumergroup_members counts too";
    registry.register("group_members", help, members);
}

/// How much is in each queue.
async fn add_queues(broker: &Broker, registry: &mut Registry) {
    let depth = Family::<Labels, Gauge>::default();
    let in_flight = Family::<Labels, Gauge>::default();
    let oldest = Family::<Labels, Gauge>::default();
    for name in broker.queue_names().iter().take(METRIC_QUEUES_MAX) {
        // It may be deleted meanwhile.
        let Ok(queue) = broker.queue_info(name).await else {
            continue;
        };
        let labels = vec![("queue", queue.name.to_string())];
        set(&depth, &labels, queue.length);
        set(&in_flight, &labels, queue.in_flight);
        let age_ms = queue.oldest_age_ms.unwrap_or_default();
        set(&oldest, &labels, age_ms / 1000);
    }
    let help = "Messages that are not settled, those in flight included";
    registry.register("queue_messages", help, depth);
    let help = "Messages that somebody has now";
    registry.register("queue_in_flight_messages", help, in_flight);
    let help = "How long the oldest message has been there, 0 where there is none";
    registry.register_with_unit("queue_oldest_message_age", help, Unit::Seconds, oldest);
}

/// What the broker counts, under the names that it has for it.
fn add_counters(broker: &Broker, registry: &mut Registry) {
    let ready = Gauge::<i64>::default();
    ready.set(i64::from(broker.health() == Health::Ready));
    registry.register("broker_ready", "1 while the broker takes events", ready);
    if let Some(scrub) = broker.scrub() {
        let oldest = Gauge::<i64>::default();
        oldest.set(scrub.oldest_pass_ms.map_or(0, |ms| ms / 1000));
        let help = "When what was verified the longest time ago was verified, 0 while something \
                    never was";
        registry.register_with_unit("broker_scrub_oldest_pass", help, Unit::Seconds, oldest);
    }
    let counted = serde_json::to_value(broker.metrics()).unwrap_or_default();
    for (name, count) in counted.as_object().into_iter().flatten() {
        let help = format!("Since the broker was opened: {}", name.replace('_', " "));
        let counter = ConstCounter::new(count.as_u64().unwrap_or(0));
        registry.register(format!("broker_{name}"), help, counter);
    }
}

pub(super) fn set(family: &Family<Labels, Gauge>, labels: &Labels, value: u64) {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    family.get_or_create(labels).set(value);
}
