//! Where a handler's outputs become events whose ids follow from the handled event.

use std::fmt::{self, Write as _};

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
        let new_id = || self.derived_id(format_args!("{number}"));
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
        let id = self.derived_id(format_args!("reply"))?;
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
        let text = |name| match self.cause.extension(name) {
            Some(ExtensionValue::String(text)) => Some(text.clone()),
            _ => None,
        };
        let correlation = text(CORRELATION_ID).unwrap_or_else(|| id.clone());
        let mut all = vec![(CORRELATION_ID, correlation), (CAUSATION_ID, id.clone())];
        all.extend(text(TRACE_PARENT).map(|trace| (TRACE_PARENT, trace)));
        all
    }

    /// `<id of the handled event>:<handler>:<which>:<hash of its source and the group>`. The
    /// same for every attempt of this group at this event, and different for events of other
    /// sources with the same id and for other groups with the same handler.
    fn derived_id(&self, which: fmt::Arguments<'_>) -> Result<EventId, InvalidName> {
        let cause = self.cause.id().as_str();
        let (handler, scope) = (self.handler, self.scope());
        let length = cause.len().min(CAUSE_ID_MAX_BYTES) + handler.len() + 24;
        let mut id = String::with_capacity(length);
        let written = if cause.len() <= CAUSE_ID_MAX_BYTES {
            write!(id, "{cause}:{handler}:{which}:{scope:08x}")
        } else {
            let hash = fnv1a_128(cause.bytes());
            write!(id, "{hash:032x}:{handler}:{which}:{scope:08x}")
        };
        written.expect("a string takes every text");
        EventId::new(id)
    }

    fn scope(&self) -> u32 {
        let source = self.cause.source().as_str().bytes();
        let hash = fnv1a_64(source.chain([0]).chain(self.group.as_str().bytes()));
        (hash ^ (hash >> 32)) as u32
    }
}

/// FNV-1a (draft-eastlake-fnv, section 5): no secret, only a short name for a long text.
fn fnv1a_64(text: impl Iterator<Item = u8>) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    text.fold(BASIS, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    })
}

/// The same with 128 bits, for what must not meet by chance.
fn fnv1a_128(text: impl Iterator<Item = u8>) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    text.fold(BASIS, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::{fnv1a_64, fnv1a_128};

    /// Test vectors of draft-eastlake-fnv, appendix C.
    #[test]
    fn the_hashes_are_fnv1a() {
        let long = 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964;
        assert_eq!(fnv1a_128("a".bytes()), long);
        assert_eq!(fnv1a_64("a".bytes()), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a_64("foobar".bytes()), 0x8594_4171_f739_67e8);
    }
}
