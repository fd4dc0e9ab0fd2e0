//! A process that publishes on a real disk is killed at some moment, again and again: nothing
//! that it had said was acknowledged is missing, and nothing is there twice.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use common::{Operation, end, ok, open, partition, read_all};
use tidemill_core::Offset;
use tidemill_log::driver::FileDisk;
use tidemill_log::{Disk, Options};

const FOLDER: &str = "TIDEMILL_KILL_FOLDER";
const PARTITIONS: u32 = 5;

fn small() -> Options {
    let mut options = Options::default();
    options.journal_file_first_bytes = 64 * 1024;
    options.journal_file_max_bytes = 256 * 1024;
    options.checkpoint_after_bytes = 256 * 1024;
    options.segment_max_bytes = 128 * 1024;
    options.segment_write_after_bytes = 16 * 1024;
    options
}

fn disk(folder: &Path) -> Arc<dyn Disk> {
    Arc::new(FileDisk::new(folder))
}

/// What the child does: publishes until it is killed, and says what was acknowledged. A test
/// only so that the test's own program can be started as the child.
#[test]
fn child_publishes_until_it_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let log = open(&disk(folder.as_ref()), &small()).unwrap();
    for number in 0..PARTITIONS {
        ok(&log, Operation::Create(partition(1, number)));
    }
    let mut count = 0u64;
    loop {
        let (sender, ends) = std::sync::mpsc::channel();
        for _ in 0..20 {
            count += 1;
            let number = (count % u64::from(PARTITIONS)) as u32;
            let id = partition(1, number);
            let value = format!("{}-{count}", std::process::id());
            let padded = format!("{value:<width$}", width = (count as usize * 31) % 3000);
            let operation = Operation::Both(id, padded.into_bytes(), 1, count);
            let sender = sender.clone();
            log.submit(operation, move |outcome| {
                sender.send((number, outcome.unwrap(), value)).unwrap();
            });
        }
        drop(sender);
        for (number, offset, value) in ends {
            writeln!(std::io::stdout(), "acked {number} {offset} {value}").unwrap();
        }
    }
}

/// Runs the child until it has acknowledged `count`, kills it, answers what it said.
fn killed_after(folder: &Path, count: usize) -> Vec<(u32, u64, String)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "child_publishes_until_it_is_killed",
            "--exact",
            "--nocapture",
        ])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acked = Vec::new();
    let parse = |line: &str| {
        let mut words = line
            .split_whitespace()
            .skip_while(|word| *word != "acked")
            .skip(1);
        let number = words.next()?.parse().ok()?;
        let offset = words.next()?.parse().ok()?;
        Some((number, offset, words.next()?.to_owned()))
    };
    while acked.len() < count {
        acked.extend(parse(&lines.next().expect("the child goes on").unwrap()));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had said before it was killed counts too; the last line may be cut.
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    acked.extend(
        rest.iter()
            .rev()
            .skip(1)
            .rev()
            .filter_map(|line| parse(line)),
    );
    acked
}

#[test]
fn a_killed_process_loses_and_doubles_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut acked: BTreeMap<(u32, u64), String> = BTreeMap::new();
    for round in 0..10 {
        for (number, offset, value) in killed_after(folder.path(), 50 + round * 173) {
            let before = acked.insert((number, offset), value);
            assert_eq!(
                before, None,
                "offset {offset} of {number} was given out twice"
            );
        }
        let log = open(&disk(folder.path()), &small()).unwrap();
        for number in 0..PARTITIONS {
            let id = partition(1, number);
            let records = read_all(log.reader(), id, 64 * 1024);
            assert_eq!(end(&log, id), Some(Offset(records.len() as u64)));
            let mut seen = std::collections::BTreeSet::new();
            for (at, (offset, bytes)) in records.iter().enumerate() {
                assert_eq!(*offset, at as u64);
                let value = String::from_utf8(bytes.clone())
                    .unwrap()
                    .trim_end()
                    .to_owned();
                assert!(seen.insert(value.clone()), "{value} is there twice");
                if let Some(expected) = acked.get(&(number, *offset)) {
                    assert_eq!(&value, expected);
                }
            }
            let last = acked.range((number, 0)..(number + 1, 0)).next_back();
            let ((_, offset), _) = last.unwrap();
            assert!(
                records.len() as u64 > *offset,
                "round {round}: {offset} is lost"
            );
        }
        if round % 3 == 0 {
            log.close();
        }
    }
}
