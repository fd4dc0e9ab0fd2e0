//! Data folders as servers leave them, to look into and to damage.

use std::path::{Path, PathBuf};

use super::Server;

/// A folder that a server wrote to and was then killed.
pub(crate) fn written() -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.run(&["topic", "create", "orders"]).done();
    let event = ["publish", "orders", "{\"secret\":7}", "--count", "40"];
    server.run(&event).done();
    server.running.stop("TERM");
    let server = Server::start(data.path());
    server.run(&event).done();
    server.running.stop("KILL");
    data
}

/// The first file below a folder whose name ends so; an empty path where there is none.
pub(crate) fn file(dir: &Path, end: &str) -> PathBuf {
    let mut entries = std::fs::read_dir(dir).unwrap();
    let paths = entries.by_ref().map(|entry| entry.unwrap().path());
    let found = paths.filter_map(|path| match path.is_dir() {
        true => Some(file(&path, end)).filter(|path| path.is_file()),
        false => Some(path).filter(|path| path.to_str().unwrap().ends_with(end)),
    });
    found.min().unwrap_or_default()
}
