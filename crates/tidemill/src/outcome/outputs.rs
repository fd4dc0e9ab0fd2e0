//! What a handler may publish or answer, for [`crate::Router::describe`].

use schemars::{JsonSchema, Schema, schema_for};
use serde::Serialize;

use crate::message::Message;

/// Whether an output is an event or an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// An event that is published.
    Event,
    /// The answer to a request.
    Reply,
}

/// One thing that a handler may publish or answer.
#[derive(Clone, Debug, Serialize)]
pub struct OutputInfo {
    /// Event or answer.
    pub kind: OutputKind,
    /// The event type, of an event.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub ty: Option<String>,
    /// The topic, of an event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The JSON Schema of the data.
    pub schema: Schema,
}

/// The list that [`super::IntoOutcome::outputs`] fills.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    pub(crate) list: Vec<OutputInfo>,
}

impl Outputs {
    /// The handler may publish `M`.
    pub fn event<M: Message>(&mut self) {
        let known = |have: &OutputInfo| {
            have.ty.as_deref() == Some(M::TYPE) && have.topic.as_deref() == Some(M::TOPIC)
        };
        if self.list.iter().any(known) {
            return;
        }
        self.list.push(OutputInfo {
            kind: OutputKind::Event,
            ty: Some(M::TYPE.to_owned()),
            topic: Some(M::TOPIC.to_owned()),
            schema: M::schema(),
        });
    }

    /// The handler may answer with `T`.
    pub fn reply<T: JsonSchema>(&mut self) {
        self.list.push(OutputInfo {
            kind: OutputKind::Reply,
            ty: None,
            topic: None,
            schema: schema_for!(T),
        });
    }

    /// What was told so far.
    pub fn iter(&self) -> impl Iterator<Item = &OutputInfo> {
        self.list.iter()
    }
}
