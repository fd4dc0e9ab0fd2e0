//! The form of a dead letter: the event that failed, as it was, with extension attributes that
//! say where it came from, why and how it was given up.
//!
//! Pure. This room may not know when an event is given up, nor where dead letters are kept.

use bytestring::ByteString;
use jiff::Timestamp;
use thiserror::Error;

use crate::delivery::Failure;
use crate::event::{Event, ExtensionValue, InvalidEvent};
use crate::limits::ATTRIBUTE_MAX_BYTES;
use crate::name::{GroupName, TopicName, attribute_text};
use crate::position::{Offset, Partition, Position};

/// The class of the failure in a word, [`Failure::reason`].
pub const REASON: &str = "deadletterreason";
/// The error's text, [`Failure::error`].
pub const ERROR: &str = "deadlettererror";
/// How many times it was tried, [`Failure::attempts`].
pub const ATTEMPTS: &str = "deadletterattempts";
/// When it was first tried, [`Failure::first`], as RFC 3339.
pub const FIRST: &str = "deadletterfirst";
/// When it was last tried, [`Failure::last`], as RFC 3339.
pub const LAST: &str = "deadletterlast";
/// The handler's id, [`Failure::handler`].
pub const HANDLER: &str = "deadletterhandler";
/// The handler's version, [`Failure::version`].
pub const VERSION: &str = "deadletterversion";
/// The topic that the event came from.
pub const TOPIC: &str = "deadlettertopic";
/// Its partition there.
pub const PARTITION: &str = "deadletterpartition";
/// Its offset there.
pub const OFFSET: &str = "deadletteroffset";
/// The group that gave it up.
pub const GROUP: &str = "deadlettergroup";
/// How many times in a row it became a dead letter, where that is more than once: a group that
/// reads the dead letters of another one gave it up as well.
pub const HOPS: &str = "deadletterhops";

/// Every extension attribute that a dead letter may have more than its event.
pub const EXTENSIONS: [&str; 12] = [
    REASON, ERROR, ATTEMPTS, FIRST, LAST, HANDLER, VERSION, TOPIC, PARTITION, OFFSET, GROUP, HOPS,
];

/// How many times in a row an event has become a dead letter: none for what is no dead letter.
#[must_use]
pub fn hops(event: &Event) -> u32 {
    if DeadLetter::from_event(event).is_err() {
        return 0;
    }
    let hops = event.extension(HOPS).map(ExtensionValue::to_text);
    hops.and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
}

/// A failed event with all that is known of its failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event as it was delivered.
    pub event: Event,
    /// Where it is, or was, kept.
    pub origin: Position,
    /// Who gave it up.
    pub group: GroupName,
    /// Why.
    pub failure: Failure,
}

/// An event that is not a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("this event is not a dead letter: its extension {name:?} is missing or wrong")]
pub struct NotADeadLetter {
    /// The first attribute that is missing or wrong.
    pub name: &'static str,
}

impl DeadLetter {
    /// The event that keeps this dead letter: the failed event with the attributes of this
    /// module. An event that was a dead letter before tells of its newest failure only.
    ///
    /// Texts are cut to the size of an attribute; what an attribute may not hold becomes a
    /// blank.
    ///
    /// # Errors
    /// None for an event that is valid itself; the builder's check is passed on.
    pub fn to_event(&self) -> Result<Event, InvalidEvent> {
        let failure = &self.failure;
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
        let attempts = i32::try_from(failure.attempts).unwrap_or(i32::MAX);
        let hops = hops(&self.event).saturating_add(1);
        let texts = [
            (REASON, Some(failure.reason.clone())),
            (ERROR, Some(failure.error.clone())),
            (FIRST, time(failure.first)),
            (LAST, time(failure.last)),
            (HANDLER, failure.handler.clone()),
            (VERSION, failure.version.clone()),
            (TOPIC, Some(self.origin.topic.to_string())),
            (PARTITION, Some(self.origin.partition.to_string())),
            (OFFSET, Some(self.origin.offset.to_string())),
            (GROUP, Some(self.group.to_string())),
        ];
        let mut builder = self.event.to_builder();
        for (name, text) in texts {
            builder = match text {
                Some(text) => builder.extension(name, ExtensionValue::String(printable(&text))),
                None => builder.without_extension(name),
            };
        }
        builder = match i32::try_from(hops) {
            Ok(1) => builder.without_extension(HOPS),
            hops => builder.extension(HOPS, ExtensionValue::Integer(hops.unwrap_or(i32::MAX))),
        };
        builder
            .extension(ATTEMPTS, ExtensionValue::Integer(attempts))
            .build()
    }

    /// Reads a dead letter back, whatever type the attributes have become on their way.
    ///
    /// # Errors
    /// [`NotADeadLetter`] names the first attribute that is missing or wrong.
    pub fn from_event(event: &Event) -> Result<Self, NotADeadLetter> {
        let text = |name| event.extension(name).map(ExtensionValue::to_text);
        let need = |name| text(name).ok_or(NotADeadLetter { name });
        let parsed =
            |name| -> Result<u64, _> { need(name)?.parse().map_err(|_| NotADeadLetter { name }) };
        let number = |name| -> Result<u32, NotADeadLetter> {
            u32::try_from(parsed(name)?).map_err(|_| NotADeadLetter { name })
        };
        let time = |name| text(name).map(|text| text.parse().map_err(|_| NotADeadLetter { name }));
        let topic = TopicName::new(need(TOPIC)?).map_err(|_| NotADeadLetter { name: TOPIC })?;
        let origin = Position {
            topic,
            partition: Partition(number(PARTITION)?),
            offset: Offset(parsed(OFFSET)?),
        };
        let failure = Failure {
            reason: need(REASON)?.to_string(),
            error: need(ERROR)?.to_string(),
            attempts: number(ATTEMPTS)?,
            first: time(FIRST).transpose()?,
            last: time(LAST).transpose()?,
            handler: text(HANDLER).map(|text| text.to_string()),
            version: text(VERSION).map(|text| text.to_string()),
        };
        let group = GroupName::new(need(GROUP)?).map_err(|_| NotADeadLetter { name: GROUP })?;
        let plain = |builder, name: &&'static str| -> crate::EventBuilder {
            crate::EventBuilder::without_extension(builder, name)
        };
        let builder = EXTENSIONS.iter().fold(event.to_builder(), plain);
        Ok(Self {
            event: builder
                .build()
                .map_err(|_| NotADeadLetter { name: REASON })?,
            origin,
            group,
            failure,
        })
    }
}

/// `text` as an attribute may hold it.
fn printable(text: &str) -> ByteString {
    if attribute_text(text).is_ok() {
        return ByteString::from(text);
    }
    let mut out = String::with_capacity(text.len().min(ATTRIBUTE_MAX_BYTES));
    for c in text.chars() {
        let mut buffer = [0; 4];
        let c = if attribute_text(c.encode_utf8(&mut buffer)).is_ok() {
            c
        } else {
            ' '
        };
        if out.len() + c.len_utf8() > ATTRIBUTE_MAX_BYTES {
            break;
        }
        out.push(c);
    }
    ByteString::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::EXTENSIONS_MAX;
    use crate::name::{EventId, EventType, Key, Source};

    fn event() -> crate::EventBuilder {
        let (id, ty) = (EventId::new("7").unwrap(), EventType::new("paid").unwrap());
        Event::builder(id, Source::new("/test").unwrap(), ty)
            .key(&Key::new("k").unwrap())
            .data("application/json", r#"{"n":12345678901234567890123}"#)
    }

    fn letter(event: Event) -> DeadLetter {
        DeadLetter {
            event,
            origin: Position {
                topic: TopicName::new("orders").unwrap(),
                partition: Partition(3),
                offset: Offset(1 << 40),
            },
            group: GroupName::new("billing").unwrap(),
            failure: Failure {
                reason: "timeout".into(),
                error: "no answer within 2s".into(),
                attempts: 5,
                first: Some("2026-01-02T03:04:05.006Z".parse().unwrap()),
                last: None,
                handler: Some("charge".into()),
                version: None,
            },
        }
    }

    #[test]
    fn a_dead_letter_comes_back_whole() {
        let letter = letter(event().build().unwrap());
        let kept = letter.to_event().unwrap();
        assert_eq!(
            (kept.id(), kept.ty()),
            (letter.event.id(), letter.event.ty())
        );
        assert_eq!((kept.data(), kept.key()), (letter.event.data(), Some("k")));
        assert_eq!(kept.extension_str(TOPIC), Some("orders"));
        assert_eq!(DeadLetter::from_event(&kept).unwrap(), letter);
    }

    #[test]
    fn the_newest_failure_replaces_the_older() {
        let mut first = letter(event().build().unwrap());
        let mut second = letter(first.to_event().unwrap());
        second.failure.handler = None;
        let back = DeadLetter::from_event(&second.to_event().unwrap()).unwrap();
        first.failure.handler = None;
        assert_eq!(back, first);
    }

    #[test]
    fn it_is_counted_how_often_in_a_row_it_became_one() {
        let mut at = letter(event().build().unwrap());
        assert_eq!(hops(&at.event), 0);
        for times in 1..4 {
            let kept = at.to_event().unwrap();
            assert_eq!(hops(&kept), times);
            assert_eq!(kept.extension(HOPS).is_some(), times > 1);
            at = letter(kept);
        }
        // What is given back begins anew, and what is no dead letter is none by this alone.
        let back = DeadLetter::from_event(&at.event).unwrap().event;
        assert_eq!(hops(&back), 0);
        let forged = back
            .to_builder()
            .extension(HOPS, ExtensionValue::Integer(9));
        assert_eq!(hops(&forged.build().unwrap()), 0);
    }

    #[test]
    fn every_event_can_become_one() {
        let mut full = event();
        for n in 1..EXTENSIONS_MAX {
            full = full.extension(&format!("x{n}"), ExtensionValue::Boolean(true));
        }
        let mut letter = letter(full.build().unwrap());
        letter.failure.error = format!("line 1\nline 2 {}", "ä".repeat(5000));
        let kept = letter.to_event().unwrap();
        let error = kept.extension_str(ERROR).unwrap();
        assert!(error.starts_with("line 1 line 2 ää"), "{}", &error[..20]);
        assert!(error.len() <= ATTRIBUTE_MAX_BYTES);
    }

    #[test]
    fn other_events_are_not_taken_for_one() {
        let error = DeadLetter::from_event(&event().build().unwrap()).unwrap_err();
        assert_eq!(error.name, TOPIC);
        let kept = letter(event().build().unwrap()).to_event().unwrap();
        let broken = kept
            .to_builder()
            .extension(OFFSET, ExtensionValue::String("x".into()));
        let error = DeadLetter::from_event(&broken.build().unwrap()).unwrap_err();
        assert_eq!(error.name, OFFSET);
    }
}
