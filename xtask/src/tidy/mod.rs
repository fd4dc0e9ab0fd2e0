//! `cargo xtask tidy`: STYLE's limits as a program. Each rule is one file of this folder.
//!
//! This room may not know which findings are allowed: that is `exempt.rs` and its list.

mod arrows;
mod exempt;
mod functions;
mod invariants;
mod lines;
mod rooms;
mod source;

use std::fmt;
use std::path::Path;

use source::SourceFile;

use crate::limits::{FILE_LONG_LINES, LARGEST_LISTED};

/// One place that breaks one rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, relative to the root, with `/` between its parts.
    pub(crate) path: String,
    /// The line, from 1; 0 means the whole file.
    pub(crate) line: usize,
    /// The rule's name, as the exemption list uses it.
    pub(crate) rule: &'static str,
    /// What is wrong and what to do.
    pub(crate) text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            rule,
            text,
        } = self;
        write!(f, "{path}:{line}: [{rule}] {text}")
    }
}

/// Runs every rule over the tree at `root`.
///
/// # Errors
/// The findings that no exemption covers, one a line, and exemptions that cover nothing.
pub(crate) fn check(root: &Path) -> Result<String, String> {
    let files = source::collect(root)?;
    let mut findings = Vec::new();
    for file in &files {
        findings.extend(file_findings(file));
    }
    findings.extend(arrows::check(root)?);
    findings.extend(invariants::check(&files)?);
    let exemptions = exempt::read(&root.join("xtask/tidy-exempt.toml"))?;
    let mut left = exempt::apply(findings, &exemptions);
    if left.is_empty() {
        return Ok(format!("tidy: {} files are in order", files.len()));
    }
    left.sort();
    let lines: Vec<String> = left.iter().map(ToString::to_string).collect();
    Err(format!("tidy found {}:\n{}", lines.len(), lines.join("\n")))
}

/// What the rules about single files say of `file`.
fn file_findings(file: &SourceFile) -> Vec<Finding> {
    let mut found = lines::check(file);
    if file.is_rust() {
        match syn::parse_file(&file.text) {
            Ok(tree) => {
                found.extend(lines::header(file, &tree));
                found.extend(functions::check(file, &tree));
                found.extend(rooms::check(file, &tree));
            }
            Err(why) => found.push(file.finding(why.span().start().line, "parse", why.to_string())),
        }
    }
    found
}

/// The longest files and functions, as text for a person.
///
/// # Errors
/// When the tree cannot be read.
pub(crate) fn largest(root: &Path) -> Result<String, String> {
    let files = source::collect(root)?;
    let mut by_lines: Vec<(usize, &str)> = Vec::new();
    let mut functions = Vec::new();
    for file in files.iter().filter(|f| f.is_rust()) {
        by_lines.push((file.text.lines().count(), &file.path));
        if let Ok(tree) = syn::parse_file(&file.text) {
            for f in functions::measure(file, &tree)
                .into_iter()
                .filter(|f| !f.test)
            {
                functions.push((f.lines, format!("{}:{} {}", file.path, f.start, f.name)));
            }
        }
    }
    by_lines.sort_unstable_by(|a, b| b.cmp(a));
    functions.sort_unstable_by(|a, b| b.cmp(a));
    let mut out = String::from("longest files\n");
    for (lines, path) in by_lines.iter().take(LARGEST_LISTED) {
        let mark = if *lines > FILE_LONG_LINES {
            "  long"
        } else {
            ""
        };
        out.push_str(&format!("{lines:6}  {path}{mark}\n"));
    }
    out.push_str("longest functions, tests left out\n");
    for (lines, place) in functions.iter().take(LARGEST_LISTED) {
        out.push_str(&format!("{lines:6}  {place}\n"));
    }
    Ok(out)
}
