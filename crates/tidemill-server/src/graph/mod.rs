//! The flow graph: who sends what to whom. Sources publish to topics and queues, topics are
//! delivered to groups, and the handlers of groups publish again: as the catalogue of handlers says
//! (`declared`), and as the broker saw it (`seen`).
//!
//! This room makes a graph of facts. It may not know where these come from, nor HTTP.

mod mermaid;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use tidemill_broker::{Broker, SeenTraffic, ServedHandlers};
use tidemill_core::delivery::dead_letter_topic;
use tidemill_core::{GroupName, TopicName};

use crate::limits::{GRAPH_EDGES_MAX, GRAPH_NODES_MAX, GRAPH_TYPES_MAX};

/// What the graph is made of.
#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) topics: Vec<TopicName>,
    pub(crate) queues: Vec<TopicName>,
    pub(crate) groups: Vec<GroupFact>,
    pub(crate) handlers: Vec<ServedHandlers>,
    pub(crate) seen: Vec<SeenTraffic>,
}

/// A group and what it reads.
pub(crate) struct GroupFact {
    pub(crate) name: GroupName,
    pub(crate) topics: Vec<TopicName>,
    pub(crate) members: usize,
}

impl Facts {
    /// What a broker knows.
    pub(crate) async fn of(broker: &Broker) -> Self {
        let groups = broker.groups().into_iter().map(|group| GroupFact {
            name: group.name,
            topics: group.topics,
            members: group.members.len(),
        });
        Self {
            topics: broker
                .topics()
                .into_iter()
                .map(|topic| topic.name)
                .collect(),
            queues: broker
                .queues()
                .await
                .into_iter()
                .map(|queue| queue.name)
                .collect(),
            groups: groups.collect(),
            handlers: broker.handlers(),
            seen: broker.seen_traffic(),
        }
    }
}

/// What a node stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A `source` of events that is no handler's.
    Source,
    /// A topic.
    Topic,
    /// A queue.
    Queue,
    /// A consumer group, with its handlers.
    Group,
}

/// A source, topic, queue or group.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Node {
    id: String,
    kind: Kind,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<usize>,
    handlers: BTreeSet<String>,
}

/// What an edge says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    /// A source or a group publishes to a topic or queue.
    Publishes,
    /// A topic's events are delivered to a group.
    Delivers,
}

/// That something goes from one to the other.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Edge {
    from: String,
    to: String,
    kind: Way,
    /// Types, or patterns over types.
    types: BTreeSet<String>,
    /// How many events were seen, of those that are published.
    events: u64,
    /// A handler says so.
    declared: bool,
    /// It was seen, or the group is there.
    seen: bool,
}

/// The flow graph.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    /// There is more than a graph may have.
    truncated: bool,
}

#[derive(Default)]
struct Builder {
    nodes: BTreeMap<(Kind, String), Node>,
    edges: BTreeMap<(String, String), Edge>,
    queues: BTreeSet<TopicName>,
    truncated: bool,
}

impl Graph {
    /// Makes it of what is known.
    pub(crate) fn of(facts: Facts) -> Self {
        let mut builder = Builder {
            queues: facts.queues.iter().cloned().collect(),
            ..Builder::default()
        };
        for topic in facts.topics.iter().chain(&facts.queues) {
            builder.topic(topic);
        }
        facts.groups.iter().for_each(|group| builder.group(group));
        let mut owners: BTreeMap<&str, BTreeSet<&GroupName>> = BTreeMap::new();
        for served in &facts.handlers {
            builder.handlers(served);
            for entry in &served.catalogue.handlers {
                if let Some(source) = &entry.source {
                    owners.entry(source).or_default().insert(&served.group);
                }
            }
        }
        for seen in &facts.seen {
            // What was deleted goes nowhere.
            if facts.topics.contains(&seen.topic) || facts.queues.contains(&seen.topic) {
                builder.seen(seen, owners.get(&*seen.source));
            }
        }
        let Builder {
            nodes,
            edges,
            truncated,
            ..
        } = builder;
        Self {
            nodes: nodes.into_values().collect(),
            edges: edges.into_values().collect(),
            truncated,
        }
    }

    /// As text for Mermaid.
    pub(crate) fn to_mermaid(&self) -> String {
        mermaid::text(self)
    }
}

impl Builder {
    /// The node's id; none where there are too many nodes.
    fn node(&mut self, kind: Kind, name: &str) -> Option<String> {
        let full = self.nodes.len() >= GRAPH_NODES_MAX;
        let key = (kind, name.to_owned());
        if full && !self.nodes.contains_key(&key) {
            self.truncated = true;
            return None;
        }
        let word = match kind {
            Kind::Source => "source",
            Kind::Topic => "topic",
            Kind::Queue => "queue",
            Kind::Group => "group",
        };
        let node = self.nodes.entry(key).or_insert_with(|| Node {
            id: format!("{word}:{name}"),
            kind,
            name: name.to_owned(),
            members: (kind == Kind::Group).then_some(0),
            handlers: BTreeSet::new(),
        });
        Some(node.id.clone())
    }

    fn topic(&mut self, name: &TopicName) -> Option<String> {
        let kind = match self.queues.contains(name) {
            true => Kind::Queue,
            false => Kind::Topic,
        };
        self.node(kind, name.as_str())
    }

    fn edge(&mut self, from: Option<String>, to: Option<String>, kind: Way) -> Option<&mut Edge> {
        let key = (from?, to?);
        if self.edges.len() >= GRAPH_EDGES_MAX && !self.edges.contains_key(&key) {
            self.truncated = true;
            return None;
        }
        let (from, to) = key.clone();
        Some(self.edges.entry(key).or_insert_with(|| Edge {
            from,
            to,
            kind,
            types: BTreeSet::new(),
            events: 0,
            declared: false,
            seen: false,
        }))
    }

    fn group(&mut self, group: &GroupFact) {
        let name = group.name.as_str();
        let id = self.node(Kind::Group, name);
        if let Some(node) = self.nodes.get_mut(&(Kind::Group, name.to_owned())) {
            node.members = Some(group.members);
        }
        for topic in &group.topics {
            let from = self.topic(topic);
            if let Some(edge) = self.edge(from, id.clone(), Way::Delivers) {
                edge.seen = true;
            }
        }
        let dead = dead_letter_topic(&group.name);
        if self.nodes.contains_key(&(Kind::Topic, dead.to_string())) {
            let to = self.topic(&dead);
            if let Some(edge) = self.edge(id, to, Way::Publishes) {
                edge.seen = true;
            }
        }
    }

    fn handlers(&mut self, served: &ServedHandlers) {
        let group = served.group.as_str();
        let id = self.node(Kind::Group, group);
        for entry in &served.catalogue.handlers {
            if let Some(node) = self.nodes.get_mut(&(Kind::Group, group.to_owned())) {
                node.handlers.insert(entry.id.clone());
            }
            let from = self.topic(&entry.topic);
            if let Some(edge) = self.edge(from, id.clone(), Way::Delivers) {
                edge.declared = true;
                edge.add_type(&entry.ty);
            }
            for output in &entry.outputs {
                let Some(topic) = &output.topic else { continue };
                let to = self.topic(topic);
                if let Some(edge) = self.edge(id.clone(), to, Way::Publishes) {
                    edge.declared = true;
                    edge.add_type(output.ty.as_deref().unwrap_or("*"));
                }
            }
        }
    }

    /// What a handler's source published is its groups'; anything else a source's.
    fn seen(&mut self, seen: &SeenTraffic, owners: Option<&BTreeSet<&GroupName>>) {
        let to = self.topic(&seen.topic);
        let froms = match owners {
            Some(groups) => groups
                .iter()
                .map(|group| self.node(Kind::Group, group.as_str()))
                .collect(),
            None => vec![self.node(Kind::Source, &seen.source)],
        };
        for from in froms {
            if let Some(edge) = self.edge(from, to.clone(), Way::Publishes) {
                edge.seen = true;
                edge.events += seen.events;
                edge.add_type(&seen.ty);
            }
        }
    }
}

impl Edge {
    fn add_type(&mut self, ty: &str) {
        if self.types.len() < GRAPH_TYPES_MAX {
            self.types.insert(ty.to_owned());
        }
    }
}
