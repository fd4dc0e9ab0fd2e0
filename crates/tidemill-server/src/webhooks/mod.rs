//! Webhooks: events of topics, pushed to services that have only HTTP.
//!
//! ```text
//! definition.rs  what a webhook is made of          pure
//! circles.rs     whose dead letters would go round  pure
//! sign.rs        Standard Webhooks signatures       pure
//! retry.rs       when something is tried again      pure
//! send.rs        one attempt                        knows no groups
//! deliver.rs     a member of the webhook's group    knows the traits of a bus alone
//! stats.rs       what happened                      knows no requests
//! mod.rs         which there are, and which work    knows all of them
//! ```
//!
//! A webhook is a consumer group: its position, its retries and its dead letters are the bus's, so
//! what was published while an endpoint, or this server, was away is sent later.

mod circles;
mod definition;
mod deliver;
mod retry;
mod send;
mod sign;
mod stats;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::RandomState;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidemill_broker::{Broker, GroupError};
use tidemill_core::budget::Budget;
use tidemill_core::{Bus, Event, EventId, EventType, GroupName, Source, Start, TopicName, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

pub(crate) use self::definition::GROUP_PREFIX;
use self::definition::Paused;
pub(crate) use self::definition::{Changes, Definition, Headers};
use self::deliver::{Ended, Member, Worker, join};
use self::send::Sender;
pub(crate) use self::send::Verdict;
pub(crate) use self::sign::Secret;
pub(crate) use self::stats::Counts;
use self::stats::Stats;
use crate::http::problem::{Kind, Problem};
use crate::limits::{WEBHOOK_STOP_GRACE, WEBHOOKS_FILE_MAX_BYTES, WEBHOOKS_MAX};
use crate::metrics::WebhookMetrics;
use crate::private_file::{PrivateFile, Versioned};

/// The file of all definitions in the folder of private files.
const FILE: &str = "webhooks.json";
/// The type of the event of a test.
const TEST_TYPE: &str = "tidemill.webhook.test";

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    webhooks: Vec<Definition>,
}

impl Versioned for Kept {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.version
    }
}

/// One webhook.
struct Hook {
    definition: Arc<Definition>,
    stats: Arc<Stats>,
    running: Option<Running>,
}

/// A webhook at work.
struct Running {
    /// Never used again.
    number: u64,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Whoever drops a server has nothing sent any longer.
impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is to be known of a webhook.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) definition: Arc<Definition>,
    pub(crate) counts: Counts,
    /// How many events wait; only a broker knows.
    pub(crate) lag: Option<u64>,
}

/// How a test ended.
pub(crate) struct Tested {
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
    pub(crate) id: String,
}

/// All webhooks of a server.
pub(crate) struct Webhooks {
    bus: Bus,
    broker: Option<Broker>,
    memory: Budget,
    metrics: WebhookMetrics,
    /// Where definitions are kept; without one they end with the server.
    file: Option<PrivateFile>,
    hooks: Mutex<BTreeMap<String, Hook>>,
    /// Whoever changes something has it.
    changing: tokio::sync::Mutex<()>,
    runs: AtomicU64,
    closed: watch::Sender<bool>,
}

fn unknown(name: &str) -> Problem {
    let detail = format!("unknown webhook {name}; GET /v1/webhooks lists those there are");
    Problem::new(Kind::UnknownWebhook, detail)
}

/// The webhook whose group has this name.
pub(crate) fn of_group(group: &GroupName) -> Option<&str> {
    group.as_str().strip_prefix(GROUP_PREFIX)
}

fn invalid(why: String) -> Problem {
    Problem::new(Kind::InvalidWebhook, why)
}

impl Webhooks {
    /// Those that are kept in `file`; none of them works yet.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn open(
        (bus, broker): (Bus, Option<Broker>),
        memory: Budget,
        metrics: WebhookMetrics,
        folder: Option<std::path::PathBuf>,
    ) -> Result<Self, String> {
        let file = folder.map(|folder| PrivateFile::new(folder, FILE, WEBHOOKS_FILE_MAX_BYTES));
        let kept = file.as_ref().map(read).transpose()?.unwrap_or_default();
        let hook = |definition: Definition| {
            metrics.paused(&definition.name, definition.paused.is_some());
            let hook = Hook {
                definition: Arc::new(definition),
                stats: Arc::default(),
                running: None,
            };
            (hook.definition.name.clone(), hook)
        };
        Ok(Self {
            hooks: Mutex::new(kept.into_iter().map(hook).collect()),
            bus,
            broker,
            memory,
            metrics,
            file,
            changing: tokio::sync::Mutex::default(),
            runs: AtomicU64::default(),
            closed: watch::channel(false).0,
        })
    }

    fn hooks(&self) -> MutexGuard<'_, BTreeMap<String, Hook>> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets all to work that are not paused.
    pub(crate) async fn start(self: &Arc<Self>) {
        let _changing = self.changing.lock().await;
        let names: Vec<String> = self.hooks().keys().cloned().collect();
        for name in names {
            self.set_to_work(&name, None).await;
        }
    }

    /// Ends the work of all, as a server does that closes.
    pub(crate) async fn close(&self) {
        self.closed.send_replace(true);
        let _changing = self.changing.lock().await;
        let running: Vec<_> = self
            .hooks()
            .values_mut()
            .filter_map(|hook| hook.running.take())
            .collect();
        for running in &running {
            running.stop.send_replace(true);
        }
        let until = Instant::now() + WEBHOOK_STOP_GRACE * 2;
        for mut running in running {
            // What does not end in time is broken off.
            let _ = timeout_at(until, &mut running.task).await;
        }
    }

    /// All, by their names.
    pub(crate) fn list(&self) -> Vec<Shown> {
        self.hooks().values().map(|hook| self.shown(hook)).collect()
    }

    /// One of them.
    pub(crate) fn show(&self, name: &str) -> Result<Shown, Problem> {
        let hooks = self.hooks();
        hooks
            .get(name)
            .map(|hook| self.shown(hook))
            .ok_or_else(|| unknown(name))
    }

    fn shown(&self, hook: &Hook) -> Shown {
        let group = self.broker.as_ref();
        let group = group.and_then(|broker| broker.group(&hook.definition.group()));
        // Others may have read further topics as this group.
        let lag = group.map(|group| {
            let own = group.partitions.iter();
            let own = own.filter(|part| hook.definition.topics.contains(&part.topic));
            own.map(|part| part.lag).sum()
        });
        Shown {
            definition: Arc::clone(&hook.definition),
            counts: hook.stats.counts(),
            lag,
        }
    }

    fn definition(&self, name: &str) -> Result<Arc<Definition>, Problem> {
        let hooks = self.hooks();
        let hook = hooks.get(name).ok_or_else(|| unknown(name))?;
        Ok(Arc::clone(&hook.definition))
    }

    /// Makes one, which works from now on. Its group is there before it is answered for, so that
    /// what is published after that is sent.
    pub(crate) async fn create(
        self: &Arc<Self>,
        (name, topics, secret): (String, Vec<TopicName>, Option<String>),
        how: Changes,
        start: Start,
    ) -> Result<Shown, Problem> {
        let secret = match secret {
            Some(text) => Secret::parse(&text).map_err(invalid)?,
            None => random()?,
        };
        let definition = Definition::new(name, topics, how, secret, Timestamp::now());
        let definition = definition.map_err(invalid)?;
        let name = definition.name.clone();
        let _changing = self.changing.lock().await;
        self.check_open()?;
        {
            let hooks = self.hooks();
            if hooks.contains_key(&name) {
                let detail = format!(
                    "there is a webhook {name} already; PATCH /v1/webhooks/{name} changes it"
                );
                return Err(Problem::new(Kind::Conflict, detail));
            }
            if hooks.len() >= WEBHOOKS_MAX {
                let detail = format!("a server has at most {WEBHOOKS_MAX} webhooks");
                return Err(Problem::new(Kind::Limit, detail));
            }
            let others: Vec<_> = hooks.values().map(|hook| &*hook.definition).collect();
            circles::check(&definition, &others).map_err(invalid)?;
        }
        self.check_no_group(&definition)?;
        let member = join(&self.bus, &definition, start).await?;
        if let Err(why) = self.keep(&name, Some(definition.clone())).await {
            drop(member);
            if let Err(why) = self.delete_group(&definition).await {
                tracing::error!(webhook = name, ?why, "the group of no webhook stays");
            }
            return Err(why);
        }
        let hook = Hook {
            definition: Arc::new(definition),
            stats: Arc::default(),
            running: None,
        };
        self.metrics.paused(&name, false);
        self.hooks().insert(name.clone(), hook);
        self.set_to_work(&name, Some(member)).await;
        self.show(&name)
    }

    /// Changes one by what `change` does to its definition, and sets it to work as it is then.
    pub(crate) async fn change(
        self: &Arc<Self>,
        name: &str,
        change: impl FnOnce(&mut Definition) -> Result<(), Problem>,
    ) -> Result<Shown, Problem> {
        let _changing = self.changing.lock().await;
        self.check_open()?;
        let mut definition = Definition::clone(&*self.definition(name)?);
        change(&mut definition)?;
        self.keep(name, Some(definition.clone())).await?;
        self.replace(name, definition).await;
        self.set_to_work(name, None).await;
        self.show(name)
    }

    /// Ends the work of one, and takes a changed definition.
    async fn replace(&self, name: &str, definition: Definition) {
        self.stop(name).await;
        self.metrics.paused(name, definition.paused.is_some());
        if let Some(hook) = self.hooks().get_mut(name) {
            hook.definition = Arc::new(definition);
            hook.stats.rested();
        }
    }

    /// Pauses one, for a reason that is shown.
    pub(crate) async fn pause(
        self: &Arc<Self>,
        name: &str,
        reason: &str,
    ) -> Result<Shown, Problem> {
        self.change(name, |definition| {
            definition.paused.get_or_insert_with(|| Paused {
                reason: reason.to_owned(),
                since: Timestamp::now(),
            });
            Ok(())
        })
        .await
    }

    /// Lets a paused one go on where it was.
    pub(crate) async fn resume(self: &Arc<Self>, name: &str) -> Result<Shown, Problem> {
        self.change(name, |definition| {
            definition.paused = None;
            Ok(())
        })
        .await
    }

    /// Gives one a new secret; the one before signs, too, for so long. Answers, too, whether the
    /// oldest secret ended for that.
    pub(crate) async fn rotate(
        self: &Arc<Self>,
        name: &str,
        secret: Option<String>,
        overlap: Duration,
    ) -> Result<(Shown, bool), Problem> {
        let secret = match secret {
            Some(text) => Secret::parse(&text).map_err(invalid)?,
            None => random()?,
        };
        let mut ended = false;
        let rotate = self.change(name, |definition| {
            ended = definition.rotate(secret, overlap, Timestamp::now());
            Ok(())
        });
        let shown = rotate.await?;
        Ok((shown, ended))
    }

    /// Deletes one with its group. Its dead letters stay. The definition goes last: where this
    /// fails, or the server ends, the webhook is there and paused, and can be deleted again.
    pub(crate) async fn delete(self: &Arc<Self>, name: &str) -> Result<(), Problem> {
        let _changing = self.changing.lock().await;
        let mut definition = Definition::clone(&*self.definition(name)?);
        if definition.paused.is_none() {
            definition.paused = Some(Paused {
                reason: "its deletion was begun; delete it again".to_owned(),
                since: Timestamp::now(),
            });
            self.keep(name, Some(definition.clone())).await?;
            self.replace(name, definition.clone()).await;
        }
        self.delete_group(&definition).await?;
        self.keep(name, None).await?;
        self.hooks().remove(name);
        self.metrics.forget(name);
        Ok(())
    }

    /// Deletes the group of one that does not work, where it is there.
    async fn delete_group(&self, definition: &Definition) -> Result<(), Problem> {
        let Some(broker) = &self.broker else {
            return Ok(());
        };
        match broker.delete_group(&definition.group()).await {
            Ok(()) | Err(GroupError::Unknown(_)) => Ok(()),
            Err(why) => Err(why.into()),
        }
    }

    /// A group that is there would go on where it was, wherever the new webhook is to start.
    fn check_no_group(&self, definition: &Definition) -> Result<(), Problem> {
        let group = definition.group();
        let there = self.broker.as_ref().and_then(|broker| broker.group(&group));
        if there.is_none() {
            return Ok(());
        }
        let detail = format!(
            "there is a group {group} already, with a place of its own; delete it with `tidemill \
             group delete {group}` or DELETE /v1/groups/{group}, or take another name"
        );
        Err(Problem::new(Kind::Conflict, detail))
    }

    /// Sends an event of its own, once, past the group.
    pub(crate) async fn test(&self, name: &str) -> Result<Tested, Problem> {
        let definition = self.definition(name)?;
        let number = uuid::Uuid::now_v7().to_string();
        let internal = |why: String| Problem::new(Kind::Internal, why);
        let id = EventId::new(number).map_err(|why| internal(why.to_string()))?;
        let source = Source::new(format!("/tidemill/webhooks/{name}"));
        let source = source.map_err(|why| internal(why.to_string()))?;
        let ty = EventType::new(TEST_TYPE).expect("it is a type");
        let data = serde_json::json!({ "webhook": name }).to_string();
        let event = Event::builder(id, source, ty)
            .time(Timestamp::now())
            .data("application/json", data)
            .build();
        let event = event.map_err(|why| internal(why.to_string()))?;
        let (id, body) = (sign::message_id(&event), json::to_bytes(&event));
        let sender = Sender::new(&definition).await;
        let began = Instant::now();
        let verdict = sender.send(&definition, &id, body, Timestamp::now()).await;
        let took = began.elapsed();
        Ok(Tested { verdict, took, id })
    }

    fn check_open(&self) -> Result<(), Problem> {
        match *self.closed.borrow() {
            true => Err(tidemill_core::error::Unavailable::Closed.into()),
            false => Ok(()),
        }
    }

    /// Keeps all definitions, with this one as it is to be.
    async fn keep(&self, name: &str, definition: Option<Definition>) -> Result<(), Problem> {
        let Some(file) = self.file.clone() else {
            return Ok(());
        };
        let mut webhooks: BTreeMap<String, Definition> = {
            let hooks = self.hooks();
            let each = hooks.iter();
            each.map(|(name, hook)| (name.clone(), Definition::clone(&hook.definition)))
                .collect()
        };
        match definition {
            Some(definition) => webhooks.insert(name.to_owned(), definition),
            None => webhooks.remove(name),
        };
        let kept = Kept {
            version: Kept::VERSION,
            webhooks: webhooks.into_values().collect(),
        };
        let bytes = kept.encode().expect("definitions have string keys");
        let path = file.path();
        let written = tokio::task::spawn_blocking(move || {
            file.change(|_| Ok::<_, std::io::Error>((Some(bytes), ())))
        });
        let written = written
            .await
            .unwrap_or_else(|error| Err(std::io::Error::other(error)));
        written.map_err(|error| {
            let detail = format!("{} cannot be written: {error}", path.display());
            Problem::new(Kind::Internal, detail)
        })
    }

    /// Ends the work of one.
    async fn stop(&self, name: &str) {
        let running = self
            .hooks()
            .get_mut(name)
            .and_then(|hook| hook.running.take());
        let Some(mut running) = running else { return };
        running.stop.send_replace(true);
        // What does not end in time is broken off.
        let _ = timeout(WEBHOOK_STOP_GRACE * 2, &mut running.task).await;
    }

    /// Sets one to work that is not paused.
    async fn set_to_work(self: &Arc<Self>, name: &str, member: Option<Member>) {
        let Ok(definition) = self.definition(name) else {
            return;
        };
        if definition.paused.is_some() || *self.closed.borrow() {
            return;
        }
        let sender = Sender::new(&definition).await;
        let (stop, stopped) = watch::channel(false);
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let mut hooks = self.hooks();
        let Some(hook) = hooks.get_mut(name) else {
            return;
        };
        let worker = Arc::new(Worker {
            definition,
            sender,
            stats: Arc::clone(&hook.stats),
            metrics: self.metrics.clone(),
            bus: self.bus.clone(),
            memory: self.memory.clone(),
            random: RandomState::new(),
        });
        let (webhooks, own) = (Arc::downgrade(self), name.to_owned());
        let task = tokio::spawn(async move {
            let ended = worker.run(member, stopped).await;
            if let (Ended::Paused(reason), Some(webhooks)) = (ended, webhooks.upgrade()) {
                // In a task of its own: this one is waited for by whoever changes the webhook.
                tokio::spawn(async move { webhooks.paused_itself(&own, number, reason).await });
            }
        });
        hook.running = Some(Running { number, stop, task });
    }

    /// The work of one ended by itself: it is paused, unless it works anew meanwhile.
    async fn paused_itself(&self, name: &str, number: u64, reason: String) {
        let _changing = self.changing.lock().await;
        let same = |hook: &Hook| {
            hook.running
                .as_ref()
                .is_some_and(|run| run.number == number)
        };
        if !self.hooks().get(name).is_some_and(same) {
            return;
        }
        let Ok(definition) = self.definition(name) else {
            return;
        };
        tracing::warn!(webhook = name, reason, "a webhook is paused");
        let mut definition = Definition::clone(&definition);
        let since = Timestamp::now();
        definition.paused = Some(Paused { reason, since });
        if let Err(why) = self.keep(name, Some(definition.clone())).await {
            tracing::error!(webhook = name, ?why, "its pause is not kept over a restart");
        }
        self.replace(name, definition).await;
    }
}

fn random() -> Result<Secret, Problem> {
    Secret::random().map_err(|why| Problem::new(Kind::Internal, why))
}

fn read(file: &PrivateFile) -> Result<Vec<Definition>, String> {
    let wrong = |why: String| {
        format!(
            "the webhooks in {} cannot be read ({why}); mend the file, or move it away to begin \
             without webhooks",
            file.path().display()
        )
    };
    let Some(bytes) = file.read().map_err(|error| wrong(error.to_string()))? else {
        return Ok(Vec::new());
    };
    let kept = Kept::decode(&bytes).map_err(wrong)?;
    let mut names = BTreeSet::new();
    let mut before: Vec<&Definition> = Vec::with_capacity(kept.webhooks.len());
    for (number, definition) in (1..).zip(&kept.webhooks) {
        let name = &definition.name;
        let of = |why: String| wrong(format!("webhook number {number}, {name:?}: {why}"));
        definition.check().map_err(of)?;
        if !names.insert(name) {
            return Err(of("another one before it has this name".to_owned()));
        }
        // It is refused where one is made; one that is kept is harmless, as its events end in a
        // few rounds, and only a server that runs can undo it.
        if let Some(names) = circles::circle(definition, &before) {
            tracing::warn!(
                circle = names.join(", "),
                "dead letters of webhooks would come back to them; change or delete one of these"
            );
        }
        before.push(definition);
    }
    Ok(kept.webhooks)
}
