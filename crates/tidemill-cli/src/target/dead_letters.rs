//! Dead letters of a server or a folder, in the form in which the server tells them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidemill::broker::ParkedLetter;
use tidemill::core::{Offset, Partition, json};
use tidemill::{GroupName, TopicName};

use super::{Target, retold};
use crate::client::path;
use crate::failure::Failure;

/// Where a letter is kept, which names it: `PARTITION:OFFSET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Name(u32, u64);

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':');
        let parsed = parts.and_then(|(p, o)| Some(Self(p.parse().ok()?, o.parse().ok()?)));
        parsed.ok_or_else(|| "write it as PARTITION:OFFSET, as in 0:17".to_owned())
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.to_string()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0, self.1)
    }
}

/// Who has so many.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct GroupOf {
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) count: u64,
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<GroupOf>,
}

/// Where an event is or was.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Place {
    pub(crate) topic: String,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.topic, self.partition, self.offset)
    }
}

/// What was given up, and why.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Letter {
    pub(crate) letter: Name,
    pub(crate) group: String,
    pub(crate) origin: Place,
    pub(crate) reason: String,
    pub(crate) error: String,
    pub(crate) attempts: u32,
    pub(crate) first: Option<String>,
    pub(crate) last: Option<String>,
    pub(crate) handler: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) event: Box<RawValue>,
    /// Those of the record that failed, where a stranger wrote it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) headers: Vec<RecordHeader>,
}

/// A header of a record.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct RecordHeader {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

#[derive(Deserialize)]
struct Letters {
    letters: Vec<Letter>,
}

#[derive(Deserialize)]
struct Redriven {
    redriven: Vec<RedrivenLetter>,
}

/// Which letter was published again, and where it is now.
#[derive(Deserialize)]
pub(crate) struct RedrivenLetter {
    pub(crate) letter: Name,
    #[serde(flatten)]
    pub(crate) at: Place,
}

impl Letter {
    fn of(parked: &ParkedLetter) -> Result<Self, Failure> {
        let (failure, origin) = (&parked.letter.failure, &parked.letter.origin);
        let event = String::from_utf8(json::to_bytes(&parked.letter.event).to_vec());
        let event = event.map_err(Failure::new)?;
        Ok(Self {
            letter: Name(parked.partition.0, parked.offset.0),
            group: parked.letter.group.to_string(),
            origin: Place {
                topic: origin.topic.to_string(),
                partition: origin.partition.0,
                offset: origin.offset.0,
            },
            reason: failure.reason.clone(),
            error: failure.error.clone(),
            attempts: failure.attempts,
            first: failure.first.map(|time| time.to_string()),
            last: failure.last.map(|time| time.to_string()),
            handler: failure.handler.clone(),
            version: failure.version.clone(),
            event: RawValue::from_string(event).map_err(Failure::new)?,
            headers: Vec::new(),
        })
    }
}

impl Target {
    /// Who has dead letters, by name.
    pub(crate) async fn dead_letter_groups(&self) -> Result<Vec<GroupOf>, Failure> {
        match self {
            Self::Server(client) => {
                let answer: Groups = client.get("/v1/deadletters", Duration::ZERO).await?;
                Ok(answer.groups)
            }
            Self::Folder(broker) => retold(broker.dead_letter_groups()),
        }
    }

    /// The oldest dead letters of a group.
    pub(crate) async fn dead_letters(
        &self,
        group: &GroupName,
        max: usize,
    ) -> Result<Vec<Letter>, Failure> {
        match self {
            Self::Server(client) => {
                let at = path(&["v1", "deadletters", group.as_str()]);
                let at = format!("{at}?max={max}");
                let answer: Letters = client.get(&at, Duration::ZERO).await?;
                Ok(answer.letters)
            }
            Self::Folder(broker) => {
                let found = broker.dead_letters(group, None, max).await;
                let found = found.map_err(Failure::new)?;
                found.letters.iter().map(Letter::of).collect()
            }
        }
    }

    /// One dead letter.
    pub(crate) async fn dead_letter(
        &self,
        group: &GroupName,
        name: Name,
    ) -> Result<Letter, Failure> {
        match self {
            Self::Server(client) => Ok(client.get(&of(group, name), Duration::ZERO).await?),
            Self::Folder(broker) => {
                let (partition, offset) = (Partition(name.0), Offset(name.1));
                let found = broker.dead_letter(group, partition, offset).await;
                let mut letter = Letter::of(&found.map_err(Failure::new)?)?;
                let headers = broker.dead_letter_headers(group, partition, offset).await;
                let headers = headers.map_err(Failure::new)?;
                letter.headers = retold(headers)?;
                Ok(letter)
            }
        }
    }

    /// Publishes the oldest ones again, `max` at most; what somebody else is done with meanwhile is
    /// passed over.
    pub(crate) async fn redrive_oldest(
        &self,
        group: &GroupName,
        max: usize,
        to: Option<&TopicName>,
    ) -> Result<Vec<RedrivenLetter>, Failure> {
        match self {
            Self::Server(client) => {
                let at = path(&["v1", "deadletters", group.as_str(), "redrive"]);
                let to = to.map_or_else(String::new, |to| format!("&topic={to}"));
                let at = format!("{at}?max={max}{to}");
                let none = Vec::new().into();
                let answer: Redriven = client.post(&at, "application/json", none).await?;
                Ok(answer.redriven)
            }
            Self::Folder(_) => {
                let mut redriven = Vec::new();
                for found in self.dead_letters(group, max).await? {
                    let letter = found.letter;
                    let at = self.redrive(group, letter, to).await?;
                    redriven.push(RedrivenLetter { letter, at });
                }
                Ok(redriven)
            }
        }
    }

    /// Publishes one again; answers where it is.
    pub(crate) async fn redrive(
        &self,
        group: &GroupName,
        name: Name,
        to: Option<&TopicName>,
    ) -> Result<Place, Failure> {
        match self {
            Self::Server(client) => {
                let at = path(&["v1", "deadletters", group.as_str(), "redrive"]);
                let query = to.map_or_else(String::new, |to| format!("?topic={to}"));
                let body = serde_json::json!({ "letters": [name] }).to_string();
                let at = format!("{at}{query}");
                let answer: Redriven = client.post(&at, "application/json", body.into()).await?;
                let none = || Failure::new("the server does not say where it is");
                let first = answer.redriven.into_iter().next();
                first.map(|redriven| redriven.at).ok_or_else(none)
            }
            Self::Folder(broker) => {
                let place = (Partition(name.0), Offset(name.1));
                let at = broker.redrive(group, place, to.cloned()).await;
                let at = at.map_err(Failure::new)?;
                Ok(Place {
                    topic: at.topic.to_string(),
                    partition: at.partition.0,
                    offset: at.offset.0,
                })
            }
        }
    }

    /// Deletes one.
    pub(crate) async fn delete_dead_letter(
        &self,
        group: &GroupName,
        name: Name,
    ) -> Result<(), Failure> {
        match self {
            Self::Server(client) => Ok(client.delete(&of(group, name)).await?),
            Self::Folder(broker) => {
                let (partition, offset) = (Partition(name.0), Offset(name.1));
                let deleted = broker.delete_dead_letter(group, partition, offset).await;
                deleted.map_err(Failure::new)
            }
        }
    }
}

fn of(group: &GroupName, name: Name) -> String {
    path(&["v1", "deadletters", group.as_str(), "letters"]) + &format!("/{name}")
}
