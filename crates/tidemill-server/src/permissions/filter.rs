//! Which rules are meant by who lists or deletes some. This room may not know files.

use super::rule::{ANY, Effect, Kind, Match, Operation, Pattern, Rule, host};

/// Which resources' rules are meant by a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Named {
    /// Those with just this name, literal or as a prefix.
    #[default]
    Any,
    /// Those that a resource of this name falls under: of its name, of a prefix of it, and of all.
    Matching,
    /// Those with this name and this match.
    As(Match),
}

/// Some of the rules; what is left open means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// What they are about.
    pub kind: Option<Kind>,
    /// The name of what they are about.
    pub name: Option<String>,
    /// How the name is to be taken.
    pub named: Named,
    /// Whom they are about, literally.
    pub principal: Option<String>,
    /// From which address, literally.
    pub host: Option<String>,
    /// What he does, literally.
    pub operation: Option<Operation>,
    /// Whether he may.
    pub effect: Option<Effect>,
}

impl Filter {
    /// The filter with its address written as rules have it.
    #[must_use]
    pub fn checked(mut self) -> Self {
        self.host = self.host.as_deref().map(host);
        self
    }

    /// Whether a rule is meant.
    #[must_use]
    pub fn takes(&self, rule: &Rule) -> bool {
        let same = |wanted: &Option<String>, have: &str| {
            let wanted = wanted.as_ref();
            wanted.is_none_or(|wanted| wanted == have)
        };
        self.takes_resource(&rule.resource)
            && same(&self.principal, &rule.principal)
            && same(&self.host, &rule.host)
            && self.operation.is_none_or(|one| one == rule.operation)
            && self.effect.is_none_or(|one| one == rule.effect)
    }

    fn takes_resource(&self, resource: &Pattern) -> bool {
        if self.kind.is_some_and(|kind| kind != resource.kind) {
            return false;
        }
        let name = self.name.as_deref();
        let same = name.is_none_or(|name| name == resource.name);
        match (self.named, resource.how) {
            (Named::Any, _) => same,
            (Named::As(how), has) => how == has && same,
            (Named::Matching, Match::Literal) => same || resource.name == ANY,
            (Named::Matching, Match::Prefixed) => {
                name.is_none_or(|name| name.starts_with(&resource.name))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, how: Match) -> Rule {
        Rule {
            resource: Pattern {
                kind: Kind::Topic,
                name: name.to_owned(),
                how,
            },
            principal: "User:alice".to_owned(),
            host: ANY.to_owned(),
            operation: Operation::Read,
            effect: Effect::Allow,
        }
    }

    #[test]
    fn a_name_is_taken_as_it_is_said() {
        let rules = [
            rule("orders", Match::Literal),
            rule("orders", Match::Prefixed),
            rule("ord", Match::Prefixed),
            rule("ord", Match::Literal),
            rule("*", Match::Literal),
        ];
        let taken = |name: Option<&str>, named| {
            let filter = Filter {
                name: name.map(str::to_owned),
                named,
                ..Filter::default()
            };
            let taken = rules.iter().enumerate();
            let taken = taken.filter(|(_, rule)| filter.takes(rule));
            taken.map(|(number, _)| number).collect::<Vec<_>>()
        };
        let (literal, prefixed) = (Named::As(Match::Literal), Named::As(Match::Prefixed));
        assert_eq!(taken(Some("orders"), Named::Any), [0, 1]);
        assert_eq!(taken(Some("orders"), literal), [0]);
        assert_eq!(taken(Some("orders"), prefixed), [1]);
        assert_eq!(taken(Some("orders"), Named::Matching), [0, 1, 2, 4]);
        assert_eq!(taken(Some("orderly"), Named::Matching), [2, 4]);
        assert_eq!(taken(Some("*"), literal), [4]);
        assert_eq!(taken(Some("*"), Named::Matching), [4]);
        assert_eq!(taken(None, literal), [0, 3, 4]);
        assert_eq!(taken(None, Named::Matching), [0, 1, 2, 3, 4]);
        assert_eq!(taken(None, Named::Any), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn what_else_is_said_is_taken_literally() {
        let all = Filter::default();
        let rule = rule("orders", Match::Literal);
        assert!(all.takes(&rule));
        let others = [
            Filter {
                kind: Some(Kind::Group),
                ..all.clone()
            },
            Filter {
                principal: Some("User:*".to_owned()),
                ..all.clone()
            },
            Filter {
                host: Some("10.0.0.1".to_owned()),
                ..all.clone()
            },
            Filter {
                operation: Some(Operation::All),
                ..all.clone()
            },
            Filter {
                effect: Some(Effect::Deny),
                ..all.clone()
            },
        ];
        for other in others {
            assert!(!other.takes(&rule), "{other:?}");
        }
    }
}
