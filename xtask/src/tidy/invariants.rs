//! The invariants of ARCHITECTURE.md: each names tests, and a test of that name is there.
//!
//! This room may not know whether a test proves what the document says.

use std::collections::HashSet;

use syn::visit::{self, Visit};

use super::Finding;
use super::functions::is_test;
use super::source::SourceFile;

const DOCUMENT: &str = "ARCHITECTURE.md";
const BEGIN: &str = "<!-- invariants -->";
const END: &str = "<!-- /invariants -->";

/// The rule `invariant`.
///
/// # Errors
/// When the document has no invariants.
pub(crate) fn check(files: &[SourceFile]) -> Result<Vec<Finding>, String> {
    let document = files.iter().find(|f| f.path == DOCUMENT);
    let text = document.map_or("", |f| f.text.as_str());
    let inner = text
        .split_once(BEGIN)
        .and_then(|(_, rest)| rest.split_once(END))
        .ok_or_else(|| format!("{DOCUMENT} has no list between {BEGIN} and {END}"))?;
    let tests = tests(files);
    let mut found = Vec::new();
    let mut finding = |text: String| {
        found.push(Finding {
            path: DOCUMENT.to_owned(),
            line: 0,
            rule: "invariant",
            text,
        });
    };
    for item in items(inner.0) {
        let names: Vec<&str> = item
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|n| is_name(n))
            .collect();
        let head: String = item.chars().take(40).collect();
        if names.is_empty() {
            finding(format!("{head:?} names no test"));
        }
        for name in names.iter().filter(|name| !tests.contains(**name)) {
            finding(format!(
                "{head:?} names the test {name}, which is not there"
            ));
        }
    }
    Ok(found)
}

/// The items of a numbered list, each as one text.
fn items(list: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for line in list.lines().filter(|line| !line.trim().is_empty()) {
        let numbered = line.starts_with(|c: char| c.is_ascii_digit());
        match items.last_mut() {
            Some(item) if !numbered => item.push_str(line),
            _ => items.push(line.to_owned()),
        }
    }
    items
}

/// Whether this is the name of a test rather than of a file or a type.
fn is_name(word: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    word.contains('_') && word.chars().all(legal)
}

fn tests(files: &[SourceFile]) -> HashSet<String> {
    let mut tests = Tests {
        names: HashSet::new(),
    };
    for file in files.iter().filter(|f| f.is_rust()) {
        if let Ok(tree) = syn::parse_file(&file.text) {
            tests.visit_file(&tree);
        }
    }
    tests.names
}

struct Tests {
    names: HashSet<String>,
}

impl<'ast> Visit<'ast> for Tests {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if is_test(&item.attrs) {
            self.names.insert(item.sig.ident.to_string());
        }
        visit::visit_item_fn(self, item);
    }

    /// `proptest!` holds tests that the parser sees as tokens.
    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        if item
            .path
            .segments
            .last()
            .is_some_and(|s| s.ident == "proptest")
        {
            let words: Vec<String> = item
                .tokens
                .clone()
                .into_iter()
                .map(|t| t.to_string())
                .collect();
            let pairs = words.iter().zip(words.iter().skip(1));
            let names = pairs
                .filter(|(word, _)| *word == "fn")
                .map(|(_, name)| name.clone());
            self.names.extend(names);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTS: &str = "#[tokio::test]\nasync fn it_holds() {}\nfn no_test() {}\n\
        proptest! {\n#[test]\nfn it_holds_always(a in 0..9) {}\n}";

    fn findings(list: &str) -> Vec<String> {
        let file = |path: &str, text: String| SourceFile {
            path: path.to_owned(),
            text,
        };
        let files = [
            file(DOCUMENT, format!("{BEGIN}\n{list}\n{END}")),
            file("tests/a.rs", TESTS.to_owned()),
        ];
        check(&files).unwrap().into_iter().map(|f| f.text).collect()
    }

    #[test]
    fn a_test_that_is_there_holds_over_several_lines() {
        assert_eq!(
            findings("1. In `limits.rs`:\n   `it_holds`, `it_holds_always`."),
            [""; 0]
        );
    }

    #[test]
    fn an_invariant_without_a_test_is_found() {
        assert_eq!(
            findings("1. Said only."),
            ["\"1. Said only.\" names no test"]
        );
    }

    #[test]
    fn a_test_that_is_gone_or_is_none_is_found() {
        assert_eq!(
            findings("1. A: `it_held`, `it_holds`.\n2. B: `no_test`.").len(),
            2
        );
    }

    #[test]
    fn a_missing_list_is_an_error() {
        assert!(check(&[]).is_err());
    }
}
