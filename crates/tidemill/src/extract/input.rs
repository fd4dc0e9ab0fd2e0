//! What a handler expects, for [`crate::Router::describe`].

use schemars::Schema;
use serde::Serialize;

use crate::message::Message;

/// The kind of event that a handler expects.
#[derive(Clone, Debug, Serialize)]
pub struct InputInfo {
    /// The event type that its last argument names.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub ty: Option<String>,
    /// The JSON Schema of the data; without one, any data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<Schema>,
}

/// Every [`Message`], and [`AnyInput`].
pub trait Input {
    /// Describes it.
    fn describe() -> InputInfo;
}

/// Any event at all.
#[derive(Clone, Copy, Debug)]
pub enum AnyInput {}

impl Input for AnyInput {
    fn describe() -> InputInfo {
        InputInfo {
            ty: None,
            schema: None,
        }
    }
}

impl<M: Message> Input for M {
    fn describe() -> InputInfo {
        InputInfo {
            ty: Some(M::TYPE.to_owned()),
            schema: Some(M::schema()),
        }
    }
}
