//! What a program says it handles: its handlers with what they take and what they may publish or
//! answer, as a member of a group tells its bus ([`crate::GroupMember::describe`]).
//!
//! This room knows the description and its bounds. It may not know handlers themselves, or who
//! keeps the descriptions.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::bus::Order;
use crate::limits::{
    ATTRIBUTE_MAX_BYTES, CATALOGUE_HANDLERS_MAX, CATALOGUE_MAX_BYTES, CATALOGUE_NAME_MAX_BYTES,
    CATALOGUE_OUTPUTS_MAX, CATALOGUE_SCHEMA_DEPTH_MAX,
};
use crate::name::TopicName;

/// Why a catalogue was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CatalogueError {
    /// It is none, or beyond a bound.
    #[error("the catalogue of handlers is refused: {0}")]
    Invalid(String),
    /// The bus keeps no more of them at the moment.
    #[error(
        "the catalogues of handlers take {max_bytes} bytes already, which is all they may have"
    )]
    Full {
        /// All that they may have together.
        max_bytes: usize,
    },
}

/// The handlers of one member of a group: at most [`CATALOGUE_HANDLERS_MAX`], in at most
/// [`CATALOGUE_MAX_BYTES`] of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogue {
    /// The program's name in listings.
    pub name: String,
    /// Its handlers, each with an id of its own.
    pub handlers: Vec<HandlerEntry>,
}

/// One handler, described.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlerEntry {
    /// Its id: stable, unique in its catalogue.
    pub id: String,
    /// Its name in the program, such as the path of its function.
    #[serde(default)]
    pub name: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// The `source` of the events that it publishes, where it is always the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The topic that it reads.
    pub topic: TopicName,
    /// The event type that it is for, or a pattern over types.
    #[serde(rename = "type")]
    pub ty: String,
    /// Whether `ty` is a pattern.
    #[serde(default)]
    pub pattern: bool,
    /// What it takes.
    #[serde(default)]
    pub input: InputEntry,
    /// What it may publish or answer.
    #[serde(default)]
    pub outputs: Vec<OutputEntry>,
    /// The order it relies on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Order>,
    /// How often and when it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryEntry>,
    /// How long one call may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// What a handler takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputEntry {
    /// The event type that it expects.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub ty: Option<String>,
    /// The JSON Schema of the data; without one, any data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaText>,
}

/// Whether an output is an event or an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputEntryKind {
    /// An event that is published.
    Event,
    /// The answer to a request.
    Reply,
}

/// One thing that a handler may publish or answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputEntry {
    /// Event or answer.
    pub kind: OutputEntryKind,
    /// The event type, of an event.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub ty: Option<String>,
    /// The topic, of an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicName>,
    /// The JSON Schema of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<SchemaText>,
}

/// How often and when a failed handler is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryEntry {
    /// Tries after the first one.
    pub retries: u32,
    /// Wait before the first retry, in milliseconds.
    #[serde(default)]
    pub first_ms: u64,
    /// Longest wait, in milliseconds.
    #[serde(default)]
    pub max_ms: u64,
}

/// A JSON Schema as its text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SchemaText(Box<RawValue>);

impl SchemaText {
    /// The text, which is JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for SchemaText {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for SchemaText {}

impl Catalogue {
    /// Reads a catalogue from JSON. Members that are not known are passed over.
    ///
    /// # Errors
    /// [`CatalogueError::Invalid`] names what is wrong, or which bound is passed.
    pub fn from_json(text: &str) -> Result<Self, CatalogueError> {
        if text.len() > CATALOGUE_MAX_BYTES {
            let size = text.len();
            let why = format!("it has {size} bytes, and at most {CATALOGUE_MAX_BYTES} are taken");
            return Err(CatalogueError::Invalid(why));
        }
        let read: Self = serde_json::from_str(text)
            .map_err(|error| CatalogueError::Invalid(error.to_string()))?;
        read.check().map_err(CatalogueError::Invalid)?;
        Ok(read)
    }

    /// Its JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts, numbers and JSON become JSON")
    }

    /// Roughly the bytes that it takes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let handlers = self.handlers.iter().map(HandlerEntry::size_bytes);
        self.name.len() + handlers.sum::<usize>() + 64
    }

    fn check(&self) -> Result<(), String> {
        named("name", &self.name, CATALOGUE_NAME_MAX_BYTES)?;
        let count = self.handlers.len();
        if count > CATALOGUE_HANDLERS_MAX {
            return Err(format!(
                "it has {count} handlers, and at most {CATALOGUE_HANDLERS_MAX} are taken"
            ));
        }
        let mut ids = BTreeSet::new();
        for handler in &self.handlers {
            handler.check()?;
            if !ids.insert(&handler.id) {
                return Err(format!("two handlers have the id {:?}", handler.id));
            }
        }
        Ok(())
    }
}

impl HandlerEntry {
    /// The same without the JSON Schemas.
    #[must_use]
    pub fn without_schemas(&self) -> Self {
        let mut bare = self.clone();
        bare.input.schema = None;
        bare.outputs.iter_mut().for_each(|out| out.schema = None);
        bare
    }

    fn schemas(&self) -> impl Iterator<Item = &SchemaText> {
        let outputs = self.outputs.iter().filter_map(|out| out.schema.as_ref());
        self.input.schema.iter().chain(outputs)
    }

    fn size_bytes(&self) -> usize {
        let schemas: usize = self.schemas().map(|schema| schema.as_str().len()).sum();
        let texts = [&self.id, &self.name, &self.version, &self.ty];
        let texts: usize = texts.into_iter().map(String::len).sum();
        schemas + texts + 256 * (1 + self.outputs.len())
    }

    fn check(&self) -> Result<(), String> {
        let of = |why: String| format!("handler {:?}: {why}", shown(&self.id));
        if self.id.is_empty() {
            return Err("a handler has no id".to_owned());
        }
        for (what, text) in [
            ("id", &self.id),
            ("name", &self.name),
            ("version", &self.version),
        ] {
            named(what, text, CATALOGUE_NAME_MAX_BYTES).map_err(of)?;
        }
        let source = self.source.as_deref().unwrap_or_default();
        let types = self.outputs.iter().filter_map(|out| out.ty.as_deref());
        let types = types.chain(self.input.ty.as_deref()).chain([source]);
        for text in types.chain([self.ty.as_str()]) {
            named("type or source", text, ATTRIBUTE_MAX_BYTES).map_err(of)?;
        }
        let count = self.outputs.len();
        if count > CATALOGUE_OUTPUTS_MAX {
            return Err(of(format!(
                "it has {count} outputs, and at most {CATALOGUE_OUTPUTS_MAX} are taken"
            )));
        }
        if self
            .schemas()
            .any(|schema| depth(schema.as_str()) > CATALOGUE_SCHEMA_DEPTH_MAX)
        {
            return Err(of(format!(
                "a schema is nested deeper than {CATALOGUE_SCHEMA_DEPTH_MAX}"
            )));
        }
        Ok(())
    }
}

fn named(what: &str, text: &str, max_bytes: usize) -> Result<(), String> {
    if text.len() > max_bytes {
        return Err(format!("a {what} has more than {max_bytes} bytes"));
    }
    match text.chars().any(char::is_control) {
        true => Err(format!("a {what} has control characters")),
        false => Ok(()),
    }
}

fn shown(id: &str) -> String {
    id.chars().take(64).collect()
}

/// How deep objects and arrays are nested in a text that is JSON.
fn depth(json: &str) -> usize {
    let (mut deepest, mut now, mut in_text, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                now += 1;
                deepest = deepest.max(now);
            }
            b'}' | b']' if !in_text => now = now.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handler(id: &str, more: &str) -> String {
        format!(r#"{{"id":"{id}","topic":"orders","type":"order_paid"{more}}}"#)
    }

    fn catalogue(handlers: &[String]) -> Result<Catalogue, CatalogueError> {
        let handlers = handlers.join(",");
        Catalogue::from_json(&format!(r#"{{"name":"shop","handlers":[{handlers}]}}"#))
    }

    #[test]
    fn what_is_read_is_written_again() {
        let more = r#","version":"2","source":"/shop","pattern":false,
            "input":{"type":"order_paid","schema":{"type":"object","x":"}{]["}},
            "outputs":[{"kind":"event","type":"invoiced","topic":"invoices","schema":true},
                       {"kind":"reply","schema":{}}],
            "needs":"per_key","retry":{"retries":3,"first_ms":5,"max_ms":9},"timeout_ms":70,
            "unknown":[1]"#;
        let read = catalogue(&[handler("charge", more)]).unwrap();
        assert_eq!(Catalogue::from_json(&read.to_json()), Ok(read.clone()));
        let entry = &read.handlers[0];
        assert_eq!(
            entry.outputs[0].topic.as_ref().unwrap().as_str(),
            "invoices"
        );
        assert_eq!(entry.needs, Some(Order::PerKey));
        let bare = entry.without_schemas();
        assert_eq!(bare.schemas().count(), 0);
        assert_eq!(entry.schemas().count(), 3);
    }

    #[test]
    fn what_passes_a_bound_is_refused_and_told() {
        let deep = |levels: usize| {
            let schema = format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
            handler("a", &format!(r#","input":{{"schema":{schema}}}"#))
        };
        let many = |count: usize| (0..count).map(|n| handler(&format!("h{n}"), "")).collect();
        let outputs = |count: usize| {
            let outputs = vec![r#"{"kind":"reply"}"#; count].join(",");
            handler("a", &format!(r#","outputs":[{outputs}]"#))
        };
        let large = |bytes: usize| handler("a", &format!(r#","more":"{}""#, "x".repeat(bytes)));
        let taken: [Vec<String>; 4] = [
            vec![deep(CATALOGUE_SCHEMA_DEPTH_MAX)],
            many(CATALOGUE_HANDLERS_MAX),
            vec![outputs(CATALOGUE_OUTPUTS_MAX)],
            vec![large(CATALOGUE_MAX_BYTES - 200)],
        ];
        for handlers in taken {
            assert!(catalogue(&handlers).is_ok());
        }
        for (handlers, why) in [
            (vec![deep(CATALOGUE_SCHEMA_DEPTH_MAX + 1)], "nested deeper"),
            (many(CATALOGUE_HANDLERS_MAX + 1), "handlers"),
            (vec![outputs(CATALOGUE_OUTPUTS_MAX + 1)], "outputs"),
            (vec![large(CATALOGUE_MAX_BYTES)], "bytes"),
            (vec![handler("a", ""), handler("a", "")], "two handlers"),
            (vec![handler("", "")], "no id"),
            (vec![handler(&"x".repeat(1025), "")], "id"),
            (vec![handler("a\\u0000", "")], "control characters"),
            (
                vec![r#"{"id":"a","topic":"a b","type":"t"}"#.to_owned()],
                "topic",
            ),
            (vec!["17".to_owned()], "invalid type"),
        ] {
            let error = catalogue(&handlers).unwrap_err().to_string();
            assert!(error.contains(why), "{error}, and not {why}");
        }
    }
}
