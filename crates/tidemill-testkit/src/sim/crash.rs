//! Every way in which a crash can leave a disk, made of a recording: at every point of it, what
//! was synced, and of what was not, any subset, with torn sectors. The rules are those of
//! [`crate::sim::disk`]: sectors, lengths and names survive each by itself, lengths of a file in
//! their order. May not know: what the files mean.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use tidemill_log::{Disk, Options};

use crate::sim::image::Image;
use crate::sim::inode::SECTOR_BYTES;
use crate::sim::random::Random;
use crate::sim::recording::{Event, FileNumber};
use crate::sim::truth::{Found, Truth};

/// Something un-synced that survives a crash or does not.
#[derive(Clone, Debug)]
enum Unit {
    Sector(FileNumber, usize, Vec<u8>),
    Length(FileNumber, usize),
    Name(Event),
}

/// What becomes of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Gone,
    There,
    /// The first half is new; sectors alone.
    FirstHalf,
    /// The second half is new; sectors alone.
    SecondHalf,
}

#[derive(Clone, Debug, Default)]
struct Tree {
    files: BTreeMap<String, FileNumber>,
    folders: BTreeSet<String>,
}

/// A disk in the middle of a recording.
#[derive(Clone, Debug, Default)]
pub struct Media {
    names: Tree,
    durable: BTreeMap<FileNumber, Bytes>,
    seen: BTreeMap<FileNumber, Vec<u8>>,
    pending: Vec<Unit>,
    submitted: usize,
    acknowledged: usize,
}

/// How much is tried of what may survive.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Up to so many combinations of the fates of everything un-synced are all tried.
    pub all_up_to: usize,
    /// Beyond that: so many drawn ones, besides everything, nothing, every beginning, every
    /// single one, all but every single one.
    pub drawn: usize,
}

/// What was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// Points of the recording after which there are images that were not there before, or
    /// promises.
    pub points: u64,
    /// Points at which every combination was tried.
    pub whole: u64,
    /// Images that were opened and read.
    pub images: u64,
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

impl Tree {
    fn apply(&mut self, change: &Event) {
        match change {
            Event::Create(path, number) => {
                self.files.insert(path.clone(), *number);
            }
            Event::MakeDir(path) => {
                self.folders.insert(path.clone());
            }
            Event::Remove(path) => {
                self.files.remove(path);
                self.folders.remove(path);
            }
            Event::Rename(from, to) => {
                let inside = format!("{from}/");
                let moved = |path: String| match path.strip_prefix(&inside) {
                    Some(rest) => format!("{to}/{rest}"),
                    None if path == *from => to.clone(),
                    None => path,
                };
                let files = std::mem::take(&mut self.files).into_iter();
                self.files = files.map(|(path, n)| (moved(path), n)).collect();
                let folders = std::mem::take(&mut self.folders).into_iter();
                self.folders = folders.map(moved).collect();
            }
            _ => {}
        }
    }

    fn has(&self, folder: &str) -> bool {
        folder.is_empty() || self.folders.contains(folder) && self.has(parent(folder))
    }
}

/// The folder whose sync makes a change of names durable.
fn folder_of(change: &Event) -> &str {
    match change {
        Event::Create(path, _) | Event::MakeDir(path) | Event::Remove(path) => parent(path),
        Event::Rename(_, to) => parent(to),
        _ => "",
    }
}

impl Media {
    /// Goes on by one event.
    fn apply(&mut self, event: &Event) {
        match event {
            Event::Create(_, number) => {
                self.seen.insert(*number, Vec::new());
                self.durable.insert(*number, Bytes::new());
                self.pending.push(Unit::Name(event.clone()));
            }
            Event::MakeDir(path) => {
                let above = path.match_indices('/').map(|(at, _)| path.get(..at));
                for folder in above.chain([Some(path.as_str())]).flatten() {
                    let change = Event::MakeDir(folder.to_owned());
                    self.pending.push(Unit::Name(change));
                }
            }
            Event::Rename(..) | Event::Remove(_) => self.pending.push(Unit::Name(event.clone())),
            Event::Write(file, position, bytes) => self.write(*file, *position as usize, bytes),
            Event::Truncate(file, len) => self.truncate(*file, *len as usize),
            Event::Sync(file) => {
                if let Some(seen) = self.seen.get(file) {
                    self.durable.insert(*file, Bytes::from(seen.clone()));
                }
                self.pending.retain(|unit| match unit {
                    Unit::Sector(own, ..) | Unit::Length(own, _) => own != file,
                    Unit::Name(_) => true,
                });
            }
            Event::SyncDir(dir) => {
                for unit in std::mem::take(&mut self.pending) {
                    match unit {
                        Unit::Name(change) if folder_of(&change) == dir => {
                            self.names.apply(&change);
                        }
                        other => self.pending.push(other),
                    }
                }
            }
            Event::Submitted(count) => self.submitted = *count,
            Event::Acknowledged(count) => self.acknowledged = self.acknowledged.max(*count),
        }
    }

    fn write(&mut self, file: FileNumber, position: usize, bytes: &[u8]) {
        let seen = self.seen.entry(file).or_default();
        let end = position + bytes.len();
        if end > seen.len() {
            seen.resize(end, 0);
            self.pending.push(Unit::Length(file, end));
        }
        for sector in position / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES) {
            let from = sector * SECTOR_BYTES;
            let place = from..(from + SECTOR_BYTES).min(seen.len());
            let inner = from.max(position)..(from + SECTOR_BYTES).min(end);
            let new = bytes.get(inner.start - position..inner.end - position);
            let (Some(new), Some(old)) = (new, seen.get_mut(inner)) else {
                continue;
            };
            if old != new {
                old.copy_from_slice(new);
                let content = seen.get(place).unwrap_or_default().to_vec();
                self.pending.push(Unit::Sector(file, sector, content));
            }
        }
    }

    fn truncate(&mut self, file: FileNumber, len: usize) {
        let seen = self.seen.entry(file).or_default();
        if len != seen.len() {
            seen.resize(len, 0);
            self.pending.push(Unit::Length(file, len));
        }
    }

    /// The disk after a crash in which the units have these fates.
    fn image(&self, fates: &[Fate]) -> Image {
        let mut names = self.names.clone();
        let mut changed: BTreeMap<FileNumber, Vec<u8>> = BTreeMap::new();
        let mut stuck: BTreeSet<FileNumber> = BTreeSet::new();
        // Lengths first, so that data and length may survive each without the other.
        for (unit, fate) in self.pending.iter().zip(fates) {
            match unit {
                Unit::Name(change) if *fate != Fate::Gone => names.apply(change),
                // Lengths reach the media in their order.
                Unit::Length(file, _) if *fate == Fate::Gone => {
                    stuck.insert(*file);
                }
                Unit::Length(file, len) if !stuck.contains(file) => {
                    self.changed(&mut changed, *file).resize(*len, 0);
                }
                _ => {}
            }
        }
        for (unit, fate) in self.pending.iter().zip(fates) {
            if let Unit::Sector(file, sector, new) = unit {
                let half = SECTOR_BYTES / 2;
                let part = match fate {
                    Fate::Gone => continue,
                    Fate::There => 0..SECTOR_BYTES,
                    Fate::FirstHalf => 0..half,
                    Fate::SecondHalf => half..SECTOR_BYTES,
                };
                let bytes = self.changed(&mut changed, *file);
                for at in part {
                    let to = bytes.get_mut(sector * SECTOR_BYTES + at);
                    if let (Some(to), Some(new)) = (to, new.get(at)) {
                        *to = *new;
                    }
                }
            }
        }
        let changed: BTreeMap<FileNumber, Bytes> = changed
            .into_iter()
            .map(|(file, bytes)| (file, Bytes::from(bytes)))
            .collect();
        let content = |file: &FileNumber| {
            let bytes = changed.get(file).or_else(|| self.durable.get(file));
            bytes.cloned().unwrap_or_default()
        };
        let files = names.files.iter();
        let files = files.filter(|(path, _)| names.has(parent(path)));
        let folders = names.folders.iter().filter(|path| names.has(path));
        Image {
            files: files.map(|(p, n)| (p.clone(), content(n))).collect(),
            folders: folders.cloned().collect(),
        }
    }

    fn changed<'a>(
        &self,
        changed: &'a mut BTreeMap<FileNumber, Vec<u8>>,
        file: FileNumber,
    ) -> &'a mut Vec<u8> {
        changed.entry(file).or_insert_with(|| {
            self.durable
                .get(&file)
                .cloned()
                .unwrap_or_default()
                .to_vec()
        })
    }

    /// The fates that a unit may have.
    fn fates_of(unit: &Unit) -> &'static [Fate] {
        use Fate::{FirstHalf, Gone, SecondHalf, There};
        match unit {
            Unit::Sector(..) => &[Gone, There, FirstHalf, SecondHalf],
            Unit::Length(..) | Unit::Name(_) => &[Gone, There],
        }
    }

    /// The combinations of fates to be tried, and whether those are all.
    fn combinations(&self, effort: Effort, random: &mut Random) -> (Vec<Vec<Fate>>, bool) {
        let count = self.pending.len();
        let sum = self.pending.iter().try_fold(1usize, |sum, unit| {
            sum.checked_mul(Self::fates_of(unit).len())
        });
        if sum.is_some_and(|sum| sum <= effort.all_up_to) {
            let mut all = vec![Vec::with_capacity(count)];
            for unit in &self.pending {
                let before = std::mem::take(&mut all);
                for fate in Self::fates_of(unit) {
                    all.extend(before.iter().map(|b| [b.as_slice(), &[*fate]].concat()));
                }
            }
            return (all, true);
        }
        let mut some = Vec::new();
        for one in 0..count {
            let pick = |inside: &dyn Fn(usize) -> bool| -> Vec<Fate> {
                let fate = |at| if inside(at) { Fate::There } else { Fate::Gone };
                (0..count).map(fate).collect()
            };
            some.push(pick(&|at| at == one));
            some.push(pick(&|at| at != one));
            some.push(pick(&|at| at < one));
            let mut torn = pick(&|at| at <= one);
            if let (Some(fate), Some(Unit::Sector(..))) = (torn.get_mut(one), self.pending.get(one))
            {
                *fate = Fate::FirstHalf;
            }
            some.push(torn);
        }
        some.push(vec![Fate::There; count]);
        for _ in 0..effort.drawn {
            let units = self.pending.iter();
            let draw = units.map(|unit| random.pick(Self::fates_of(unit)).copied());
            some.push(draw.map(|fate| fate.unwrap_or(Fate::Gone)).collect());
        }
        (some, false)
    }
}

/// Crashes at every point of a recording, in every way that `effort` allows: each image must
/// open, hold everything acknowledged before that point, and nothing impossible.
///
/// # Errors
/// The first image that does not, in words.
pub fn crash_everywhere(
    events: &[Event],
    truth: &Truth,
    options: &Options,
    effort: Effort,
) -> Result<Tried, String> {
    let mut media = Media::default();
    let mut random = Random::new(events.len() as u64);
    let mut tried = Tried::default();
    for (point, event) in events.iter().enumerate() {
        let old = media.pending.len();
        media.apply(event);
        // What a sync leaves was tried before it; what an acknowledgement forbids was not.
        let from = match event {
            Event::Submitted(_) | Event::Sync(_) | Event::SyncDir(_) => continue,
            Event::Acknowledged(_) => None,
            _ => Some(old),
        };
        tried.points += 1;
        let (combinations, whole) = media.combinations(effort, &mut random);
        tried.whole += u64::from(whole);
        for fates in combinations {
            let new = from.and_then(|from| fates.get(from..));
            if new.is_some_and(|new| new.iter().all(|fate| *fate == Fate::Gone)) {
                continue;
            }
            let image = media.image(&fates);
            tried.images += 1;
            check(&image, &media, truth, options).map_err(|why| {
                let pending = media.pending.iter().map(Unit::describe);
                let fates: Vec<_> = pending.zip(&fates).collect();
                format!(
                    "a crash after event {point} ({}): {why}; {fates:?}",
                    shown(event)
                )
            })?;
        }
    }
    Ok(tried)
}

fn check(image: &Image, media: &Media, truth: &Truth, options: &Options) -> Result<(), String> {
    let disk: Arc<dyn Disk> = image.disk().map_err(|error| error.to_string())?;
    let (least, most) = (media.acknowledged, media.submitted);
    match truth.look(&disk, options)? {
        Found::Open { operations, fenced } if (least..=most).contains(&operations) => {
            match fenced {
                0 => Ok(()),
                _ => Err(format!("{fenced} events cannot be read")),
            }
        }
        Found::Open { operations, .. } => Err(format!(
            "{operations} operations are there, {least} were acknowledged and {most} handed in"
        )),
        Found::Refused(error) => Err(format!("it does not open: {error}")),
    }
}

impl Unit {
    fn describe(&self) -> String {
        match self {
            Unit::Sector(file, sector, _) => format!("file {file} sector {sector}"),
            Unit::Length(file, len) => format!("file {file} length {len}"),
            Unit::Name(change) => format!("{change:?}"),
        }
    }
}

fn shown(event: &Event) -> String {
    match event {
        Event::Write(file, position, bytes) => {
            format!("write file {file} at {position}, {} bytes", bytes.len())
        }
        other => format!("{other:?}"),
    }
}
