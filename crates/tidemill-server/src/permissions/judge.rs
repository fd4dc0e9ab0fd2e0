//! What follows from rules: whether somebody may do something with a resource.
//!
//! Of the rules that are about the resource, the caller, his address and the operation, one that
//! denies decides; else one that allows. Where rules are about the resource and none of them
//! decides, it is refused; where none is about the resource, [`Unnamed`] says what holds. Who may
//! read, write, delete or alter something may see it, and who may alter configurations may see
//! those; a rule that denies denies no more than it says. Super users may do everything.
//!
//! Everything here is pure. This room may not know files, nor the types of a protocol.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::rule::{ANY, EVERYBODY, Effect, Kind, Match, Operation, Rule};

/// Somebody who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    principal: String,
    host: String,
}

impl Who {
    /// This principal, as `User:alice`, at this address.
    #[must_use]
    pub fn new(principal: impl Into<String>, address: IpAddr) -> Self {
        Self {
            principal: principal.into(),
            host: address.to_canonical().to_string(),
        }
    }

    /// His principal.
    #[must_use]
    pub fn principal(&self) -> &str {
        &self.principal
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.host, self.principal)
    }
}

/// What holds for a resource that no rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unnamed {
    /// Everybody may do everything with it; but where there are super users, only they alter the
    /// cluster: whoever else could would give himself all other rights.
    Open,
    /// Nobody may do anything with it.
    Closed,
}

/// What holds whatever the rules are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// For resources that no rule is about.
    pub unnamed: Unnamed,
    /// Principals that may do everything.
    pub super_users: BTreeSet<String>,
}

/// What the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// He may not.
    Denied,
    /// He may.
    Allowed,
    /// Rules are about the resource, and none about this.
    Nothing,
    /// No rule is about the resource.
    Unnamed,
}

/// Rules, in the order in which they are looked up.
#[derive(Debug, Default)]
pub struct Book(HashMap<Kind, Section>);

/// The rules about resources of a kind.
#[derive(Debug, Default)]
struct Section {
    literal: HashMap<Box<str>, Page>,
    prefixed: HashMap<Box<str>, Page>,
    /// How long the prefixes are, each length once.
    lengths: BTreeSet<usize>,
}

/// The rules about the same resources, by principals.
#[derive(Debug, Default)]
struct Page(HashMap<Box<str>, Vec<Line>>);

#[derive(Debug)]
struct Line {
    /// `None` for every address.
    host: Option<Box<str>>,
    operation: Operation,
    effect: Effect,
}

impl Line {
    /// What it says of an operation at an address.
    fn says(&self, host: &str, operation: Operation) -> Option<Effect> {
        let here = self.host.as_deref().is_none_or(|only| only == host);
        let this = match self.effect {
            Effect::Deny => self.operation == operation,
            Effect::Allow => implies(self.operation, operation),
        };
        let says = here && (this || self.operation == Operation::All);
        says.then_some(self.effect)
    }
}

/// Whether who may do the first may do the second.
fn implies(first: Operation, second: Operation) -> bool {
    use Operation as O;
    first == second
        || match second {
            O::Describe => matches!(first, O::Read | O::Write | O::Delete | O::Alter),
            O::DescribeConfigs => first == O::AlterConfigs,
            _ => false,
        }
}

impl Page {
    /// What it says; denials first.
    fn says(&self, who: &Who, operation: Operation) -> Option<Effect> {
        let of = |principal: &str| self.0.get(principal).into_iter().flatten();
        let lines = of(&who.principal).chain(of(EVERYBODY));
        let said = lines.filter_map(|line| line.says(&who.host, operation));
        // `Deny` is the lesser one.
        said.min()
    }
}

impl Section {
    /// All that is about a resource.
    fn about<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Page> {
        let fit = self.lengths.range(..=name.len());
        let prefixed = fit.filter_map(move |length| self.prefixed.get(name.get(..*length)?));
        let all = (name != ANY).then(|| self.literal.get(ANY)).flatten();
        self.literal
            .get(name)
            .into_iter()
            .chain(all)
            .chain(prefixed)
    }

    fn says(&self, who: &Who, operation: Operation, name: &str) -> Said {
        let mut said = Said::Unnamed;
        for page in self.about(name) {
            match page.says(who, operation) {
                Some(Effect::Deny) => return Said::Denied,
                Some(Effect::Allow) => said = Said::Allowed,
                None if said == Said::Unnamed => said = Said::Nothing,
                None => {}
            }
        }
        said
    }

    /// What is said of the resource that is allowed most.
    fn says_of_any(&self, who: &Who, operation: Operation) -> Said {
        let denies = |page: &Page| page.says(who, operation) == Some(Effect::Deny);
        let all = self.literal.get(ANY).map(|page| page.says(who, operation));
        if all == Some(Some(Effect::Deny)) {
            return Said::Denied;
        }
        let free = |name: &str| {
            let mut lengths = self.lengths.range(..=name.len());
            !lengths.any(|length| {
                let prefix = name.get(..*length);
                let page = prefix.and_then(|prefix| self.prefixed.get(prefix));
                page.is_some_and(denies)
            })
        };
        let mut pages = self.literal.iter().chain(&self.prefixed);
        let some = pages
            .any(|(name, page)| page.says(who, operation) == Some(Effect::Allow) && free(name));
        match all {
            // There are always names that no other rule is about.
            Some(Some(Effect::Allow)) => Said::Allowed,
            _ if some => Said::Allowed,
            Some(_) => Said::Nothing,
            None => Said::Unnamed,
        }
    }
}

impl Book {
    /// Of these rules.
    #[must_use]
    pub fn new<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Self {
        let mut book = Self::default();
        for rule in rules {
            let section = book.0.entry(rule.resource.kind).or_default();
            let name = rule.resource.name.as_str();
            let pages = match rule.resource.how {
                Match::Literal => &mut section.literal,
                Match::Prefixed => {
                    section.lengths.insert(name.len());
                    &mut section.prefixed
                }
            };
            let page = pages.entry(name.into()).or_default();
            let lines = page.0.entry(rule.principal.as_str().into()).or_default();
            lines.push(Line {
                host: (rule.host != ANY).then(|| rule.host.as_str().into()),
                operation: rule.operation,
                effect: rule.effect,
            });
        }
        book
    }

    /// What the rules say of an operation on a resource.
    #[must_use]
    pub fn says(&self, who: &Who, operation: Operation, kind: Kind, name: &str) -> Said {
        let section = self.0.get(&kind);
        section.map_or(Said::Unnamed, |section| section.says(who, operation, name))
    }

    /// What they say of the resource of this kind with which most is allowed, whether there is
    /// such a resource or not.
    #[must_use]
    pub fn says_of_any(&self, who: &Who, operation: Operation, kind: Kind) -> Said {
        let section = self.0.get(&kind);
        section.map_or(Said::Unnamed, |section| section.says_of_any(who, operation))
    }
}

/// Rules as they are at a moment, and what holds beside them.
#[derive(Clone, Debug)]
pub struct Judge {
    /// `None` where the rules are not known: only super users may do anything then.
    book: Option<Arc<Book>>,
    policy: Arc<Policy>,
}

impl Judge {
    /// Of these rules, if they are known, and this policy.
    #[must_use]
    pub fn new(book: Option<Arc<Book>>, policy: Arc<Policy>) -> Self {
        Self { book, policy }
    }

    /// A number that is another one for other rules, as long as some judge with these is kept.
    #[must_use]
    pub fn edition(&self) -> usize {
        self.book
            .as_ref()
            .map_or(0, |book| Arc::as_ptr(book).addr())
    }

    /// Whether somebody may do this with the resource of this name.
    #[must_use]
    pub fn may(&self, who: &Who, operation: Operation, kind: Kind, name: &str) -> bool {
        self.judged(who, operation, kind, |book| {
            book.says(who, operation, kind, name)
        })
    }

    /// Whether he may do this with the resource of this name because a rule says so, or because he
    /// is a super user: not only because no rule is about it.
    #[must_use]
    pub fn is_granted(&self, who: &Who, operation: Operation, kind: Kind, name: &str) -> bool {
        let said = self.book.as_deref();
        let said = said.map(|book| book.says(who, operation, kind, name));
        self.is_super(who) || said == Some(Said::Allowed)
    }

    fn is_super(&self, who: &Who) -> bool {
        self.policy.super_users.contains(&who.principal)
    }

    /// Whether there may be a resource of this kind with which he may do this.
    #[must_use]
    pub fn may_with_any(&self, who: &Who, operation: Operation, kind: Kind) -> bool {
        self.judged(who, operation, kind, |book| {
            book.says_of_any(who, operation, kind)
        })
    }

    fn judged(
        &self,
        who: &Who,
        operation: Operation,
        kind: Kind,
        says: impl FnOnce(&Book) -> Said,
    ) -> bool {
        if self.is_super(who) {
            return true;
        }
        match self.book.as_deref().map(says) {
            Some(Said::Allowed) => true,
            Some(Said::Unnamed) => {
                let alters = (operation, kind) == (Operation::Alter, Kind::Cluster);
                let kept = alters && !self.policy.super_users.is_empty();
                self.policy.unnamed == Unnamed::Open && !kept
            }
            Some(Said::Denied | Said::Nothing) | None => false,
        }
    }
}
