//! Crate arrows: the table of ARCHITECTURE.md compared with `cargo metadata`.
//!
//! This room may not know what is inside a crate; names in code are the matter of `rooms.rs`.

use std::collections::BTreeMap;
use std::path::Path;

use super::Finding;
use crate::metadata::Metadata;

/// One row of the table: what a crate may use in the workspace, and what it never uses outside.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    may: Vec<String>,
    never: Vec<String>,
}

type Table = BTreeMap<String, Row>;

const DOCUMENT: &str = "ARCHITECTURE.md";
const BEGIN: &str = "<!-- arrows -->";
const END: &str = "<!-- /arrows -->";

/// The rule `arrow`.
///
/// # Errors
/// When the table or the metadata cannot be read.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>, String> {
    let text = std::fs::read_to_string(root.join(DOCUMENT))
        .map_err(|e| format!("cannot read {DOCUMENT}: {e}"))?;
    let metadata = Metadata::read(root)?;
    Ok(compare(&table(&text)?, &metadata, &root.to_string_lossy()))
}

/// Reads the table between the two marks.
fn table(text: &str) -> Result<Table, String> {
    let inner = text
        .split_once(BEGIN)
        .and_then(|(_, rest)| rest.split_once(END))
        .ok_or_else(|| format!("{DOCUMENT} has no table between {BEGIN} and {END}"))?;
    let mut table = Table::new();
    for line in inner.0.lines().filter(|l| l.starts_with("| `")) {
        let cells: Vec<Vec<String>> = line.split('|').skip(1).map(in_backticks).collect();
        let [name, may, never, ..] = cells.as_slice() else {
            return Err(format!(
                "{DOCUMENT}: a row of three cells is wanted, not {line:?}"
            ));
        };
        for name in name {
            let row = Row {
                may: may.clone(),
                never: never.clone(),
            };
            if table.insert(name.clone(), row).is_some() {
                return Err(format!("{DOCUMENT}: {name} has two rows of arrows"));
            }
        }
    }
    if table.is_empty() {
        return Err(format!("{DOCUMENT}: the table of arrows is empty"));
    }
    Ok(table)
}

fn in_backticks(cell: &str) -> Vec<String> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// The name under which a package stands in the table: its own when it lies in `crates/` or at
/// the top, else its folder, as in `apps/*`.
fn row_name(name: &str, folder: &str) -> String {
    match folder.split_once('/') {
        Some((top, _)) if top != "crates" => format!("{top}/*"),
        _ => name.to_owned(),
    }
}

fn compare(table: &Table, metadata: &Metadata, root: &str) -> Vec<Finding> {
    let folder = |path: &str| {
        let inner = path
            .strip_prefix(root)
            .unwrap_or(path)
            .trim_start_matches('/');
        inner
            .trim_end_matches("Cargo.toml")
            .trim_end_matches('/')
            .to_owned()
    };
    let mut found = Vec::new();
    for package in &metadata.packages {
        let place = folder(&package.manifest_path);
        let mut add = |text: String| {
            found.push(Finding {
                path: format!("{place}/Cargo.toml"),
                line: 0,
                rule: "arrow",
                text,
            });
        };
        let own = row_name(&package.name, &place);
        let Some(row) = table.get(&own) else {
            add(format!("{own} has no row in the arrows of {DOCUMENT}"));
            continue;
        };
        for dependency in &package.dependencies {
            let dev = dependency.kind.as_deref() == Some("dev");
            if dev && !own.starts_with("apps/") {
                continue;
            }
            let name = &dependency.name;
            if row.never.contains(name) {
                add(format!("{own} never uses {name}, says {DOCUMENT}"));
            }
            if let Some(path) = &dependency.path {
                let target = row_name(name, &folder(path));
                let same = target == own && own.ends_with("/*");
                if !same && !row.may.contains(&target) && !row.may.iter().any(|m| m == "anything") {
                    add(format!(
                        "no arrow leads from {own} to {target} in {DOCUMENT}"
                    ));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "<!-- arrows -->\n| crate | may use | never |\n|---|---|---|\n\
        | `core` | nothing | `tokio` |\n| `log` | `core` | |\n| `apps/*` | `core` | |\n\
        | `bench` | `anything` | |\n<!-- /arrows -->";

    fn package(path: &str, dependencies: &str) -> String {
        let name = path.rsplit('/').next().unwrap();
        let manifest = format!("/w/{path}/Cargo.toml");
        format!(
            r#"{{"name":"{name}","manifest_path":"{manifest}","dependencies":[{dependencies}]}}"#
        )
    }

    fn inner(name: &str, kind: &str) -> String {
        format!(r#"{{"name":"{name}","kind":{kind},"path":"/w/crates/{name}"}}"#)
    }

    fn findings(packages: &[String]) -> Vec<String> {
        let json = format!(r#"{{"packages":[{}]}}"#, packages.join(","));
        let metadata = serde_json::from_str(&json).unwrap();
        let found = compare(&table(TABLE).unwrap(), &metadata, "/w");
        found.into_iter().map(|f| f.text).collect()
    }

    #[test]
    fn arrows_of_the_table_are_allowed() {
        let good = [
            package("crates/core", ""),
            package("crates/log", &inner("core", "null")),
            package("bench", &inner("log", "null")),
        ];
        assert_eq!(findings(&good), [""; 0]);
    }

    #[test]
    fn an_arrow_that_is_not_in_the_table_is_found() {
        for kind in ["null", "\"build\""] {
            let wrong = package("crates/core", &inner("log", kind));
            assert_eq!(
                findings(&[wrong]),
                ["no arrow leads from core to log in ARCHITECTURE.md"]
            );
        }
        let only_in_tests = package("crates/core", &inner("log", "\"dev\""));
        assert_eq!(findings(&[only_in_tests]), [""; 0]);
    }

    #[test]
    fn an_app_may_not_even_test_with_another_crate() {
        let wrong = package("apps/shop", &inner("log", "\"dev\""));
        assert_eq!(
            findings(&[wrong]),
            ["no arrow leads from apps/* to log in ARCHITECTURE.md"]
        );
    }

    #[test]
    fn an_outside_crate_under_never_is_found() {
        let wrong = package("crates/core", r#"{"name":"tokio","kind":null,"path":null}"#);
        assert_eq!(
            findings(&[wrong]),
            ["core never uses tokio, says ARCHITECTURE.md"]
        );
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        let text = "new has no row in the arrows of ARCHITECTURE.md";
        assert_eq!(findings(&[package("crates/new", "")]), [text]);
    }

    #[test]
    fn a_missing_or_empty_table_is_an_error() {
        assert!(table("no table").is_err());
        assert!(table("<!-- arrows -->\n<!-- /arrows -->").is_err());
        assert!(table("<!-- arrows -->\n| `a` |\n<!-- /arrows -->").is_err());
    }
}
