//! Which files the rules look at, and their text.
//!
//! This room may not know any rule.

use std::path::Path;

use super::Finding;

/// One file that rules apply to.
pub(crate) struct SourceFile {
    /// Relative to the root, with `/` between its parts.
    pub(crate) path: String,
    /// The whole text.
    pub(crate) text: String,
}

/// Endings of the files that are looked at.
const ENDINGS: [&str; 7] = ["rs", "toml", "md", "sh", "py", "js", "mjs"];

/// Folders that hold nothing of ours.
const FOREIGN: [&str; 4] = ["target", "node_modules", "tidemill-data", "__pycache__"];

impl SourceFile {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether the whole file is test code: it lies in a `tests` or `benches` folder.
    pub(crate) fn is_test(&self) -> bool {
        self.path
            .split('/')
            .any(|part| part == "tests" || part == "benches")
    }

    pub(crate) fn finding(
        &self,
        line: usize,
        rule: &'static str,
        text: impl Into<String>,
    ) -> Finding {
        Finding {
            path: self.path.clone(),
            line,
            rule,
            text: text.into(),
        }
    }
}

/// Reads every file under `root` that rules apply to, sorted by path.
///
/// # Errors
/// When a folder or file cannot be read, or a file is not UTF-8.
pub(crate) fn collect(root: &Path) -> Result<Vec<SourceFile>, String> {
    let mut files = Vec::new();
    walk(root, "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn walk(dir: &Path, prefix: &str, files: &mut Vec<SourceFile>) -> Result<(), String> {
    let named = |e: std::io::Error| format!("cannot read {}: {e}", dir.display());
    for entry in std::fs::read_dir(dir).map_err(named)? {
        let entry = entry.map_err(named)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().map_err(named)?;
        if kind.is_dir() && !FOREIGN.contains(&name.as_str()) {
            walk(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file()
            && name
                .rsplit_once('.')
                .is_some_and(|e| ENDINGS.contains(&e.1))
        {
            let text = std::fs::read_to_string(entry.path())
                .map_err(|e| format!("cannot read {path}: {e}"))?;
            files.push(SourceFile { path, text });
        }
    }
    Ok(())
}
