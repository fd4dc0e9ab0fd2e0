//! Dead letters for those who run the broker: which there are, giving them back to the topic that
//! they came from, and forgetting them.
//!
//! The dead letters of a group are events of a topic ([`dead_letter_topic`]). Which of them are
//! done with is the position of a group of its own, which has the topic's name; so giving one back
//! is one commit that settles it there and publishes it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use thiserror::Error;
use tidemill_core::dead_letter::DeadLetter;
use tidemill_core::delivery::dead_letter_topic;
use tidemill_core::error::Unavailable;
use tidemill_core::{
    Fetch, FetchError, GroupName, Offset, Partition, Position, PublishError, Start, Subscriber,
    TopicName,
};
use tidemill_log::{CommitError, PartitionId};

use crate::broker::Broker;
use crate::fetch::partition_id;
use crate::group::DEAD_LETTER_MAX_BYTES;
use crate::limits::{DEAD_LETTERS_READ_BYTES, DEAD_LETTERS_READ_EVENTS, REROUTES_MAX};
use crate::machine::{Append, Operation, Receipt, Refusal, Settled};
use crate::original::{self, Written};
use crate::publish::publish_error;
use crate::queue::{NotGiven, Parked, QueueError};
use crate::subscribe::join_in_log;

/// The dead letters of a group, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct DeadLettersInfo {
    /// The group that gave them up, or the queue.
    pub group: GroupName,
    /// The topic that keeps them.
    pub topic: TopicName,
    /// How many are not given back or deleted.
    pub count: u64,
}

/// A dead letter and where it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedLetter {
    /// The part of the topic that keeps it.
    pub partition: Partition,
    /// Its place there.
    pub offset: Offset,
    /// What failed, and why.
    pub letter: DeadLetter,
}

/// A header of a record that failed, as whoever wrote it gave it.
///
/// In JSON its value is the member `value`, or `value_base64` where it is no text in UTF-8, and
/// neither where it has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Its name, which others may have, too.
    pub name: String,
    /// Its value; `None` where it is null.
    pub value: Option<Bytes>,
}

impl Serialize for RecordHeader {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut header = to.serialize_map(None)?;
        header.serialize_entry("name", &self.name)?;
        if let Some(value) = &self.value {
            match std::str::from_utf8(value) {
                Ok(text) => header.serialize_entry("value", text)?,
                Err(_) => {
                    header.serialize_entry("value_base64", &BASE64_STANDARD.encode(value))?;
                }
            }
        }
        header.end()
    }
}

/// Dead letters, and where to read on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParkedLetters {
    /// In the order in which they were given up.
    pub letters: Vec<ParkedLetter>,
    /// Where the next ones are; `None` where there are no more.
    pub next: Option<(Partition, Offset)>,
}

/// Why nothing was done about a dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeadLetterError {
    /// The group has none, and never had.
    #[error("group {0} has no dead letters")]
    None(GroupName),
    /// There is none at this place, or it was given back or deleted already.
    #[error("group {group} has no dead letter {partition}:{offset}; list those there are")]
    Unknown {
        /// The group.
        group: GroupName,
        /// The part of the topic.
        partition: Partition,
        /// The place.
        offset: Offset,
    },
    /// There is no such topic to give it back to, and a redrive makes none.
    #[error(
        "unknown topic {0}: a redrive goes to a topic that is there; create it, or name another"
    )]
    UnknownTopic(TopicName),
    /// The topic is of another group's dead letters, and what failed is none of them.
    #[error(
        "the topic {topic} keeps the dead letters of group {of}, and this is none of them: name \
         another topic, or delete the letter"
    )]
    NotItsLetters {
        /// The topic.
        topic: TopicName,
        /// Whose dead letters it keeps.
        of: GroupName,
    },
    /// The topic could not be read.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It could not be given back.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// It could not be given back to its queue.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The broker said no for another reason.
    #[error("{0}")]
    Other(String),
}

impl Broker {
    /// Every group and queue that has dead letters, sorted by name.
    #[must_use]
    pub fn dead_letter_groups(&self) -> Vec<DeadLettersInfo> {
        let state = self.inner.durable.state();
        let names: Vec<GroupName> = state.group_names().map(|(name, _)| name.clone()).collect();
        drop(state);
        // Of groups that are deleted, the names can still be told from those of the topics.
        let topics = self.topics().into_iter();
        let gone = topics.filter_map(|topic| keeps_letters_of(&topic.name));
        let mut names: Vec<GroupName> = names.into_iter().chain(gone).collect();
        names.sort_unstable();
        names.dedup();
        let infos = names.into_iter().filter_map(|group| {
            let topic = dead_letter_topic(&group);
            let count = self.dead_letter_count(&topic)?;
            Some(DeadLettersInfo {
                group,
                topic,
                count,
            })
        });
        infos.filter(|info| info.count > 0).collect()
    }

    /// How many are in the topic and not done with; `None` where there is no such topic.
    fn dead_letter_count(&self, topic: &TopicName) -> Option<u64> {
        let info = self.topic(topic)?;
        let reader = reader_of(topic).and_then(|reader| self.group(&reader));
        if let Some(reader) = reader {
            return Some(reader.lag());
        }
        let each = info.partitions.iter();
        Some(each.map(|at| at.end.0.saturating_sub(at.earliest.0)).sum())
    }

    /// The dead letters of a group from a place on, `max` at most. Other events of their topic are
    /// passed over.
    ///
    /// # Errors
    /// [`DeadLetterError::None`], and where they cannot be read.
    pub async fn dead_letters(
        &self,
        group: &GroupName,
        from: Option<(Partition, Offset)>,
        max: usize,
    ) -> Result<ParkedLetters, DeadLetterError> {
        let topic = dead_letter_topic(group);
        let none = || DeadLetterError::None(group.clone());
        let info = self.topic(&topic).ok_or_else(none)?;
        let reader = reader_of(&topic);
        let mut found = ParkedLetters::default();
        let begin = from.map_or(Partition(0), |(partition, _)| partition);
        for at in info.partitions.iter().filter(|at| at.partition >= begin) {
            let mut offset = at.earliest;
            if let Some((_, given)) = from.filter(|(partition, _)| *partition == at.partition) {
                offset = offset.max(given);
            }
            while offset < at.end {
                if found.letters.len() >= max {
                    found.next = Some((at.partition, offset));
                    return Ok(found);
                }
                let fetched = self.read_dead(&topic, at.partition, offset).await?;
                if fetched.next <= offset {
                    break;
                }
                for (place, event) in fetched.events {
                    if found.letters.len() >= max {
                        found.next = Some((at.partition, place));
                        return Ok(found);
                    }
                    let done = reader.as_ref().is_some_and(|reader| {
                        let position = Position {
                            topic: topic.clone(),
                            partition: at.partition,
                            offset: place,
                        };
                        self.is_settled(reader, &position) == Some(true)
                    });
                    if let Ok(letter) = DeadLetter::from_event(&event)
                        && !done
                    {
                        found.letters.push(ParkedLetter {
                            partition: at.partition,
                            offset: place,
                            letter,
                        });
                    }
                }
                offset = fetched.next;
            }
        }
        Ok(found)
    }

    async fn read_dead(
        &self,
        topic: &TopicName,
        partition: Partition,
        offset: Offset,
    ) -> Result<tidemill_core::Fetched, FetchError> {
        let fetch = Fetch {
            topic: topic.clone(),
            partition,
            offset,
            max_events: DEAD_LETTERS_READ_EVENTS,
            max_bytes: DEAD_LETTERS_READ_BYTES,
            wait: Duration::ZERO,
        };
        Subscriber::fetch(self, fetch).await
    }

    /// One dead letter.
    ///
    /// # Errors
    /// [`DeadLetterError::Unknown`], also where it was given back or deleted.
    pub async fn dead_letter(
        &self,
        group: &GroupName,
        partition: Partition,
        offset: Offset,
    ) -> Result<ParkedLetter, DeadLetterError> {
        let from = Some((partition, offset));
        let found = self.dead_letters(group, from, 1).await?;
        let first = found.letters.into_iter().next();
        let is_it = |one: &ParkedLetter| (one.partition, one.offset) == (partition, offset);
        first
            .filter(is_it)
            .ok_or_else(|| unknown(group, partition, offset))
    }

    /// The headers of the record that failed, in their order, where a stranger wrote it: those of
    /// its event, if it is one, and all others. None where the event says it all.
    ///
    /// # Errors
    /// As [`Broker::dead_letter`].
    pub async fn dead_letter_headers(
        &self,
        group: &GroupName,
        partition: Partition,
        offset: Offset,
    ) -> Result<Vec<RecordHeader>, DeadLetterError> {
        self.dead_letter(group, partition, offset).await?;
        let written = self.written(group, partition, offset).await?;
        let headers = written.map_or_else(Vec::new, |written| written.headers);
        let headers = headers.into_iter();
        Ok(headers
            .map(|(name, value)| RecordHeader { name, value })
            .collect())
    }

    /// Publishes what failed as it was, to the topic that it came from or to another one, and is
    /// done with the dead letter: both or nothing. A record of a stranger is written byte for byte,
    /// key, value and headers, and where it goes back to its topic into its partition. What a queue
    /// gave up goes back into that queue, at its end, unless another topic is named. Answers where
    /// it is.
    ///
    /// It goes to a topic that is there, also where topics are created by their first use: one that
    /// was deleted would come back with other partitions than it had, and one that was mistyped
    /// would keep the event from everybody.
    ///
    /// # Errors
    /// [`DeadLetterError::Unknown`], also where it was given back or deleted already,
    /// [`DeadLetterError::UnknownTopic`] and [`DeadLetterError::NotItsLetters`].
    pub async fn redrive(
        &self,
        group: &GroupName,
        (partition, offset): (Partition, Offset),
        to: Option<TopicName>,
    ) -> Result<Position, DeadLetterError> {
        let parked = self.dead_letter(group, partition, offset).await?;
        let origin = to.is_none();
        let to = to.unwrap_or_else(|| parked.letter.origin.topic.clone());
        // A queue's group has its name, and nobody else is of that group.
        if to.as_str() == group.as_str() && self.is_queue(&to) {
            let at = self.parked(group, partition, offset).await?;
            let given = self.give_back_to_queue(&to, parked.letter.event, at).await;
            return given.map_err(|error| match error {
                NotGiven::Settled => unknown(group, partition, offset),
                NotGiven::Refused(why) => why.into(),
            });
        }
        // What a queue gave up is of no topic: where the queue is gone, none is made for it.
        if origin && to.as_str() == group.as_str() && self.topic(&to).is_none() {
            return Err(QueueError::Unknown(to).into());
        }
        let written = self.written(group, partition, offset).await?;
        let is_back = to == parked.letter.origin.topic;
        if !is_back && let Some(of) = keeps_letters_of(&to) {
            return Err(DeadLetterError::NotItsLetters { topic: to, of });
        }
        for _ in 0..REROUTES_MAX {
            let (append, at) = self.again(&to, &parked.letter, written.as_ref())?;
            match self
                .done_with(group, partition, offset, vec![append])
                .await?
            {
                Ok(Receipt::Appended(bases)) => {
                    let base = bases.first().and_then(|bases| bases.first());
                    let none = || DeadLetterError::Other("the broker gave no position".to_owned());
                    return Ok(Position {
                        topic: to,
                        partition: at,
                        offset: *base.ok_or_else(none)?,
                    });
                }
                Ok(_) => break,
                Err(CommitError::Refused(Refusal::Rerouted { .. })) => {}
                Err(error) => return Err(refused(group, partition, offset, error)),
            }
        }
        let why = format!("the topic {to} keeps changing; try again");
        Err(DeadLetterError::Other(why))
    }

    /// The record that failed, where its dead letter keeps it.
    async fn written(
        &self,
        group: &GroupName,
        partition: Partition,
        offset: Offset,
    ) -> Result<Option<Written>, DeadLetterError> {
        let topic = dead_letter_topic(group);
        let id = partition_id(&self.inner, &topic, partition)?;
        let record = self.inner.record(id, offset).await?;
        Ok(record.as_ref().and_then(original::kept))
    }

    /// What failed, to be appended again, and to which partition.
    fn again(
        &self,
        to: &TopicName,
        letter: &DeadLetter,
        written: Option<&Written>,
    ) -> Result<(Append, Partition), DeadLetterError> {
        if let Some(written) = written {
            let again = self.inner.encode_record(to, written, &letter.origin);
            return again.map_err(not_given);
        }
        let events = std::slice::from_ref(&letter.event);
        let again = self
            .inner
            .encode_within(to, false, events, DEAD_LETTER_MAX_BYTES);
        let (append, _) = again.map_err(not_given)?;
        let (at, _) = append.batches.first().expect("of one event there is one");
        let at = *at;
        Ok((append, at))
    }

    /// Is done with a dead letter, which nobody gets again.
    ///
    /// # Errors
    /// [`DeadLetterError::Unknown`], also where it was given back or deleted already.
    pub async fn delete_dead_letter(
        &self,
        group: &GroupName,
        partition: Partition,
        offset: Offset,
    ) -> Result<(), DeadLetterError> {
        self.dead_letter(group, partition, offset).await?;
        match self.done_with(group, partition, offset, Vec::new()).await? {
            Ok(_) => Ok(()),
            Err(error) => Err(refused(group, partition, offset, error)),
        }
    }

    /// Settles a dead letter together with what is appended.
    async fn done_with(
        &self,
        group: &GroupName,
        partition: Partition,
        offset: Offset,
        appends: Vec<Append>,
    ) -> Result<Result<Receipt, CommitError<Refusal>>, DeadLetterError> {
        let Parked { reader, settled } = self.parked(group, partition, offset).await?;
        let operation = Operation::Commit {
            group: reader,
            settled: vec![settled],
            appends,
        };
        Ok(Arc::clone(&self.inner).submit(operation).await)
    }

    /// A dead letter as it is settled.
    async fn parked(
        &self,
        group: &GroupName,
        partition: Partition,
        offset: Offset,
    ) -> Result<Parked, DeadLetterError> {
        let topic = dead_letter_topic(group);
        let none = || DeadLetterError::None(group.clone());
        let reader = reader_of(&topic).ok_or_else(none)?;
        let topics = std::slice::from_ref(&topic);
        let joined = join_in_log(&self.inner, &reader, topics, Start::Beginning).await;
        let (id, topics) = joined.map_err(|error| DeadLetterError::Other(error.to_string()))?;
        let index = usize::try_from(partition.0).unwrap_or(usize::MAX);
        let (_, topic, cursors) = topics.into_iter().next().ok_or_else(none)?;
        let cursor = cursors.get(index).ok_or_else(none)?;
        let settled = Settled {
            partition: PartitionId {
                topic: topic.id,
                partition,
            },
            epoch: cursor.epoch(),
            range: offset..offset.next(),
        };
        let reader = id;
        Ok(Parked { reader, settled })
    }
}

/// The group whose dead letters a topic of this name keeps, where that can be told from it.
fn keeps_letters_of(topic: &TopicName) -> Option<GroupName> {
    let stem = topic.as_str().strip_suffix(".deadletter")?;
    let name = GroupName::new(stem.to_owned()).ok()?;
    (dead_letter_topic(&name) == *topic).then_some(name)
}

/// The group that is done with dead letters.
fn reader_of(topic: &TopicName) -> Option<GroupName> {
    GroupName::new(topic.as_str().to_owned()).ok()
}

fn refused(
    group: &GroupName,
    partition: Partition,
    offset: Offset,
    error: CommitError<Refusal>,
) -> DeadLetterError {
    match error {
        // Somebody else was quicker.
        CommitError::Refused(Refusal::Stale | Refusal::Sought) => unknown(group, partition, offset),
        CommitError::Unavailable(why) => unavailable(why),
        error => not_given(publish_error(error)),
    }
}

/// It was not published again.
fn not_given(error: PublishError) -> DeadLetterError {
    match error {
        PublishError::UnknownTopic(topic) => DeadLetterError::UnknownTopic(topic),
        error => error.into(),
    }
}

fn unknown(group: &GroupName, partition: Partition, offset: Offset) -> DeadLetterError {
    DeadLetterError::Unknown {
        group: group.clone(),
        partition,
        offset,
    }
}

fn unavailable(why: Unavailable) -> DeadLetterError {
    PublishError::Unavailable(why).into()
}
