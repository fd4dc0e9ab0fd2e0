//! Webhooks that send each other's dead letters: what none of them takes would go round. Pure.
//!
//! This room may not know how anything is sent, or where definitions are kept.

use std::collections::BTreeSet;

use tidemill_core::delivery::dead_letter_topic;

use super::definition::Definition;

/// The names of the webhooks by which the dead letters of `new` come back to it, itself first;
/// `None` where they do not.
pub(super) fn circle<'a>(new: &'a Definition, others: &[&'a Definition]) -> Option<Vec<&'a str>> {
    let sends = |of: &Definition, letters: &Definition| {
        of.topics.contains(&dead_letter_topic(&letters.group()))
    };
    let mut seen = BTreeSet::from([new.name.as_str()]);
    let mut ways = vec![vec![new]];
    while let Some(way) = ways.pop() {
        let Some(last) = way.last() else { continue };
        if sends(new, last) {
            return Some(way.iter().map(|one| one.name.as_str()).collect());
        }
        for next in others.iter().filter(|next| sends(next, last)) {
            if seen.insert(&next.name) {
                ways.push(way.iter().chain([next]).copied().collect());
            }
        }
    }
    None
}

/// Refuses a webhook whose dead letters would come back to it, directly or by others.
///
/// # Errors
/// By which, and what to do.
pub(super) fn check(new: &Definition, others: &[&Definition]) -> Result<(), String> {
    let Some(names) = circle(new, others) else {
        return Ok(());
    };
    if names.len() == 1 {
        let letters = dead_letter_topic(&new.group());
        return Err(format!(
            "{letters} has this webhook's own dead letters, which would go round; name other \
             topics, or have another webhook send them"
        ));
    }
    let name = &new.name;
    let by = names.get(1..).unwrap_or_default().join(", then of ");
    Err(format!(
        "the dead letters of {name} would come back to it as those of {by}, and what no endpoint \
         takes would go round; name other topics, or delete one of these webhooks first"
    ))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tidemill_core::TopicName;

    use super::super::definition::Changes;
    use super::super::sign::Secret;
    use super::*;

    fn hook(name: &str, letters_of: &[&str]) -> Definition {
        let letters = letters_of
            .iter()
            .map(|of| format!("webhook.{of}.deadletter"));
        let topics = letters.chain(["orders".to_owned()]);
        let topics = topics.map(|topic| TopicName::new(topic).unwrap()).collect();
        let how = Changes {
            url: Some("http://localhost/".to_owned()),
            ..Changes::default()
        };
        let secret = Secret::random().unwrap();
        Definition::new(name.to_owned(), topics, how, secret, Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn letters_that_would_come_back_are_named_with_their_way() {
        let (a, b, c) = (hook("a", &["c"]), hook("b", &["a"]), hook("c", &["b"]));
        let d = hook("d", &["a", "b", "c"]);
        check(&c, &[&b, &d]).unwrap();
        check(&d, &[&a, &b, &c]).unwrap();
        let why = check(&c, &[&a, &b, &d]).unwrap_err();
        assert!(why.contains("as those of a, then of b,"), "{why}");
        let why = check(&hook("e", &["b"]), &[&hook("b", &["e"])]).unwrap_err();
        assert!(
            why.contains("of e would come back to it as those of b,"),
            "{why}"
        );
        let why = check(&hook("f", &["f"]), &[]).unwrap_err();
        assert!(why.contains("webhook.f.deadletter has this"), "{why}");
    }
}
