//! The folders of the simulated disk: which names a running program sees, and which of them a
//! loss of power may take back. May not know: what is in the files.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use crate::sim::random::Random;

/// The number of a file, whatever its name.
pub(crate) type Number = u64;

/// A change of names that is not durable before its folder is synced.
#[derive(Clone, Debug)]
enum Change {
    MakeDir(String),
    RemoveDir(String),
    RenameDir(String, String),
    Create(String, Number),
    Remove(String, Number),
    Rename(String, String, Number),
}

impl Change {
    /// The folder whose sync makes this durable.
    fn folder(&self) -> &str {
        match self {
            Change::MakeDir(path)
            | Change::RemoveDir(path)
            | Change::Create(path, _)
            | Change::Remove(path, _) => parent(path),
            Change::Rename(_, to, _) | Change::RenameDir(_, to) => parent(to),
        }
    }

    /// The folder `from` is called `to` now: so are the places of what waits in it.
    fn move_into(&mut self, from: &str, to: &str) {
        let paths: [Option<&mut String>; 2] = match self {
            Change::MakeDir(path)
            | Change::RemoveDir(path)
            | Change::Create(path, _)
            | Change::Remove(path, _) => [Some(path), None],
            Change::Rename(old, new, _) | Change::RenameDir(old, new) => [Some(old), Some(new)],
        };
        for path in paths.into_iter().flatten() {
            *path = moved(path, from, to);
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Tree {
    files: BTreeMap<String, Number>,
    folders: BTreeSet<String>,
}

impl Tree {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::MakeDir(path) => {
                self.folders.insert(path.clone());
            }
            Change::RemoveDir(path) => {
                self.folders.remove(path);
            }
            Change::RenameDir(from, to) => {
                let files = std::mem::take(&mut self.files).into_iter();
                self.files = files.map(|(path, n)| (moved(&path, from, to), n)).collect();
                let folders = std::mem::take(&mut self.folders).into_iter();
                self.folders = folders.map(|path| moved(&path, from, to)).collect();
            }
            Change::Create(path, number) => {
                self.files.insert(path.clone(), *number);
            }
            Change::Remove(path, number) => {
                if self.files.get(path) == Some(number) {
                    self.files.remove(path);
                }
            }
            Change::Rename(from, to, number) => {
                if self.files.get(from) == Some(number) {
                    self.files.remove(from);
                }
                self.files.insert(to.clone(), *number);
            }
        }
    }
}

/// All names, as seen and as kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    seen: Arc<Tree>,
    kept: Arc<Tree>,
    pending: Vec<Change>,
    next: Number,
}

/// The folder that `path` is in; empty for the root.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// `path`, where the folder `from` is called `to` now.
fn moved(path: &str, from: &str, to: &str) -> String {
    match path.strip_prefix(from) {
        Some("") => to.to_owned(),
        Some(rest) if rest.starts_with('/') => format!("{to}{rest}"),
        _ => path.to_owned(),
    }
}

fn tidy(path: &str) -> &str {
    path.trim_matches('/').trim_start_matches("./")
}

fn missing(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no file {path}"))
}

impl Names {
    fn has_folder(&self, path: &str) -> bool {
        path.is_empty() || path == "." || self.seen.folders.contains(path)
    }

    fn change(&mut self, change: Change) {
        Arc::make_mut(&mut self.seen).apply(&change);
        self.pending.push(change);
    }

    pub(crate) fn create(&mut self, path: &str) -> io::Result<Number> {
        let path = tidy(path);
        if !self.has_folder(parent(path)) {
            return Err(missing(parent(path)));
        }
        if self.seen.files.contains_key(path) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                path.to_owned(),
            ));
        }
        self.next += 1;
        let number = self.next;
        self.change(Change::Create(path.to_owned(), number));
        Ok(number)
    }

    pub(crate) fn open(&self, path: &str) -> io::Result<Number> {
        let path = tidy(path);
        self.seen
            .files
            .get(path)
            .copied()
            .ok_or_else(|| missing(path))
    }

    pub(crate) fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let dir = tidy(dir);
        if !self.has_folder(dir) {
            return Err(missing(dir));
        }
        let all = self.seen.files.keys().chain(&self.seen.folders);
        let inside = all.filter(|path| parent(path) == dir.trim_matches('.'));
        Ok(inside
            .map(|path| path.rsplit('/').next().unwrap_or(path).to_owned())
            .collect())
    }

    pub(crate) fn make_dir(&mut self, dir: &str) -> io::Result<()> {
        let dir = tidy(dir);
        if self.has_folder(dir) {
            return Ok(());
        }
        if self.seen.files.contains_key(dir) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, dir.to_owned()));
        }
        self.make_dir(parent(dir))?;
        self.change(Change::MakeDir(dir.to_owned()));
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (tidy(from), tidy(to));
        if !self.has_folder(parent(to)) {
            return Err(missing(parent(to)));
        }
        if self.seen.folders.contains(from) {
            self.pending
                .iter_mut()
                .for_each(|change| change.move_into(from, to));
            self.change(Change::RenameDir(from.to_owned(), to.to_owned()));
            return Ok(());
        }
        let number = self.open(from)?;
        self.change(Change::Rename(from.to_owned(), to.to_owned(), number));
        Ok(())
    }

    pub(crate) fn remove(&mut self, path: &str) -> io::Result<()> {
        let path = tidy(path);
        if self.seen.folders.contains(path) {
            let mut all = self.seen.files.keys().chain(&self.seen.folders);
            if all.any(|inside| parent(inside) == path) {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            self.change(Change::RemoveDir(path.to_owned()));
            return Ok(());
        }
        let number = self.open(path)?;
        self.change(Change::Remove(path.to_owned(), number));
        Ok(())
    }

    pub(crate) fn sync_dir(&mut self, dir: &str) -> io::Result<()> {
        let dir = tidy(dir).trim_matches('.');
        if !self.has_folder(dir) {
            return Err(missing(dir));
        }
        let (durable, pending) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|change| change.folder() == dir);
        self.pending = pending;
        let durable: Vec<Change> = durable;
        let kept = Arc::make_mut(&mut self.kept);
        durable.iter().for_each(|change| kept.apply(change));
        Ok(())
    }

    /// Each un-synced change stays or vanishes by itself; a folder that vanished takes what is
    /// in it along. Returns how many changes vanished.
    pub(crate) fn lose_power(&mut self, random: &mut Random) -> u64 {
        let survive = [1_000_000, 0, 500_000, 500_000];
        let survive = random.pick(&survive).copied().unwrap_or(0);
        if self.pending.is_empty() {
            self.seen = self.kept.clone();
            return 0;
        }
        let mut vanished = 0;
        let kept = Arc::make_mut(&mut self.kept);
        for change in std::mem::take(&mut self.pending) {
            if random.chance(survive) {
                kept.apply(&change);
            } else {
                vanished += 1;
            }
        }
        let Tree { files, folders } = kept;
        loop {
            let orphans = folders
                .iter()
                .filter(|path| !parent(path).is_empty() && !folders.contains(parent(path)))
                .cloned()
                .collect::<Vec<_>>();
            if orphans.is_empty() {
                break;
            }
            orphans.iter().for_each(|path| {
                folders.remove(path);
            });
        }
        files.retain(|path, _| parent(path).is_empty() || folders.contains(parent(path)));
        self.seen = self.kept.clone();
        vanished
    }

    /// What is durable, in the order of the names.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (&str, Number)> {
        self.kept
            .files
            .iter()
            .map(|(path, number)| (path.as_str(), *number))
    }

    /// The files that a running program sees.
    pub(crate) fn seen(&self) -> impl Iterator<Item = Number> {
        self.seen.files.values().copied()
    }
}
