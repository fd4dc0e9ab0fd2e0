//! Every event of the text messages: what the handlers take and give.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidemill::Message;

/// The topic of everything that happens to messages.
pub const TOPIC: &str = "messages";

/// Request: take a message in. Answered with a [`MessageSent`], by the last of the handlers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Message)]
#[message(type = "send_message", topic = "message_requests", key = "to")]
#[serde(tag = "type", rename = "send_message")]
pub struct SendMessage {
    /// Who sends it.
    pub from: String,
    /// Who is to get it. Messages to one receiver keep their order.
    pub to: String,
    /// What it says.
    pub text: String,
}

/// A message was taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Message)]
#[message(type = "message_received", topic = "messages", key = "to")]
#[serde(tag = "type", rename = "message_received")]
pub struct MessageReceived {
    /// Which message: the id of the request.
    pub id: String,
    /// Who sends it.
    pub from: String,
    /// Who is to get it.
    pub to: String,
    /// What it says.
    pub text: String,
}

/// A message is ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Message)]
#[message(type = "message_processed", topic = "messages", key = "to")]
#[serde(tag = "type", rename = "message_processed")]
pub struct MessageProcessed {
    /// Which message.
    pub id: String,
    /// Who sends it.
    pub from: String,
    /// Who is to get it.
    pub to: String,
    /// What it says, without control characters and blanks around it.
    pub text: String,
    /// How many characters that has.
    pub characters: u64,
    /// How many words.
    pub words: u64,
}

/// A message was sent: whoever follows the topic has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Message)]
#[message(type = "message_sent", topic = "messages", key = "to")]
#[serde(tag = "type", rename = "message_sent")]
pub struct MessageSent {
    /// Which message.
    pub id: String,
    /// Who sent it.
    pub from: String,
    /// Who gets it.
    pub to: String,
    /// What it says.
    pub text: String,
    /// How many characters that has.
    pub characters: u64,
    /// How many words.
    pub words: u64,
}
