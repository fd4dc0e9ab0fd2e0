//! The public conformance suite: what every bus must do, driven by a [`Features`] that says
//! what the bus at hand gives. Works through core's [`Bus`] alone; may not know which bus it is.
//!
//! Every check gets a fresh [`Instance`] from the factory and says in words what was violated.
//! Nothing waits by sleeping: a check waits for an event, bounded by the instance's patience,
//! and shows that "nothing more comes" by publishing one more event and meeting that one next.

mod commit;
mod fetch;
mod groups;
pub mod mutant;
mod order;
mod publish;
mod pull;
mod request;
mod settle;
mod tools;

use std::any::Any;
use std::future::Future;
use std::time::Duration;

use tidemill_core::{BoxFuture, Bus, TopicName};

/// What the bus under test gives. A check whose need is not met is skipped and named so.
#[derive(Clone, Debug)]
pub struct Features {
    /// Settlement and returned events are one commit.
    pub atomic_handler_commit: bool,
    /// One event of a key in flight while other keys go on.
    pub order_per_key: bool,
    /// Reading again from a given position.
    pub replay: bool,
    /// `Outcome::DeadLetter` copies to the group's dead-letter topic.
    pub dead_letter: bool,
    /// `Outcome::Retry` waits as asked.
    pub retry_after: bool,
    /// `request` is answered by the handler's reply.
    pub request_reply: bool,
    /// Topics can be listed and watched.
    pub listing: bool,
    /// The largest event that the bus takes in bytes, where it has a bound worth testing.
    pub event_max_bytes: Option<usize>,
}

impl Features {
    /// Everything, with events of at most `event_max_bytes`.
    #[must_use]
    pub fn all(event_max_bytes: Option<usize>) -> Self {
        Self {
            atomic_handler_commit: true,
            order_per_key: true,
            replay: true,
            dead_letter: true,
            retry_after: true,
            request_reply: true,
            listing: true,
            event_max_bytes,
        }
    }
}

/// A bus for one check.
pub struct Instance {
    /// The bus.
    pub bus: Bus,
    /// Put before every name, so that checks on one shared engine do not meet. May be empty.
    pub prefix: String,
    /// How long to wait for something that must come.
    pub patience: Duration,
    /// What the bus is given.
    pub features: Features,
    /// Dropped after the check: a temporary folder, a connection.
    pub keep: Box<dyn Any + Send + Sync>,
}

impl Instance {
    /// An instance that keeps nothing alive and waits up to 20 seconds.
    #[must_use]
    pub fn new(bus: Bus, features: Features) -> Self {
        Self {
            bus,
            prefix: String::new(),
            patience: Duration::from_secs(20),
            features,
            keep: Box::new(()),
        }
    }

    /// Keeps `guard` alive as long as the instance.
    #[must_use]
    pub fn keeping(mut self, guard: impl Any + Send + Sync) -> Self {
        self.keep = Box::new(guard);
        self
    }

    fn topic(&self, name: &str) -> TopicName {
        let full = format!("{}{name}", self.prefix);
        TopicName::new(full).expect("the suite's names and the given prefix are legal")
    }
}

/// What a bus did wrong, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

impl From<String> for Violation {
    fn from(text: String) -> Self {
        Self(text)
    }
}

type Run = for<'a> fn(&'a Instance) -> BoxFuture<'a, Result<(), Violation>>;

/// One check of the suite.
#[derive(Clone, Copy)]
pub struct Check {
    /// What it shows.
    pub name: &'static str,
    needs: fn(&Features) -> bool,
    run: Run,
}

macro_rules! checks {
    ($($module:ident { $($name:ident $(needs $need:expr)?),* $(,)? })*) => {
        /// Every check, in the order in which they run.
        pub const CHECKS: &[Check] = &[$($(Check {
            name: stringify!($name),
            needs: checks!(@need $($need)?),
            run: |instance| Box::pin($module::$name(instance)),
        }),*),*];
    };
    (@need) => { |_| true };
    (@need $need:expr) => { $need };
}

checks! {
    publish {
        positions_ascend_and_lead_to_the_events needs |f| f.replay,
        events_come_back_verbatim,
        an_empty_publish_is_nothing,
        too_large_is_refused_whole needs |f| f.replay && f.event_max_bytes.is_some(),
    }
    fetch {
        fetch_reads_by_offset_within_its_bounds needs |f| f.replay,
        fetch_waits_for_the_first_event needs |f| f.replay,
        fetch_says_what_is_wrong needs |f| f.replay,
        topics_are_listed_with_their_bounds needs |f| f.listing,
        a_watch_tells_of_every_new_end needs |f| f.listing,
    }
    groups {
        every_group_gets_everything,
        members_share,
        a_group_goes_on_where_it_was,
        a_new_group_starts_at_the_end,
        a_new_group_starts_at_an_offset needs |f| f.replay,
    }
    order {
        one_of_a_key_in_flight_while_others_go_on needs |f| f.order_per_key,
        one_of_a_partition_in_flight,
        without_order_one_key_fills_the_credit,
    }
    settle {
        a_dropped_settlement_comes_again,
        a_dropped_member_gives_back,
        a_stale_settlement_is_refused_whole,
        a_retry_waits_and_counts needs |f| f.retry_after,
        a_dead_letter_is_kept_and_settled needs |f| f.dead_letter,
    }
    commit {
        returned_events_come_with_the_settlement needs |f| f.atomic_handler_commit,
        a_refused_commit_leaves_the_right_to_settle
            needs |f| f.atomic_handler_commit && f.event_max_bytes.is_some(),
        a_refused_effect_refuses_the_commit
            needs |f| f.atomic_handler_commit && f.event_max_bytes.is_some(),
    }
    pull {
        pull_takes_at_most_its_credit,
        a_cancelled_pull_took_nothing,
    }
    request {
        a_request_gets_the_handlers_reply needs |f| f.request_reply,
        a_request_times_out needs |f| f.request_reply,
        a_dead_lettered_request_says_so needs |f| f.request_reply && f.dead_letter,
    }
}

/// What came of a run of the suite.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Checks that hold.
    pub passed: Vec<&'static str>,
    /// Checks whose need the bus does not give.
    pub skipped: Vec<&'static str>,
    /// Checks that do not hold, and how.
    pub failed: Vec<(&'static str, Violation)>,
}

impl Report {
    /// Nothing failed and something passed.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty() && !self.passed.is_empty()
    }
}

impl Check {
    /// Whether `features` give what this check is about.
    #[must_use]
    pub fn applies_to(&self, features: &Features) -> bool {
        (self.needs)(features)
    }

    /// Runs this check on `instance`.
    ///
    /// # Errors
    /// What the bus did wrong.
    pub async fn run(&self, instance: &Instance) -> Result<(), Violation> {
        (self.run)(instance).await
    }
}

/// Runs every check, each on an instance of its own.
pub async fn run_all<F, Made>(factory: F) -> Report
where
    F: Fn() -> Made,
    Made: Future<Output = Instance>,
{
    let mut report = Report::default();
    for check in CHECKS {
        let instance = factory().await;
        if !check.applies_to(&instance.features) {
            report.skipped.push(check.name);
            continue;
        }
        match check.run(&instance).await {
            Ok(()) => report.passed.push(check.name),
            Err(violation) => report.failed.push((check.name, violation)),
        }
    }
    report
}
