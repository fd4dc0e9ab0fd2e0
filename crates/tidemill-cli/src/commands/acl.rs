//! `tidemill acl`: who may do what over the Kafka protocol, in a file of the data folder that a
//! running server reads too.

use clap::{Args, Subcommand};
use tidemill_server::permissions::filter::{Filter, Named};
use tidemill_server::permissions::rule::{
    ANY, CLUSTER, Effect, Kind, Match, Operation, Pattern, Rule, principal,
};
use tidemill_server::permissions::{PermissionError, Permissions};

use super::user::Folder;
use crate::failure::Failure;
use crate::listing::{Listing, print_json_lines};
use crate::output::{all_the_same, say};

/// Add, list and delete rules about who may do what over the Kafka protocol
///
/// They count where the server has --kafka-acls. Its data folder has them, whether a server runs or
/// not; a running one sees a change within a second. A rule is about one principal, one operation
/// and the resources of one name. One that denies wins over all that allow; who may read, write,
/// delete or alter may describe. These are the ACLs that Kafka's own tools list and change, too.
#[derive(Subcommand)]
#[command(after_help = "Examples:\n  \
    tidemill acl add alice --operation read --topic orders\n  \
    tidemill acl add alice --operation read --group billing\n  \
    tidemill acl add '*' --operation describe --topic '*'\n  \
    tidemill acl list --topic orders\n  \
    tidemill acl delete --principal alice")]
pub(crate) enum Acl {
    Add(Add),
    List(List),
    Delete(Delete),
}

/// Add rules: one for each operation and each resource
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill acl add alice --operation read --operation write --topic orders\n  \
    tidemill acl add bob --operation all --topic shop. --prefixed\n  \
    tidemill acl add eve --operation all --topic '*' --deny --host 10.0.0.7\n  \
    tidemill acl add ops --operation create --cluster\n  \
    tidemill acl add till --operation write --transactional-id till-1 --data /var/lib/tidemill")]
pub(crate) struct Add {
    /// The user, by name or as User:NAME; * is everybody, ANONYMOUS who did not log in
    user: String,
    /// What the user does: all, read, write, create, delete, alter, describe, describe-configs,
    /// alter-configs, cluster-action, idempotent-write or two-phase-commit
    #[arg(long, value_name = "WHAT", required = true)]
    operation: Vec<Operation>,
    /// Deny it instead of allowing it
    #[arg(long)]
    deny: bool,
    /// Only from this IP address [default: every one]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    #[command(flatten)]
    resources: Resources,
    /// The names are what those of the resources begin with
    #[arg(long)]
    prefixed: bool,
    #[command(flatten)]
    folder: Folder,
}

/// What rules are about.
#[derive(Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Resources {
    /// This topic; * is every one
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// This consumer group; * is every one
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// This transactional producer; * is every one
    #[arg(long, value_name = "ID")]
    transactional_id: Vec<String>,
    /// The server as a whole
    #[arg(long)]
    cluster: bool,
}

/// List rules, all or some
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill acl list\n  \
    tidemill acl list --principal alice --json\n  \
    tidemill acl list --topic orders --matching     rules that count for this topic")]
pub(crate) struct List {
    /// Print a line of JSON for each rule
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    folder: Folder,
}

/// Delete rules
///
/// Fails where no rule is as the options say.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill acl delete --topic orders\n  \
    tidemill acl delete --principal alice --operation read\n  \
    tidemill acl delete --all")]
pub(crate) struct Delete {
    #[command(flatten)]
    which: Which,
    /// Delete every rule
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    folder: Folder,
}

/// Which rules are meant.
#[derive(Args)]
pub(crate) struct Which {
    /// Those about this principal, by a user's name or as User:NAME
    #[arg(long, value_name = "USER")]
    principal: Option<String>,
    /// Those about this topic
    #[arg(long, value_name = "NAME", group = "about")]
    topic: Option<String>,
    /// Those about this consumer group
    #[arg(long, value_name = "NAME", group = "about")]
    group: Option<String>,
    /// Those about this transactional producer
    #[arg(long, value_name = "ID", group = "about")]
    transactional_id: Option<String>,
    /// Those about the server as a whole
    #[arg(long, group = "about")]
    cluster: bool,
    /// With the name: all that count for it, those of prefixes and of * too
    #[arg(long, requires = "about", conflicts_with = "prefixed")]
    matching: bool,
    /// Only those whose name is what the names of resources begin with
    #[arg(long)]
    prefixed: bool,
    /// Those about this operation
    #[arg(long, value_name = "WHAT")]
    operation: Option<Operation>,
    /// Those about this IP address, or *
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// Those that deny
    #[arg(long, conflicts_with = "allow")]
    deny: bool,
    /// Those that allow
    #[arg(long)]
    allow: bool,
}

impl Add {
    /// Whom they are about. A colon may stand in a name, but it is rather meant as a type.
    fn principal(&self) -> String {
        match self.user.contains(':') {
            true => self.user.clone(),
            false => principal(&self.user),
        }
    }

    /// The rules that are meant.
    fn rules(&self) -> Result<Vec<Rule>, Failure> {
        let mut resources = Vec::new();
        let named = [
            (Kind::Topic, &self.resources.topic),
            (Kind::Group, &self.resources.group),
            (Kind::TransactionalId, &self.resources.transactional_id),
        ];
        for (kind, names) in named {
            resources.extend(names.iter().map(|name| (kind, name.as_str())));
        }
        if self.resources.cluster {
            resources.push((Kind::Cluster, CLUSTER));
        }
        let how = match self.prefixed {
            true => Match::Prefixed,
            false => Match::Literal,
        };
        let mut rules = Vec::new();
        for (kind, name) in resources {
            for operation in self.operation.iter().copied() {
                let name = name.to_owned();
                let rule = Rule {
                    resource: Pattern { kind, name, how },
                    principal: self.principal(),
                    host: self.host.clone().unwrap_or_else(|| ANY.to_owned()),
                    operation,
                    effect: match self.deny {
                        true => Effect::Deny,
                        false => Effect::Allow,
                    },
                };
                let rule = rule.checked().map_err(failed)?;
                rule.can_count().map_err(failed)?;
                rules.push(rule);
            }
        }
        Ok(rules)
    }
}

impl Which {
    fn filter(&self) -> Filter {
        let about = [
            (Kind::Topic, self.topic.as_deref()),
            (Kind::Group, self.group.as_deref()),
            (Kind::TransactionalId, self.transactional_id.as_deref()),
            (Kind::Cluster, self.cluster.then_some(CLUSTER)),
        ];
        let mut about = about.into_iter();
        let about = about.find_map(|(kind, name)| Some((kind, name?)));
        let effect = match (self.deny, self.allow) {
            (true, _) => Some(Effect::Deny),
            (_, true) => Some(Effect::Allow),
            _ => None,
        };
        let filter = Filter {
            kind: about.map(|(kind, _)| kind),
            name: about.map(|(_, name)| name.to_owned()),
            named: match (self.matching, self.prefixed) {
                (true, _) => Named::Matching,
                (_, true) => Named::As(Match::Prefixed),
                _ => Named::Any,
            },
            principal: self.principal.as_deref().map(principal),
            host: self.host.clone(),
            operation: self.operation,
            effect,
        };
        filter.checked()
    }
}

impl Acl {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Add(add) => {
                let rules = add.rules()?;
                let added = permissions(&add.folder)?.add(rules).map_err(failed)?;
                done("added", added)?;
                add.folder.note_unknown(&add.principal())
            }
            Self::List(list) => {
                let permissions = permissions(&list.folder)?;
                let rules = permissions.list(&list.which.filter()).map_err(failed)?;
                if list.json {
                    return print_json_lines(&rules);
                }
                let mut listing = Listing::new(&[
                    "principal",
                    "",
                    "operation",
                    "resource",
                    "name",
                    "match",
                    "host",
                ]);
                for rule in rules {
                    listing.row(&[
                        rule.principal,
                        rule.effect.to_string(),
                        rule.operation.to_string(),
                        rule.resource.kind.to_string(),
                        rule.resource.name,
                        rule.resource.how.to_string(),
                        rule.host,
                    ]);
                }
                listing.print()
            }
            Self::Delete(delete) => {
                let filter = delete.which.filter();
                if (filter == Filter::default()) != delete.all {
                    let why = "say which rules to delete, as with --topic or --principal, or --all";
                    return Err(Failure::usage(why));
                }
                let permissions = permissions(&delete.folder)?;
                let deleted = permissions.delete(&[filter]).map_err(failed)?;
                match deleted.iter().map(Vec::len).sum() {
                    0 if !delete.all => Err(Failure::new(
                        "no rule is as the options say, so none was deleted; `tidemill acl list` \
                         shows those there are, and takes the same options",
                    )),
                    count => done("deleted", count),
                }
            }
        }
    }
}

fn permissions(folder: &Folder) -> Result<Permissions, Failure> {
    Ok(Permissions::new(folder.private()?))
}

fn done(what: &str, count: usize) -> Result<(), Failure> {
    let rules = match count {
        1 => "rule",
        _ => "rules",
    };
    let text = format!("{what} {count} {rules}");
    all_the_same(say(&text), &text)
}

fn failed(error: PermissionError) -> Failure {
    match error {
        PermissionError::Rule(_) => Failure::usage(error),
        error => Failure::new(error),
    }
}
