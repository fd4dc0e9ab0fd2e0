//! What rules mean, against a model that goes through all of them by the words of their meaning.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use proptest::prelude::*;

use super::judge::{Book, Judge, Policy, Said, Unnamed, Who};
use super::rule::{Effect, Kind, Match, Operation, Pattern, Rule};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

/// Names of resources: every way in which one can stand to those that rules have.
const NAMES: [&str; 10] = ["a", "ab", "abc", "aq", "abq", "b", "q", "é", "éq", "*q"];

/// Operations of which some imply others.
const OPERATIONS: [Operation; 7] = [
    Operation::All,
    Operation::Read,
    Operation::Alter,
    Operation::Describe,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
    Operation::Create,
];

fn rule(
    (name, how): (&str, Match),
    principal: &str,
    host: &str,
    operation: Operation,
    effect: Effect,
) -> Rule {
    let resource = Pattern {
        kind: Kind::Topic,
        name: name.to_owned(),
        how,
    };
    Rule {
        resource,
        principal: principal.to_owned(),
        host: host.to_owned(),
        operation,
        effect,
    }
}

/// Every rule of these principals, places, operations and resources.
fn every_rule() -> Vec<Rule> {
    let resources = [
        ("a", Match::Literal),
        ("ab", Match::Literal),
        ("é", Match::Literal),
        ("*", Match::Literal),
        ("a", Match::Prefixed),
        ("ab", Match::Prefixed),
        ("é", Match::Prefixed),
        ("*", Match::Prefixed),
    ];
    let mut all = Vec::new();
    for resource in resources {
        for principal in ["User:one", "User:two", "User:*"] {
            for host in ["*", "10.0.0.1"] {
                for operation in OPERATIONS {
                    for effect in [Effect::Allow, Effect::Deny] {
                        all.push(rule(resource, principal, host, operation, effect));
                    }
                }
            }
        }
    }
    all
}

/// What the rules say, rule by rule.
fn model(
    rules: &[Rule],
    (principal, host): (&str, &str),
    operation: Operation,
    name: &str,
) -> Said {
    let about: Vec<_> = rules
        .iter()
        .filter(|rule| match rule.resource.how {
            Match::Literal => rule.resource.name == name || rule.resource.name == "*",
            Match::Prefixed => name.starts_with(&rule.resource.name),
        })
        .collect();
    let his = |rule: &&&Rule| {
        (rule.principal == principal || rule.principal == "User:*")
            && (rule.host == host || rule.host == "*")
    };
    let denied = |rule: &&Rule| {
        rule.effect == Effect::Deny && [Operation::All, operation].contains(&rule.operation)
    };
    let enough: &[Operation] = match operation {
        Operation::Describe => &[Operation::Read, Operation::Alter],
        Operation::DescribeConfigs => &[Operation::AlterConfigs],
        _ => &[],
    };
    let allowed = |rule: &&Rule| {
        let this = [Operation::All, operation].contains(&rule.operation);
        rule.effect == Effect::Allow && (this || enough.contains(&rule.operation))
    };
    match about.iter().filter(his).copied().collect::<Vec<_>>() {
        his if his.iter().any(denied) => Said::Denied,
        his if his.iter().any(allowed) => Said::Allowed,
        _ if about.is_empty() => Said::Unnamed,
        _ => Said::Nothing,
    }
}

fn agrees(rules: &[Rule]) {
    let book = Book::new(rules);
    for principal in ["User:one", "User:three"] {
        for address in [HERE, THERE] {
            let who = Who::new(principal, address);
            let host = address.to_string();
            for operation in OPERATIONS.into_iter().skip(1) {
                let says = |name| book.says(&who, operation, Kind::Topic, name);
                for name in NAMES {
                    let model = model(rules, (principal, &host), operation, name);
                    assert_eq!(says(name), model, "{rules:#?}\n{who:?} {operation} {name}");
                }
                // `q` and `éq` stand for names that no literal rule has.
                let allowed = NAMES.iter().any(|name| says(name) == Said::Allowed);
                let any = book.says_of_any(&who, operation, Kind::Topic);
                assert_eq!(
                    any == Said::Allowed,
                    allowed,
                    "{rules:#?}\n{who:?} {operation}"
                );
                let unnamed = says("q") == Said::Unnamed;
                assert!(
                    any == Said::Allowed || (any == Said::Unnamed) == unnamed,
                    "{rules:#?}"
                );
                let other = book.says(&who, operation, Kind::Group, "a");
                assert_eq!(other, Said::Unnamed);
            }
        }
    }
}

#[test]
fn a_single_rule_means_what_it_says() {
    agrees(&[]);
    for rule in every_rule() {
        agrees(&[rule]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn rules_mean_together_what_the_model_says(
        rules in proptest::sample::subsequence(every_rule(), 2..8),
    ) {
        agrees(&rules);
    }
}

#[test]
fn a_denial_wins_whoever_is_allowed() {
    let allow = rule(
        ("*", Match::Literal),
        "User:*",
        "*",
        Operation::All,
        Effect::Allow,
    );
    let deny = rule(
        ("ab", Match::Prefixed),
        "User:one",
        "*",
        Operation::Read,
        Effect::Deny,
    );
    let book = Book::new([&allow, &deny]);
    let one = Who::new("User:one", HERE);
    let says = |operation, name| book.says(&one, operation, Kind::Topic, name);
    assert_eq!(says(Operation::Read, "abc"), Said::Denied);
    assert_eq!(says(Operation::Read, "a"), Said::Allowed);
    // What implies it is denied, and it is not.
    assert_eq!(says(Operation::Describe, "abc"), Said::Allowed);
    let two = Who::new("User:two", HERE);
    let says = book.says(&two, Operation::Read, Kind::Topic, "abc");
    assert_eq!(says, Said::Allowed);
}

#[test]
fn the_policy_holds_where_rules_say_nothing() {
    let allow = rule(
        ("a", Match::Literal),
        "User:one",
        "*",
        Operation::Read,
        Effect::Allow,
    );
    let book = Arc::new(Book::new([&allow]));
    let super_users = BTreeSet::from(["User:root".to_owned()]);
    let judge = |book, unnamed| {
        let super_users = super_users.clone();
        Judge::new(
            book,
            Arc::new(Policy {
                unnamed,
                super_users,
            }),
        )
    };
    let [one, two, root] =
        ["User:one", "User:two", "User:root"].map(|principal| Who::new(principal, HERE));
    let (open, closed) = (
        judge(Some(Arc::clone(&book)), Unnamed::Open),
        judge(Some(book), Unnamed::Closed),
    );
    for (who, name, if_open, if_closed) in [
        (&one, "a", true, true),
        (&two, "a", false, false),
        (&two, "b", true, false),
        (&root, "a", true, true),
        (&root, "b", true, true),
    ] {
        let may = |judge: &Judge| judge.may(who, Operation::Read, Kind::Topic, name);
        assert_eq!(
            (may(&open), may(&closed)),
            (if_open, if_closed),
            "{who:?} {name}"
        );
    }
    let any = |judge: &Judge, who| judge.may_with_any(who, Operation::Read, Kind::Topic);
    assert!(any(&open, &two) && any(&closed, &one) && !any(&closed, &two));
    // Who could alter the cluster could do everything: with super users, it takes a rule.
    let alters = |judge: &Judge, who| judge.may(who, Operation::Alter, Kind::Cluster, "cluster");
    assert!(!alters(&open, &one) && alters(&open, &root));
    assert!(open.may(&one, Operation::Create, Kind::Cluster, "cluster"));
    let nobody = Policy {
        unnamed: Unnamed::Open,
        super_users: BTreeSet::new(),
    };
    let all = Judge::new(Some(Arc::default()), Arc::new(nobody));
    assert!(alters(&all, &one));
    // Where nobody knows the rules, nobody is let in by their absence.
    let unknown = judge(None, Unnamed::Open);
    let may = |who| unknown.may(who, Operation::Read, Kind::Topic, "a");
    assert!(!may(&one) && may(&root));
}
