//! The messages of clients, `subscribe` and `unsubscribe`, read from their raw text, so that the
//! echo is the message byte for byte. Knows no rooms.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::AckSender;
use socketioxide::handler::{FromConnectParts, FromMessageParts};
use socketioxide::socket::Socket;
use socketioxide_core::Value;

use crate::envelope::{Envelope, Member};

/// The socket itself, as its handlers get it.
pub(crate) struct Handle(pub(crate) Arc<Socket>);

impl FromConnectParts<LocalAdapter> for Handle {
    type Error = Infallible;

    fn from_connect_parts(socket: &Arc<Socket>, _: &Option<Value>) -> Result<Self, Infallible> {
        Ok(Self(Arc::clone(socket)))
    }
}

/// A message as it came: all of its text, and the number of the acknowledgement asked for.
pub(crate) struct Incoming {
    text: String,
    pub(crate) ack: Option<i64>,
}

impl FromMessageParts<LocalAdapter> for Incoming {
    type Error = Infallible;

    fn from_message_parts(
        _: &Arc<Socket>,
        value: &mut Value,
        ack: &Option<i64>,
    ) -> Result<Self, Infallible> {
        let text = value.as_str().map(|text| text.as_str().to_owned());
        Ok(Self {
            text: text.unwrap_or_default(),
            ack: *ack,
        })
    }
}

impl Incoming {
    /// The message with a room: the first argument after the event's name, or the second.
    pub(crate) fn room(&self) -> Option<(String, Box<RawValue>)> {
        let arguments: Vec<&RawValue> = serde_json::from_str(&self.text).ok()?;
        arguments.into_iter().skip(1).take(2).find_map(|argument| {
            if !argument.get().starts_with('{') {
                return None;
            }
            match Envelope::read(argument.get()).ok()?.room {
                Member::Text(room) => Some((room, argument.to_owned())),
                _ => None,
            }
        })
    }
}

/// The answer to a message.
#[derive(Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub(crate) enum Answer<'a> {
    /// It was done.
    Success {
        /// The room that it was about.
        room: &'a str,
    },
    /// It was refused.
    Error {
        /// What is wrong, and what to do.
        message: String,
    },
}

impl Answer<'_> {
    /// As JSON.
    pub(crate) fn to_json(&self) -> Box<RawValue> {
        serde_json::value::to_raw_value(self).expect("texts are always JSON")
    }
}

/// A sender of the acknowledgement `id`. The library's sender is used up by each try, also by
/// one that found no room.
pub(crate) fn ack_sender(socket: &Arc<Socket>, id: i64) -> AckSender {
    let mut unused = Value::Bytes(Bytes::new());
    let Ok(sender) = AckSender::from_message_parts(socket, &mut unused, &Some(id));
    sender
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn room(text: &str) -> Option<(String, String)> {
        let text = text.to_owned();
        let (room, raw) = Incoming { text, ack: None }.room()?;
        Some((room, raw.get().to_owned()))
    }

    #[test]
    fn the_room_is_in_the_first_or_the_second_argument() {
        for (text, message) in [
            (r#"["subscribe",{"room":"a"}]"#, r#"{"room":"a"}"#),
            (
                r#"["subscribe","any",{ "n":12345678901234567890123, "room":"a"}]"#,
                r#"{ "n":12345678901234567890123, "room":"a"}"#,
            ),
            (
                r#"["subscribe",{"x":1},{"room":"a"},{"room":"b"}]"#,
                r#"{"room":"a"}"#,
            ),
            (r#"["subscribe",null,{"room":"a"}]"#, r#"{"room":"a"}"#),
        ] {
            let found = room(text);
            assert_eq!(found, Some(("a".to_owned(), message.to_owned())), "{text}");
        }
    }

    #[test]
    fn messages_without_a_room_are_none() {
        for text in [
            r#"["subscribe"]"#,
            r#"["subscribe","a"]"#,
            r#"["subscribe",{"room":1}]"#,
            r#"["subscribe",{"_placeholder":true,"num":0}]"#,
            r#"["subscribe",1,2,{"room":"a"}]"#,
            "",
            "{",
        ] {
            assert_eq!(room(text), None, "{text}");
        }
    }

    /// Pieces that often make a message, and often almost one.
    const PIECE: &str =
        r#"(\["s",|\["s"|\]|,|1|"t"|\{"room":"a"\}|\{ "x":[1],"room":"b" \}|\{"room":1\}|\{)"#;

    proptest! {
        #[test]
        fn any_text_is_a_message_or_none(pieces in prop::collection::vec(PIECE, 1..6)) {
            let text = pieces.concat();
            let found = room(&text);
            let whole: Option<Vec<serde_json::Value>> = serde_json::from_str(&text).ok();
            let first = whole.iter().flatten().skip(1).take(2).find_map(|value| {
                Some(value.get("room")?.as_str()?.to_owned())
            });
            prop_assert_eq!(found.as_ref().map(|(name, _)| name), first.as_ref(), "{}", text);
            if let Some((_, message)) = found {
                prop_assert!(text.contains(&message), "{}", message);
            }
        }
    }
}
