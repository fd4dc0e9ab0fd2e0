//! Whom a client command talks to: a running server, or a data folder that no server has open.
//!
//! This room may not know which command asks.

pub(crate) mod dead_letters;
mod handlers;
mod queues;
mod reader;
pub(crate) mod seek;
pub(crate) mod webhooks;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use tidemill::broker::{AlterTopic, Broker, CreateTopic, FlushPolicy, GroupError, TopicError};
use tidemill::core::{PublishError, Publisher, json};
use tidemill::{Event, GroupName, Offset, Partition, TopicName};

pub(crate) use reader::{Read, Reader};

use crate::client::{CallError, Client, path};
use crate::failure::Failure;
use crate::folder::{self, Begin};
use crate::refusal::in_flags;
use crate::settings::Flush;
use crate::values::ServerUrl;
use crate::{shell, wire};

/// The variables of the environment that name whom a client command asks.
const SERVER_VARIABLE: &str = "TIDEMILL_SERVER";
const FOLDER_VARIABLE: &str = "TIDEMILL_DATA";

const NOT_FOUND: http::StatusCode = http::StatusCode::NOT_FOUND;

/// The options of every client command. The environment is read only where none of them was typed,
/// so that what it says wrongly does no harm elsewhere.
#[derive(Args, Clone, Debug)]
pub(crate) struct TargetOptions {
    /// The server's URL [env: TIDEMILL_SERVER] [default: http://127.0.0.1:7575]
    #[arg(long, value_name = "URL")]
    server: Option<ServerUrl>,
    /// A data folder that no server has open, instead of a server [env: TIDEMILL_DATA, where
    /// TIDEMILL_SERVER is not set]
    #[arg(long = "data", value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// The options of a command that only a running server can do.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServerOptions {
    /// The server's URL [env: TIDEMILL_SERVER] [default: http://127.0.0.1:7575]
    #[arg(long, value_name = "URL")]
    server: Option<ServerUrl>,
}

impl ServerOptions {
    /// As [`TargetOptions::open`], without an option for a folder.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn open(&self) -> Result<Target, Failure> {
        self.options().open(Begin::MayNot).await
    }

    /// As [`TargetOptions::command`].
    pub(crate) fn command(&self, command: &str, name: Option<&str>, options: &[String]) -> String {
        self.options().command(command, name, options)
    }

    fn options(&self) -> TargetOptions {
        let (server, folder) = (self.server.clone(), None);
        TargetOptions { server, folder }
    }
}

/// Whom the options, or else the environment, name.
enum Named {
    Server(ServerUrl),
    Folder(PathBuf),
    /// As [`Named::Folder`], by the environment.
    FolderOfEnvironment(PathBuf),
}

/// A server or an opened folder.
#[derive(Clone)]
pub(crate) enum Target {
    Server(Client),
    Folder(Broker),
}

/// Why a publishing call was not acknowledged.
#[derive(Debug)]
pub(crate) struct Unpublished {
    pub(crate) why: String,
    /// The events may have been kept all the same.
    pub(crate) may_be_kept: bool,
    /// There is no such topic, and none is created by its first use.
    pub(crate) topic_missing: bool,
}

/// Why a group was not deleted.
#[derive(Debug)]
pub(crate) enum Undeleted {
    /// It has so many members.
    InUse(usize),
    Failed(Failure),
}

impl From<Undeleted> for Failure {
    fn from(error: Undeleted) -> Self {
        match error {
            Undeleted::InUse(members) => Self::new(format!(
                "the group has members ({members}); stop them first"
            )),
            Undeleted::Failed(failure) => failure,
        }
    }
}

impl TargetOptions {
    /// What was asked, by the options or the environment, as options of a command line: they are
    /// right in another shell, too.
    fn words(&self) -> Vec<String> {
        // Where the environment says nonsense nothing was asked.
        match self.named() {
            Ok(Named::Folder(dir) | Named::FolderOfEnvironment(dir)) => {
                vec!["--data".to_owned(), dir.display().to_string()]
            }
            Ok(Named::Server(url)) if url != ServerUrl::default_place() => {
                vec!["--server".to_owned(), url.as_str().to_owned()]
            }
            Ok(Named::Server(_)) | Err(_) => Vec::new(),
        }
    }

    /// A command about `name`, if it is about one thing, that asks the same target.
    pub(crate) fn command(&self, command: &str, name: Option<&str>, options: &[String]) -> String {
        let options = [options, &self.words()].concat();
        shell::tidemill(command, name, &options)
    }

    /// Whom the options name, and without any of them the environment. In a folder that only the
    /// environment names no log is begun, whatever `begin` says.
    ///
    /// # Errors
    /// See [`folder::open`]; and where the environment has to say and says nonsense.
    pub(crate) async fn open(&self, begin: Begin) -> Result<Target, Failure> {
        match self.named()? {
            Named::Server(url) => Ok(Target::Server(Client::new(&url))),
            Named::Folder(dir) => folder::open(&dir, begin).await.map(Target::Folder),
            Named::FolderOfEnvironment(dir) => {
                let opened = folder::open(&dir, Begin::MayNot).await.map(Target::Folder);
                let typed = match begin {
                    Begin::May => ", and --data begins a log in it",
                    Begin::MayNot => "",
                };
                opened.map_err(|failure| {
                    Failure::new(format!(
                        "{failure}\nnote: {FOLDER_VARIABLE} names the folder; --server asks a \
                         server instead{typed}"
                    ))
                })
            }
        }
    }

    fn named(&self) -> Result<Named, Failure> {
        match (&self.folder, &self.server) {
            (Some(dir), _) => return Ok(Named::Folder(dir.clone())),
            (None, Some(url)) => return Ok(Named::Server(url.clone())),
            (None, None) => {}
        }
        if let Some(value) = std::env::var_os(SERVER_VARIABLE) {
            let text = value.to_string_lossy();
            let url = text.parse();
            return url.map(Named::Server).map_err(|why: String| {
                Failure::usage(format!(
                    "{SERVER_VARIABLE} is {text:?}: {why}; change it, unset it, or give --server"
                ))
            });
        }
        match std::env::var_os(FOLDER_VARIABLE) {
            Some(value) if value.is_empty() => Err(Failure::usage(format!(
                "{FOLDER_VARIABLE} is set and empty; change it, unset it, or give --data or \
                 --server"
            ))),
            Some(value) => Ok(Named::FolderOfEnvironment(value.into())),
            None => Ok(Named::Server(ServerUrl::default_place())),
        }
    }
}

impl Target {
    /// Publishes `events` in one call: all of them are kept, in their order per key, or none.
    ///
    /// # Errors
    /// What the server or the broker refused, and whether they may have been kept all the same.
    pub(crate) async fn publish(
        &self,
        topic: &TopicName,
        events: Vec<Event>,
    ) -> Result<Vec<wire::Accepted>, Unpublished> {
        match self {
            Self::Server(client) => {
                let at = path(&["v1", "topics", topic.as_str(), "events"]);
                let body = json::batch_to_bytes(&events);
                let answer = client.post(&at, json::BATCH_CONTENT_TYPE, body).await;
                let answer: wire::AcceptedBatch = answer.map_err(|error| match error {
                    CallError::Refused(refusal) if refusal.status == NOT_FOUND => missing(topic),
                    error => Unpublished {
                        may_be_kept: error.may_be_done(),
                        why: error.to_string(),
                        topic_missing: false,
                    },
                })?;
                Ok(answer.events)
            }
            Self::Folder(broker) => {
                let ids: Vec<String> = events.iter().map(|e| e.id().to_string()).collect();
                let positions = broker.publish(topic.clone(), events).await;
                let positions = positions.map_err(|error| match error {
                    PublishError::UnknownTopic(_) => missing(topic),
                    error => Unpublished {
                        may_be_kept: matches!(error, PublishError::Indeterminate(_)),
                        why: error.to_string(),
                        topic_missing: false,
                    },
                })?;
                let pairs = ids.into_iter().zip(positions);
                Ok(pairs
                    .map(|(id, at)| wire::Accepted {
                        id,
                        topic: at.topic.to_string(),
                        partition: at.partition.0,
                        offset: at.offset.0,
                    })
                    .collect())
            }
        }
    }

    /// Every topic, by name.
    pub(crate) async fn topics(&self) -> Result<Vec<wire::Topic>, Failure> {
        let mut topics = match self {
            Self::Server(client) => {
                let answer: wire::Topics = client.get("/v1/topics", Duration::ZERO).await?;
                answer.topics
            }
            Self::Folder(broker) => retold(broker.topics())?,
        };
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// One topic; `None` when there is none of that name.
    pub(crate) async fn topic(&self, name: &TopicName) -> Result<Option<wire::Topic>, Failure> {
        match self {
            Self::Server(client) => {
                let at = path(&["v1", "topics", name.as_str()]);
                found(client.get(&at, Duration::ZERO).await)
            }
            Self::Folder(broker) => broker.topic(name).map(retold).transpose(),
        }
    }

    /// The offset of the first event of a partition that was published at `since` or later, or
    /// of the next one to come.
    pub(crate) async fn offset_since(
        &self,
        name: &TopicName,
        partition: u32,
        since: Timestamp,
    ) -> Result<u64, Failure> {
        match self {
            Self::Server(client) => {
                let at = path(&["v1", "topics", name.as_str(), "events"]);
                let at = format!("{at}?partition={partition}&since={since}&max=1");
                let page: wire::Page = client.get(&at, Duration::ZERO).await?;
                let first = page.events.first().map(|found| found.offset);
                let next = page.next.values().next().copied();
                first.or(next).ok_or_else(|| {
                    Failure::new(format!(
                        "the server does not say where {name}/{partition} is"
                    ))
                })
            }
            Self::Folder(broker) => {
                let partition = Partition(partition);
                let offset = broker.offset_since(name, partition, since).await;
                offset.map(|offset| offset.0).map_err(Failure::new)
            }
        }
    }

    /// Creates a topic.
    pub(crate) async fn create_topic(
        &self,
        name: &TopicName,
        how: CreateTopic,
    ) -> Result<(), Failure> {
        match self {
            Self::Server(client) => {
                let topic = wire::NewTopic {
                    name: name.as_str(),
                    partitions: how.partitions,
                    settings: how.settings,
                };
                let body = serde_json::to_vec(&topic).expect("texts and numbers are JSON");
                let _: serde::de::IgnoredAny = client
                    .post("/v1/topics", "application/json", body.into())
                    .await?;
                Ok(())
            }
            Self::Folder(broker) => {
                let created = broker.create_topic(name.clone(), how).await;
                created.map(|_| ()).map_err(not_made)
            }
        }
    }

    /// Changes a topic; answers it as it is then, `None` when there is none of that name.
    pub(crate) async fn alter_topic(
        &self,
        name: &TopicName,
        change: AlterTopic,
    ) -> Result<Option<wire::Topic>, Failure> {
        match self {
            Self::Server(client) => {
                let at = path(&["v1", "topics", name.as_str()]);
                let body = serde_json::to_vec(&wire::TopicChange::from(change));
                let body = body.expect("texts and numbers are JSON");
                found(client.patch(&at, body.into()).await)
            }
            Self::Folder(broker) => match broker.alter_topic(name, change).await {
                Err(TopicError::Unknown(_)) => Ok(None),
                altered => altered.map_err(not_made).and_then(retold).map(Some),
            },
        }
    }

    /// Deletes the events of a partition below an offset; answers where it begins then.
    ///
    /// # Errors
    /// When there is no such topic, partition or offset: then the text says what is.
    pub(crate) async fn trim(
        &self,
        name: &TopicName,
        partition: u32,
        before: u64,
    ) -> Result<u64, Failure> {
        match self {
            Self::Server(client) => {
                let base = path(&["v1", "topics", name.as_str(), "events"]);
                let at = format!("{base}?partition={partition}&before={before}");
                let trimmed: wire::Trimmed = client.delete_from(&at).await?;
                Ok(trimmed.earliest)
            }
            Self::Folder(broker) => {
                let (partition, before) = (Partition(partition), Offset(before));
                let trimmed = broker.trim_topic(name, partition, before).await;
                trimmed.map(|earliest| earliest.0).map_err(Failure::new)
            }
        }
    }

    /// Deletes a topic with all its events; `false` when there is none of that name.
    pub(crate) async fn delete_topic(&self, name: &TopicName) -> Result<bool, Failure> {
        match self {
            Self::Server(client) => {
                let at = path(&["v1", "topics", name.as_str()]);
                Ok(found(client.delete(&at).await)?.is_some())
            }
            Self::Folder(broker) => match broker.delete_topic(name).await {
                Err(TopicError::Unknown(_)) => Ok(false),
                deleted => deleted.map(|()| true).map_err(Failure::new),
            },
        }
    }

    /// Every consumer group, by name.
    pub(crate) async fn groups(&self) -> Result<Vec<wire::Group>, Failure> {
        let mut groups = match self {
            Self::Server(client) => {
                let answer: wire::Groups = client.get("/v1/groups", Duration::ZERO).await?;
                answer.groups
            }
            Self::Folder(broker) => retold(broker.groups())?,
        };
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(groups)
    }

    /// One group; `None` when there is none of that name.
    pub(crate) async fn group(&self, name: &GroupName) -> Result<Option<wire::Group>, Failure> {
        match self {
            Self::Server(client) => {
                let at = path(&["v1", "groups", name.as_str()]);
                found(client.get(&at, Duration::ZERO).await)
            }
            Self::Folder(broker) => broker.group(name).map(retold).transpose(),
        }
    }

    /// Deletes a group and its positions; `false` when there is none of that name.
    ///
    /// # Errors
    /// [`Undeleted::InUse`] when it has members and `force` is not set.
    pub(crate) async fn delete_group(
        &self,
        name: &GroupName,
        force: bool,
    ) -> Result<bool, Undeleted> {
        match self {
            Self::Server(client) => {
                let query = if force { "?force=true" } else { "" };
                let at = path(&["v1", "groups", name.as_str()]) + query;
                match client.delete(&at).await {
                    Err(CallError::Refused(refusal)) if refusal.is("group-in-use") => {
                        let group = self.group(name).await.map_err(Undeleted::Failed)?;
                        Err(Undeleted::InUse(group.map_or(0, |g| g.member_count())))
                    }
                    other => found(other)
                        .map(|found| found.is_some())
                        .map_err(Undeleted::Failed),
                }
            }
            Self::Folder(broker) => {
                let deleted = match force {
                    true => broker.delete_group(name).await,
                    false => broker.delete_group_without_members(name).await,
                };
                match deleted {
                    Ok(()) => Ok(true),
                    Err(GroupError::Unknown(_)) => Ok(false),
                    Err(GroupError::InUse { members, .. }) => Err(Undeleted::InUse(members)),
                    Err(other) => Err(Undeleted::Failed(Failure::new(other))),
                }
            }
        }
    }

    /// Ends well: a folder is written out and free for others.
    pub(crate) async fn close(self) {
        if let Self::Folder(broker) = self {
            broker.close().await;
        }
    }
}

/// The topic is not there, and is not created by its first use.
fn missing(topic: &TopicName) -> Unpublished {
    Unpublished {
        why: format!("unknown topic {topic}"),
        may_be_kept: false,
        topic_missing: true,
    }
}

/// The folder's broker makes or changes no topic of these settings, which it calls as programs do.
fn not_made(error: TopicError) -> Failure {
    Failure::new(in_flags(&error.to_string()))
}

/// An answer of 404 is `None`.
fn found<T>(answer: Result<T, CallError>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(CallError::Refused(refusal)) if refusal.status == NOT_FOUND => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What the broker tells, in the form in which the server tells it.
fn retold<T: serde::de::DeserializeOwned>(info: impl serde::Serialize) -> Result<T, Failure> {
    let told = serde_json::to_value(info).and_then(serde_json::from_value);
    told.map_err(|e| Failure::new(format!("the broker's answer is not understood: {e}")))
}

/// The broker's own form of a flush policy.
pub(crate) fn flush_policy(flush: Flush) -> FlushPolicy {
    match flush {
        Flush::EveryCommit => FlushPolicy::EveryCommit,
        Flush::Interval(time) => FlushPolicy::Interval(time),
        Flush::Os => FlushPolicy::Os,
    }
}
