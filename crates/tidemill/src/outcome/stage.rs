//! Where a handler's outputs become events whose ids follow from the handled event.

use bytestring::ByteString;
use jiff::Timestamp;
use serde::Serialize;
use tidemill_core::event::{CAUSATION_ID, CORRELATION_ID, TRACE_PARENT};
use tidemill_core::{Effects, Event, EventId, EventType, ExtensionValue, GroupName, InvalidName};
use tidemill_core::{Source, TopicName};

use super::Fail;
use crate::limits::CAUSE_ID_MAX_BYTES;
use crate::message::{Defaults, Message, MessageError, Outgoing};

/// The handled event and what is staged with its settlement so far.
#[derive(Debug)]
pub struct Stage<'a> {
    cause: &'a Event,
    group: &'a GroupName,
    handler: &'a str,
    source: &'a Source,
    made: u32,
    effects: Effects,
}

impl<'a> Stage<'a> {
    /// Nothing staged yet. `handler` and `source` are those of the handler that returns the
    /// outputs.
    #[must_use]
    pub fn new(
        cause: &'a Event,
        group: &'a GroupName,
        handler: &'a str,
        source: &'a Source,
    ) -> Self {
        Self {
            cause,
            group,
            handler,
            source,
            made: 0,
            effects: Effects::default(),
        }
    }

    /// The event that was handled.
    #[must_use]
    pub fn cause(&self) -> &Event {
        self.cause
    }

    /// Stages one message.
    ///
    /// # Errors
    /// A permanent [`Fail`] when it cannot become an event.
    pub fn emit<M: Message>(&mut self, message: Outgoing<M>) -> Result<(), Fail> {
        let number = self.made;
        self.made += 1;
        let inherited = self.inherited();
        let defaults = Defaults {
            source: self.source,
            extensions: &inherited,
            now: Timestamp::now(),
        };
        let new_id = || self.derived_id(&number.to_string());
        let Outgoing { message, envelope } = message;
        let staged = envelope.into_event(&message, &defaults, new_id);
        self.effects.events.push(staged.map_err(Fail::permanent)?);
        Ok(())
    }

    /// Stages an event as it is.
    pub fn event(&mut self, topic: TopicName, event: Event) {
        self.effects.events.push((topic, event));
    }

    /// Sets the answer to the request.
    ///
    /// # Errors
    /// A permanent [`Fail`] when it cannot be written.
    pub fn reply<T: Serialize>(&mut self, reply: &T) -> Result<(), Fail> {
        let event = self.reply_event(reply).map_err(Fail::permanent)?;
        self.effects.reply = Some(Box::new(event));
        Ok(())
    }

    fn reply_event<T: Serialize>(&self, reply: &T) -> Result<Event, MessageError> {
        let data = crate::message::private::encode_json(reply)?;
        let id = self.derived_id("reply")?;
        let ty = EventType::new(format!("{}.reply", self.cause.ty().as_str()))?;
        let mut event = Event::builder(id, self.source.clone(), ty)
            .time(Timestamp::now())
            .data(ByteString::from_static("application/json"), data);
        for (name, value) in self.inherited() {
            event = event.extension(name, ExtensionValue::String(value));
        }
        Ok(event.build()?)
    }

    pub(super) fn add(&mut self, effects: Effects) {
        self.effects.events.extend(effects.events);
        if effects.reply.is_some() {
            self.effects.reply = effects.reply;
        }
    }

    /// What was staged.
    #[must_use]
    pub fn finish(self) -> Effects {
        self.effects
    }

    /// The extensions that tie an output to the event that caused it.
    fn inherited(&self) -> Vec<(&'static str, ByteString)> {
        let id = self.cause.id().as_byte_string();
        let correlation = match self.cause.extension_str(CORRELATION_ID) {
            Some(correlation) => ByteString::from(correlation),
            None => id.clone(),
        };
        let mut all = vec![(CORRELATION_ID, correlation), (CAUSATION_ID, id.clone())];
        if let Some(trace) = self.cause.extension_str(TRACE_PARENT) {
            all.push((TRACE_PARENT, ByteString::from(trace)));
        }
        all
    }

    /// `<id of the handled event>:<handler>:<which>:<hash of its source and the group>`. The
    /// same for every attempt of this group at this event, and different for events of other
    /// sources with the same id and for other groups with the same handler.
    fn derived_id(&self, which: &str) -> Result<EventId, InvalidName> {
        let cause = self.cause.id().as_str();
        let (handler, scope) = (self.handler, self.scope());
        EventId::new(if cause.len() <= CAUSE_ID_MAX_BYTES {
            format!("{cause}:{handler}:{which}:{scope:08x}")
        } else {
            let hash = fnv1a_128(cause.as_bytes());
            format!("{hash:032x}:{handler}:{which}:{scope:08x}")
        })
    }

    fn scope(&self) -> u32 {
        let source = self.cause.source().as_str().bytes();
        let text = source.chain([0]).chain(self.group.as_str().bytes());
        let text: Vec<u8> = text.collect();
        let hash = fnv1a_128(&text);
        (hash ^ (hash >> 32) ^ (hash >> 64) ^ (hash >> 96)) as u32
    }
}

/// FNV-1a with 128 bits (draft-eastlake-fnv, section 5): no secret, only a short name for a long
/// text.
fn fnv1a_128(text: &[u8]) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    text.iter().fold(BASIS, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::fnv1a_128;

    /// Test vectors of draft-eastlake-fnv, appendix C.
    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a_128(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(fnv1a_128(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }
}
