//! One rule: who, from where, may or may not do what with which resources; and its bounds.
//!
//! The words are those of Apache Kafka's ACLs, as programs and people know them. This room may not
//! know files, nor the types of a protocol.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tidemill_core::TopicName;

use super::PermissionError;
use crate::limits::PERMISSION_TEXT_MAX_BYTES;

/// Everybody, as a principal.
pub const EVERYBODY: &str = "User:*";

/// Every host; and as a resource's literal name, every resource.
pub const ANY: &str = "*";

/// The name of the one resource of the kind [`Kind::Cluster`].
pub const CLUSTER: &str = "kafka-cluster";

/// Who did not log in, as a user's name.
pub const ANONYMOUS: &str = "ANONYMOUS";

/// The kind of principal that users are.
pub const USER: &str = "User:";

/// Defines words: their values, and how they are written.
macro_rules! words {
    (
        $(#[doc = $doc:literal])*
        $name:ident: $($(#[doc = $each:literal])* $variant:ident = $word:literal,)+
    ) => {
        $(#[doc = $doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub enum $name {
            $($(#[doc = $each])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// All of them.
            pub const EVERY: &'static [Self] = &[$(Self::$variant,)+];

            /// How it is written.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let mut every = Self::EVERY.iter().copied();
                every.find(|one| one.word() == text).ok_or_else(|| {
                    let words: Vec<_> = Self::EVERY.iter().map(|one| one.word()).collect();
                    format!("{text:?} is none of {}", words.join(", "))
                })
            }
        }
    };
}

words! {
    /// What is done with a resource.
    Operation:
        /// Everything.
        All = "all",
        /// Reading events, and being a member of a group.
        Read = "read",
        /// Writing events.
        Write = "write",
        /// Making it.
        Create = "create",
        /// Deleting it.
        Delete = "delete",
        /// Changing it.
        Alter = "alter",
        /// Seeing it; who may read, write, delete or alter may, too.
        Describe = "describe",
        /// What the nodes of a cluster do among themselves.
        ClusterAction = "cluster-action",
        /// Seeing its configurations; who may alter them may, too.
        DescribeConfigs = "describe-configs",
        /// Changing its configurations.
        AlterConfigs = "alter-configs",
        /// Having a producer's id.
        IdempotentWrite = "idempotent-write",
        /// Making tokens for it.
        CreateTokens = "create-tokens",
        /// Seeing its tokens.
        DescribeTokens = "describe-tokens",
        /// Preparing transactions that others decide.
        TwoPhaseCommit = "two-phase-commit",
}

words! {
    /// What something is done with.
    Kind:
        /// A topic.
        Topic = "topic",
        /// A consumer group.
        Group = "group",
        /// The server as a whole; its name is [`CLUSTER`].
        Cluster = "cluster",
        /// A transactional producer.
        TransactionalId = "transactional-id",
        /// A token in place of a password.
        DelegationToken = "delegation-token",
        /// A user.
        User = "user",
}

words! {
    /// Which resources a name in a rule means.
    Match:
        /// The one of this name; `*` means all.
        Literal = "literal",
        /// Those whose names begin so.
        Prefixed = "prefixed",
}

words! {
    /// What a rule says. Who is denied something by one rule may not do it, whatever others say.
    Effect:
        /// He may not.
        Deny = "deny",
        /// He may.
        Allow = "allow",
}

impl Kind {
    /// What can be done with such a resource, beside [`Operation::All`].
    #[must_use]
    pub const fn operations(self) -> &'static [Operation] {
        use Operation as O;
        match self {
            Self::Topic => &[
                O::Read,
                O::Write,
                O::Create,
                O::Delete,
                O::Alter,
                O::Describe,
                O::DescribeConfigs,
                O::AlterConfigs,
            ],
            Self::Group => &[
                O::Read,
                O::Delete,
                O::Describe,
                O::DescribeConfigs,
                O::AlterConfigs,
            ],
            Self::Cluster => &[
                O::Create,
                O::Alter,
                O::Describe,
                O::ClusterAction,
                O::DescribeConfigs,
                O::AlterConfigs,
                O::IdempotentWrite,
            ],
            Self::TransactionalId => &[O::Write, O::Describe, O::TwoPhaseCommit],
            Self::DelegationToken => &[O::Describe],
            Self::User => &[O::CreateTokens, O::DescribeTokens],
        }
    }
}

/// Resources, as a rule names them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// What they are.
    pub kind: Kind,
    /// Their name, or what their names begin with.
    pub name: String,
    /// Which of the two it is.
    #[serde(rename = "match")]
    pub how: Match,
}

/// A rule. Those about the same resources stand together when they are sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What it is about.
    pub resource: Pattern,
    /// Whom it is about, as `User:alice`; [`EVERYBODY`] is each of them.
    pub principal: String,
    /// From which address; [`ANY`] is every one.
    pub host: String,
    /// What he does.
    pub operation: Operation,
    /// Whether he may.
    pub effect: Effect,
}

/// The principal that a text names: `User:` stands before a name without it.
#[must_use]
pub fn principal(text: &str) -> String {
    match text.starts_with(USER) {
        true => text.to_owned(),
        false => format!("{USER}{text}"),
    }
}

/// An address as rules have it; others stay as they are.
#[must_use]
pub(super) fn host(text: &str) -> String {
    match text.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => text.to_owned(),
    }
}

/// Whether a text is short enough, and one line.
fn fits(text: &str) -> bool {
    let bytes = 1..=PERMISSION_TEXT_MAX_BYTES;
    bytes.contains(&text.len()) && !text.chars().any(char::is_control)
}

impl Rule {
    /// The rule with its address written as rules have it, if it can be one.
    ///
    /// # Errors
    /// [`PermissionError::Rule`] says what is wrong.
    pub fn checked(mut self) -> Result<Self, PermissionError> {
        let wrong = |why: &str| Err(PermissionError::Rule(why.to_owned()));
        let typed = self.principal.split_once(':');
        if !fits(&self.principal)
            || typed.is_none_or(|(kind, name)| kind.is_empty() || name.is_empty())
        {
            return wrong("a principal is written as User:NAME, or User:* for everybody");
        }
        self.host = host(&self.host);
        if self.host != ANY && self.host.parse::<IpAddr>().is_err() {
            return wrong("a host is an IP address, or * for every one");
        }
        if !fits(&self.resource.name) {
            return Err(PermissionError::Rule(format!(
                "a resource's name has 1 to {PERMISSION_TEXT_MAX_BYTES} bytes, without control \
                 characters"
            )));
        }
        if self.resource.kind == Kind::Cluster && self.resource.name != CLUSTER {
            return wrong("the only name of a cluster is kafka-cluster");
        }
        Ok(self)
    }

    /// Checks that somebody may come whom the rule is about, and something that it is about. Such
    /// rules are kept all the same where clients of Kafka make them, as there.
    ///
    /// # Errors
    /// [`PermissionError::Rule`] says what no request will ever be, and what to write instead.
    pub fn can_count(&self) -> Result<(), PermissionError> {
        let wrong = |why: String| Err(PermissionError::Rule(why));
        let Pattern { kind, name, how } = &self.resource;
        let (kind, operation) = (*kind, self.operation);
        if operation != Operation::All && !kind.operations().contains(&operation) {
            let words: Vec<_> = kind.operations().iter().map(|one| one.word()).collect();
            let words = words.join(", ");
            return wrong(format!(
                "nobody asks for {operation} of a {kind}; it is one of all, {words}"
            ));
        }
        if !self.principal.starts_with(USER) {
            let principal = &self.principal;
            return wrong(format!(
                "there are no principals but users: {principal:?} is nobody; write \
                 User:{principal} for a user of that name"
            ));
        }
        let every = *how == Match::Literal && name == ANY;
        if kind == Kind::Topic && !every {
            let dots = *how == Match::Prefixed && matches!(name.as_str(), "." | "..");
            let named = TopicName::new(name.as_str());
            if let Some(why) = named.err().filter(|_| !dots) {
                return wrong(format!(
                    "no topic is called so: {why}; * alone is every topic, and --prefixed takes \
                     what their names begin with, without a star"
                ));
            }
        }
        let prefix = matches!(kind, Kind::Group | Kind::TransactionalId) && *how == Match::Prefixed;
        if prefix && name == ANY {
            return wrong(format!(
                "with --prefixed, * is a {kind} whose name begins with a star; leave --prefixed \
                 out for every {kind}"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Rule {
        Rule {
            resource: Pattern {
                kind: Kind::Topic,
                name: "orders".to_owned(),
                how: Match::Literal,
            },
            principal: "User:alice".to_owned(),
            host: ANY.to_owned(),
            operation: Operation::Read,
            effect: Effect::Allow,
        }
    }

    #[test]
    fn what_can_be_no_rule_is_refused() {
        let long = "x".repeat(PERMISSION_TEXT_MAX_BYTES);
        let wrong: &[fn(&mut Rule, &str)] = &[
            |rule, _| rule.principal = "alice".to_owned(),
            |rule, _| rule.principal = "User:".to_owned(),
            |rule, _| rule.principal = ":alice".to_owned(),
            |rule, _| rule.principal = "User:a\nb".to_owned(),
            |rule, long| rule.principal = format!("User:{long}"),
            |rule, _| rule.host = "example.org".to_owned(),
            |rule, _| rule.host = String::new(),
            |rule, _| rule.resource.name = String::new(),
            |rule, _| rule.resource.name = "a\0".to_owned(),
            |rule, long| rule.resource.name = format!("{long}x"),
            |rule, _| rule.resource.kind = Kind::Cluster,
        ];
        assert!(rule().checked().is_ok());
        for (number, change) in wrong.iter().enumerate() {
            let mut rule = rule();
            change(&mut rule, &long);
            assert!(rule.checked().is_err(), "{number}");
        }
    }

    #[test]
    fn what_nobody_will_ever_ask_for_is_told() {
        type Change = fn(&mut Rule);
        let wrong: &[(Change, &str)] = &[
            (
                |rule| rule.operation = Operation::IdempotentWrite,
                "all, read, write, create",
            ),
            (
                |rule| rule.principal = "Group:devs".to_owned(),
                "User:Group:devs",
            ),
            (|rule| rule.resource.name = "ord*".to_owned(), "--prefixed"),
            (|rule| rule.resource.name = "..".to_owned(), "topic names"),
            (
                |rule| {
                    rule.resource.name = ANY.to_owned();
                    rule.resource.how = Match::Prefixed;
                },
                "without a star",
            ),
            (
                |rule| {
                    rule.resource.kind = Kind::Group;
                    rule.resource.name = ANY.to_owned();
                    rule.resource.how = Match::Prefixed;
                },
                "leave --prefixed out",
            ),
        ];
        assert!(rule().can_count().is_ok());
        for (change, text) in wrong {
            let mut rule = rule();
            change(&mut rule);
            // Such a one may be there from before, or from elsewhere.
            let why = rule.clone().checked().unwrap().can_count().unwrap_err();
            assert!(why.to_string().contains(text), "{why}");
        }
        let mut rule = rule();
        for (name, how) in [
            ("*", Match::Literal),
            (".", Match::Prefixed),
            ("a-1", Match::Prefixed),
        ] {
            rule.resource.name = name.to_owned();
            rule.resource.how = how;
            assert!(rule.can_count().is_ok(), "{name}");
        }
    }

    #[test]
    fn addresses_are_written_in_one_way() {
        for (typed, kept) in [
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("0:0:0:0:0:0:0:1", "::1"),
            ("*", "*"),
        ] {
            let mut rule = rule();
            rule.host = typed.to_owned();
            assert_eq!(rule.checked().unwrap().host, kept);
        }
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for one in Operation::EVERY {
            assert_eq!(one.word().parse(), Ok(*one));
            let json = serde_json::to_string(one).unwrap();
            assert_eq!(json, format!("\"{one}\""));
        }
        let wrong = "raed".parse::<Operation>().unwrap_err();
        assert!(wrong.contains("read, write"), "{wrong}");
        assert_eq!(principal("alice"), "User:alice");
        assert_eq!(principal("User:alice"), "User:alice");
    }
}
