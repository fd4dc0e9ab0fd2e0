//! What a caller may do: the doors' permissions in the words of Kafka's resources and codes.
//!
//! Every key says in [`Api::NEEDS`](super::registry::Api::NEEDS) what its callers need, and its
//! `answer` asks for it, before it looks whether anything is there: what a client may not see is
//! refused alike whether it exists or not. Where there are no permissions nothing is looked up.
//!
//! What a rule is and what it means, `permissions/` knows; this room may not know files.

use std::sync::Arc;

use tidemill_broker::ConsumerSight;
use tidemill_core::TopicName;
use tokio::time::sleep;

use super::Door;
use super::error::Code;
use crate::config::AclConfig;
use crate::error::ServeError;
use crate::limits::PERMISSIONS_LOOK_EVERY;
use crate::permissions::Permissions;
use crate::permissions::judge::{Judge, Policy, Unnamed, Who};
use crate::permissions::rule::{CLUSTER, principal};
pub(super) use crate::permissions::rule::{Kind, Operation};
use crate::users::Users;

/// Operations on kinds of resources, of which a caller needs some.
pub(super) type Needs = &'static [(Operation, Kind)];

/// Kafka's numbers of what has configurations, beside nodes.
pub(super) const TOPIC_CONFIG: i8 = 2;
const GROUP_CONFIG: i8 = 32;

/// The permissions of the door.
#[derive(Debug)]
pub(in super::super) struct Guard {
    pub(super) rules: Arc<Permissions>,
    /// The users that rules are about, whether one has to log in or not.
    pub(super) users: Arc<Users>,
    policy: Arc<Policy>,
}

impl Guard {
    /// Looks whether the rules can be read.
    ///
    /// # Errors
    /// They cannot.
    pub(super) fn readable(config: &AclConfig) -> Result<(), ServeError> {
        let looked = Permissions::new(&config.rules).look();
        looked.map_err(|error| ServeError::Permissions(error.to_string()))
    }

    /// As it is configured. What cannot be read yet lets nobody in but super users.
    pub(super) fn new(config: &AclConfig) -> Self {
        let rules = Permissions::new(&config.rules);
        if let Err(error) = rules.look() {
            tracing::error!(%error, "only super users may do anything at the Kafka door");
        }
        let rules_known = rules.known();
        let none = rules_known.is_some_and(|known| known.rules.is_empty());
        if none && !config.open && config.super_users.is_empty() {
            tracing::warn!(
                "clients of Kafka may do nothing yet: there are no ACLs; add some with `tidemill \
                 acl add`"
            );
        }
        if config.open && config.super_users.is_empty() {
            tracing::warn!(
                "with open ACLs and without a super user every client of Kafka can give itself \
                 every right, and users other passwords; name one with --kafka-super-user"
            );
        }
        let super_users = config.super_users.iter().map(|name| principal(name));
        Self {
            rules: Arc::new(rules),
            users: Arc::new(Users::new(&config.rules)),
            policy: Arc::new(Policy {
                unnamed: match config.open {
                    true => Unnamed::Open,
                    false => Unnamed::Closed,
                },
                super_users: super_users.collect(),
            }),
        }
    }

    fn judge(&self) -> Judge {
        let known = self.rules.known();
        let book = known.map(|known| Arc::clone(&known.book));
        Judge::new(book, Arc::clone(&self.policy))
    }
}

/// Looks again and again whether a command has changed the rules, until the server closes.
pub(super) async fn follow(door: Arc<Door>) {
    let Some(guard) = door.guard.clone() else {
        return;
    };
    let mut told = None;
    loop {
        tokio::select! {
            () = door.closed() => return,
            () = sleep(PERMISSIONS_LOOK_EVERY) => {}
        }
        let rules = Arc::clone(&guard.rules);
        let looked = tokio::task::spawn_blocking(move || rules.look()).await;
        let why = match looked {
            Ok(looked) => looked.err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        // Once for each reason.
        if let Some(error) = &why
            && told != why
        {
            tracing::error!(%error, "the ACLs stay as they were");
        }
        told = why;
    }
}

/// What a caller may do at this moment.
#[derive(Clone, Debug)]
pub(super) struct Access(Option<(Judge, Arc<Who>)>);

impl Access {
    /// Where there are no permissions: everything.
    pub(super) const EVERYTHING: Self = Self(None);

    /// Of somebody at a guarded door.
    pub(super) fn of(guard: &Guard, who: Arc<Who>) -> Self {
        Self(Some((guard.judge(), who)))
    }

    /// Whether he may do this.
    pub(super) fn may(&self, operation: Operation, kind: Kind, name: &str) -> bool {
        let judged = self.0.as_ref();
        judged.is_none_or(|(judge, who)| judge.may(who, operation, kind, name))
    }

    /// The topics that he may see, for as long as the rules are these; `None` for all.
    pub(super) fn sight(&self) -> Option<ConsumerSight> {
        let (judge, who) = self.0.clone()?;
        let key = format!("{} {}", judge.edition(), who);
        let sees = move |topic: &TopicName| {
            judge.may(&who, Operation::Describe, Kind::Topic, topic.as_str())
        };
        Some(ConsumerSight::new(key, sees))
    }

    fn refused_as(
        &self,
        code: Code,
        operation: Operation,
        kind: Kind,
        name: &str,
    ) -> Result<(), Code> {
        match self.may(operation, kind, name) {
            true => Ok(()),
            false => {
                if let Some((_, who)) = &self.0 {
                    let principal = who.principal();
                    tracing::debug!(principal, %operation, %kind, name, "refused by an ACL");
                }
                Err(code)
            }
        }
    }

    /// # Errors
    /// He may not do this with the topic.
    pub(super) fn topic(&self, operation: Operation, name: &str) -> Result<(), Code> {
        let code = Code::TopicAuthorizationFailed;
        self.refused_as(code, operation, Kind::Topic, name)
    }

    /// As [`Access::topic`], for one that a request names by its id: a hidden one is not told
    /// from one that is not there.
    ///
    /// # Errors
    /// He may not do this with the topic.
    pub(super) fn topic_of_id(&self, operation: Operation, name: &str) -> Result<(), Code> {
        let may = self.topic(operation, name);
        may.map_err(
            |code| match self.may(Operation::Describe, Kind::Topic, name) {
                true => code,
                false => Code::UnknownTopicId,
            },
        )
    }

    /// # Errors
    /// He may neither make topics nor this one.
    pub(super) fn create_topic(&self, name: &str) -> Result<(), Code> {
        match self.may(Operation::Create, Kind::Cluster, CLUSTER) {
            true => Ok(()),
            false => self.topic(Operation::Create, name),
        }
    }

    /// # Errors
    /// He may not do this with the group.
    pub(super) fn group(&self, operation: Operation, name: &str) -> Result<(), Code> {
        let code = Code::GroupAuthorizationFailed;
        self.refused_as(code, operation, Kind::Group, name)
    }

    /// # Errors
    /// He may not do this as the transactional producer.
    pub(super) fn transaction(&self, operation: Operation, id: &str) -> Result<(), Code> {
        let code = Code::TransactionalIdAuthorizationFailed;
        self.refused_as(code, operation, Kind::TransactionalId, id)
    }

    /// # Errors
    /// There are permissions, so that a transaction has to say whose it is.
    pub(super) fn nobodys_transaction(&self) -> Result<(), Code> {
        match &self.0 {
            None => Ok(()),
            Some(_) => Err(Code::TransactionalIdAuthorizationFailed),
        }
    }

    /// # Errors
    /// He may not do this with the server.
    pub(super) fn cluster(&self, operation: Operation) -> Result<(), Code> {
        let code = Code::ClusterAuthorizationFailed;
        self.refused_as(code, operation, Kind::Cluster, CLUSTER)
    }

    /// Whether he may do this with the server because somebody allowed it him, and not only
    /// because nothing is said of that.
    pub(super) fn is_granted_cluster(&self, operation: Operation) -> bool {
        let judged = self.0.as_ref();
        judged.is_some_and(|(judge, who)| judge.is_granted(who, operation, Kind::Cluster, CLUSTER))
    }

    /// # Errors
    /// He may not do this with the configurations of a resource of Kafka's number.
    pub(super) fn config(&self, operation: Operation, kind: i8, name: &str) -> Result<(), Code> {
        match kind {
            TOPIC_CONFIG => self.topic(operation, name),
            GROUP_CONFIG => self.group(operation, name),
            _ => self.cluster(operation),
        }
    }

    /// # Errors
    /// He may not have a producer's id: neither in general, nor is there a topic to write to.
    pub(super) fn idempotent(&self) -> Result<(), Code> {
        let writes = |(judge, who): &(Judge, Arc<Who>)| {
            judge.may_with_any(who, Operation::Write, Kind::Topic)
        };
        match self.0.as_ref().is_some_and(writes) {
            true => Ok(()),
            false => self.cluster(Operation::IdempotentWrite),
        }
    }

    /// What he may do with a resource, as bits by Kafka's numbers of operations.
    pub(super) fn operations(&self, kind: Kind, name: &str) -> i32 {
        let all = kind.operations().iter().copied();
        let may = all.filter(|operation| self.may(*operation, kind, name));
        may.fold(0, |bits, operation| bits | 1 << number(operation))
    }

    /// What he may do with the server, if he may see that.
    pub(super) fn cluster_operations(&self) -> i32 {
        match self.may(Operation::Describe, Kind::Cluster, CLUSTER) {
            true => self.operations(Kind::Cluster, CLUSTER),
            false => 0,
        }
    }
}

/// Kafka's number of an operation.
pub(super) fn number(operation: Operation) -> i8 {
    match operation {
        Operation::All => 2,
        Operation::Read => 3,
        Operation::Write => 4,
        Operation::Create => 5,
        Operation::Delete => 6,
        Operation::Alter => 7,
        Operation::Describe => 8,
        Operation::ClusterAction => 9,
        Operation::DescribeConfigs => 10,
        Operation::AlterConfigs => 11,
        Operation::IdempotentWrite => 12,
        Operation::CreateTokens => 13,
        Operation::DescribeTokens => 14,
        Operation::TwoPhaseCommit => 15,
    }
}
