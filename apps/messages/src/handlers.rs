//! The three handlers: each takes one event and gives the next. The first two hand on where the
//! answer is to go, so that the one who asked hears from the last.
//!
//! Knows no HTTP and keeps nothing: handled twice, an event gives the same events under the same
//! ids.

use tidemill::core::ExtensionValue;
use tidemill::core::event::REPLY_TO;
use tidemill::extract::Attributes;
use tidemill::{Data, Emit, EventId, Handler as _, Outgoing, Reply, Router, Source};

use crate::events::{MessageProcessed, MessageReceived, MessageSent, SendMessage};

/// The name of their group.
pub const GROUP: &str = "messages";

/// The handlers, to be served as the group [`GROUP`].
pub fn router() -> Router {
    Router::new()
        .source(Source::new("/messages").expect("it is a legal path"))
        .on(receive.id("receive"))
        .on(process.id("process"))
        .on(send.id("send"))
}

async fn receive(
    id: EventId,
    attributes: Attributes,
    Data(asked): Data<SendMessage>,
) -> Emit<Outgoing<MessageReceived>> {
    let received = MessageReceived {
        id: id.as_str().to_owned(),
        from: asked.from,
        to: asked.to,
        text: asked.text,
    };
    Emit(handed_on(received, &attributes))
}

async fn process(
    attributes: Attributes,
    Data(received): Data<MessageReceived>,
) -> Emit<Outgoing<MessageProcessed>> {
    let MessageReceived {
        id, from, to, text, ..
    } = received;
    let text = clean(&text);
    let processed = MessageProcessed {
        id,
        from,
        to,
        characters: text.chars().count() as u64,
        words: text.split_whitespace().count() as u64,
        text,
    };
    Emit(handed_on(processed, &attributes))
}

async fn send(Data(processed): Data<MessageProcessed>) -> (Emit<MessageSent>, Reply<MessageSent>) {
    let MessageProcessed {
        id,
        from,
        to,
        text,
        characters,
        words,
        ..
    } = processed;
    let sent = MessageSent {
        id,
        from,
        to,
        text,
        characters,
        words,
    };
    (Emit(sent.clone()), Reply(sent))
}

/// The next event, with the place where the answer is to go.
fn handed_on<M>(message: M, attributes: &Attributes) -> Outgoing<M> {
    let outgoing = Outgoing::new(message);
    match attributes.get_str(REPLY_TO) {
        Some(to) => outgoing.extension(REPLY_TO, ExtensionValue::String(to.to_owned().into())),
        None => outgoing,
    }
}

/// A text without control characters, but line ends and tabs, and without blanks around it.
pub(crate) fn clean(text: &str) -> String {
    let kept = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
    let kept: String = text.chars().filter(kept).collect();
    kept.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_loses_what_nobody_sees() {
        for (text, cleaned) in [
            ("hello", "hello"),
            ("  hello\u{7} you \n", "hello you"),
            ("one\ntwo\tthree", "one\ntwo\tthree"),
            ("\u{1b}[31mred", "[31mred"),
            ("grüße 🌊", "grüße 🌊"),
        ] {
            assert_eq!(clean(text), cleaned);
        }
    }
}
