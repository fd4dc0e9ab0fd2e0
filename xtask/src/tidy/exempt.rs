//! The written exemption list: `xtask/tidy-exempt.toml`, a reason for each line.
//!
//! This room may not know what the rules look at.

use std::path::Path;

use serde::Deserialize;

use super::Finding;

/// One allowed finding.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exemption {
    /// The rule's name.
    rule: String,
    /// The file, relative to the root; all of its findings of that rule are allowed.
    path: String,
    /// Why the rule does not hold there.
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    exempt: Vec<Exemption>,
}

const LIST: &str = "xtask/tidy-exempt.toml";

/// Reads the list.
///
/// # Errors
/// When it cannot be read or parsed, or a reason is missing or says nothing.
pub(crate) fn read(path: &Path) -> Result<Vec<Exemption>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {LIST}: {e}"))?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<Exemption>, String> {
    let list: List = toml::from_str(text).map_err(|e| format!("{LIST}: {e}"))?;
    match list.exempt.iter().find(|e| e.reason.trim().len() < 10) {
        Some(bare) => Err(format!(
            "{LIST}: give a reason for {} in {}",
            bare.rule, bare.path
        )),
        None => Ok(list.exempt),
    }
}

/// The findings that no exemption covers, and a finding for each exemption that covers nothing.
pub(crate) fn apply(findings: Vec<Finding>, list: &[Exemption]) -> Vec<Finding> {
    let covers = |e: &Exemption, f: &Finding| e.rule == f.rule && e.path == f.path;
    let idle = list
        .iter()
        .filter(|e| !findings.iter().any(|f| covers(e, f)));
    let idle: Vec<Finding> = idle
        .map(|e| Finding {
            path: LIST.to_owned(),
            line: 0,
            rule: "exemption",
            text: format!(
                "{} in {} needs no exemption any more: take it out",
                e.rule, e.path
            ),
        })
        .collect();
    let mut left = findings;
    left.retain(|f| !list.iter().any(|e| covers(e, f)));
    left.extend(idle);
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[[exempt]]\nrule = 'leftover'\npath = 'a.rs'\nreason = 'the rule itself'\n";

    fn finding(path: &str) -> Finding {
        Finding {
            path: path.to_owned(),
            line: 1,
            rule: "leftover",
            text: String::new(),
        }
    }

    #[test]
    fn an_exemption_covers_its_file_and_no_other() {
        let list = parse(GOOD).unwrap();
        let left = apply(vec![finding("a.rs"), finding("b.rs")], &list);
        assert_eq!(left, [finding("b.rs")]);
    }

    #[test]
    fn an_exemption_that_covers_nothing_is_found() {
        let left = apply(vec![], &parse(GOOD).unwrap());
        assert_eq!(
            left.iter().map(|f| f.rule).collect::<Vec<_>>(),
            ["exemption"]
        );
    }

    #[test]
    fn a_reason_is_required() {
        assert!(parse("[[exempt]]\nrule = 'a'\npath = 'b'\nreason = ' '\n").is_err());
        assert!(parse("[[exempt]]\nrule = 'a'\npath = 'b'\n").is_err());
        assert!(parse("[[exempted]]\n").is_err());
    }
}
