//! A data folder of each version of the format, as it was written then: today's code reads it to
//! the very records.
//!
//! `TIDEMILL_WRITE_GOLDEN=1 cargo test -p tidemill-log --test golden` writes the folder of today's
//! version anew. That is for a change of the format alone: what is released is never written
//! again.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::faulty::{disk_of, image};
use common::{ByHand, Operation, Registers, SETTLED, partition, read_all};
use jiff::Timestamp;
use tidemill_core::Offset;
use tidemill_log::backup::{MANIFEST, Pinned, Taking, take};
use tidemill_log::batch::{CompressionType, Marker, Producer};
use tidemill_log::driver::MemoryDisk;
use tidemill_log::inspect::{Dump, Value, dump, verify};
use tidemill_log::{
    Batch, BatchBuilder, Cleanup, Disk, FORMAT_VERSION, Now, Options, PartitionId,
    PartitionSettings, Reader,
};
use uuid::Uuid;

type Image = HashMap<String, Vec<u8>>;

fn folder(version: u32) -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    golden.join(format!("folder-{version}"))
}

fn options() -> Options {
    let mut options = Options::default();
    options.journal_file_first_bytes = 16 * 1024;
    options.segment_max_bytes = 1500;
    options.segment_write_after_bytes = 1;
    options.look_every = Duration::from_secs(1);
    options
}

fn settings() -> PartitionSettings {
    let mut settings = PartitionSettings::default();
    settings.cleanup = Cleanup::CompactAndDelete;
    settings.retention_ms = Some(1 << 50);
    settings.retention_bytes = Some(1 << 40);
    settings.segment_ms = Some(1 << 49);
    settings.segment_bytes = Some(1200);
    settings
}

fn built(builder: BatchBuilder, values: &[&str]) -> Batch {
    let mut builder = builder;
    for (number, value) in values.iter().enumerate() {
        let headers = [("ce_id", Some(value.as_bytes())), ("none", None)];
        let key = (number > 0).then_some("key".as_bytes());
        let time_ms = 1_700_000_000_000 + number as i64;
        builder
            .push(time_ms, key, Some(value.as_bytes()), headers.into_iter())
            .unwrap();
    }
    builder.finish().unwrap()
}

fn after(millis: u64) -> Now {
    Now {
        wall: Timestamp::from_millisecond(1_700_000_000_000 + millis as i64).unwrap(),
        monotonic: Duration::from_millis(millis),
    }
}

fn open(disk: &Arc<dyn Disk>, millis: u64) -> ByHand {
    ByHand::open_at(disk, &options(), Registers::default(), after(millis)).unwrap()
}

fn value(number: u64) -> Vec<u8> {
    format!("{number}-").repeat(60).into_bytes()
}

/// Does all of these in one commit.
fn all(log: &mut ByHand, operations: impl IntoIterator<Item = Operation>) {
    let tokens: Vec<_> = operations.into_iter().map(|one| log.submit(one)).collect();
    log.settle();
    for token in tokens {
        log.ended.remove(&token).unwrap().unwrap();
    }
}

/// Two lives of a log, the first one closed, the second one killed, as a backup has them: its
/// journal has nothing but what is needed.
fn made() -> Image {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new(1 << 30));
    let [plain, special, gone, late, compacted] = ids();
    let publish = |id, number| Operation::Publish(id, vec![value(number)]);
    let mut log = open(&disk, 0);
    all(
        &mut log,
        [plain, special, gone, compacted].map(Operation::Create),
    );
    log.run(Operation::Configure(special, settings())).unwrap();
    log.run(Operation::Configure(compacted, compact())).unwrap();
    for number in 0..30 {
        let row = Operation::Records(compacted, vec![row(number)]);
        all(&mut log, [publish(plain, number), row]);
    }
    log.publish(gone, b"gone");
    log.run(Operation::Delete(gone)).unwrap();
    log.run(Operation::Trim(plain, 12)).unwrap();
    let specials = batches().into_iter();
    all(
        &mut log,
        specials.map(|batch| Operation::Append(special, batch)),
    );
    log.run(Operation::Set(1, 2)).unwrap();
    log.run(Operation::Create(queue())).unwrap();
    log.run(Operation::Configure(queue(), settled())).unwrap();
    for number in 0..30 {
        log.run(publish(queue(), number)).unwrap();
    }
    log.run(Operation::Set(SETTLED + 1, 28)).unwrap();
    log.log.close();
    log.settle();

    let mut log = open(&disk, 1_000);
    let again = Operation::Publish(gone, vec![b"gone again".to_vec()]);
    let begin = [Operation::Create(late), Operation::Create(gone), again];
    all(&mut log, begin);
    let change = [
        Operation::Configure(late, settings()),
        Operation::Delete(gone),
        Operation::Both(late, b"both".to_vec(), 3, 4),
    ];
    all(&mut log, change);
    all(&mut log, (30..40).map(|number| publish(plain, number)));
    log.run(Operation::Trim(plain, 15)).unwrap();
    // The compaction begins, settled segments go, and a second after the last commit a marker
    // follows.
    for millis in [10_000, 12_000, 14_000] {
        log.log.tick(after(millis));
        log.settle();
    }
    assert_eq!(log.log.counters().read().compactions, 1);
    let to = MemoryDisk::new(1 << 30);
    let how = Taking {
        taken: Timestamp::UNIX_EPOCH,
        seed: Uuid::now_v7(),
        link: false,
        watch: &mut |_| {},
    };
    let killed = disk_of(&image(disk.as_ref(), ""));
    let pinned = Pinned::at_rest(killed.as_ref()).unwrap();
    take(killed.as_ref(), &pinned, &to, how, &mut || {}).unwrap();
    let mut made = image(&to, "");
    made.remove(MANIFEST);
    made
}

fn compact() -> PartitionSettings {
    let mut settings = PartitionSettings::default();
    settings.cleanup = Cleanup::Compact;
    settings
}

/// What is settled of it goes.
fn settled() -> PartitionSettings {
    let mut settings = PartitionSettings::default();
    settings.cleanup = Cleanup::Settled;
    settings
}

fn queue() -> PartitionId {
    partition(5, 0)
}

/// Of a queue the first record and the last ones are left, with what lies in their segments.
fn check_settled(reader: &Reader) {
    let rows = read_all(reader, queue(), 4096);
    assert!(rows.iter().all(|(offset, kept)| *kept == value(*offset)));
    let kept: BTreeSet<_> = rows.iter().map(|(offset, _)| *offset).collect();
    assert!(kept.is_superset(&[0, 28, 29].into()), "{kept:?}");
    assert!(!kept.contains(&15), "{kept:?}");
    let bounds = reader.bounds(queue()).unwrap();
    assert_eq!((bounds.earliest, bounds.end), (Offset(0), Offset(30)));
    assert_eq!(reader.settings(queue()), Some(settled()));
}

/// A record of one of three keys.
fn row(number: u64) -> (i64, Option<Vec<u8>>, Option<Vec<u8>>) {
    let key = format!("key-{}", number % 3).into_bytes();
    (1_700_000_000_000, Some(key), Some(value(number)))
}

fn ids() -> [PartitionId; 5] {
    let late = partition(3, 5);
    [
        partition(1, 0),
        partition(1, 1),
        partition(2, 0),
        late,
        partition(4, 0),
    ]
}

/// One batch of each sort.
fn batches() -> Vec<Batch> {
    let producer = Producer {
        id: 1 << 32,
        epoch: 3,
        base_sequence: 7,
    };
    vec![
        built(BatchBuilder::new(), &["plain", "", "with a key"]),
        built(BatchBuilder::new().producer(producer), &["idempotent"]),
        built(
            BatchBuilder::new().producer(producer).transactional(),
            &["open"],
        ),
        Marker::Commit.batch(producer.id, producer.epoch, 1, 1_700_000_000_000),
        built(BatchBuilder::new(), &["packed ".repeat(40).as_str()])
            .compressed(CompressionType::Lz4),
    ]
}

/// What the folder holds, whoever reads it.
fn expected() -> BTreeMap<PartitionId, Vec<(u64, Vec<u8>)>> {
    let [plain, special, _, late, _] = ids();
    let numbered = (15..40).map(|number| (number, value(number))).collect();
    let texts = ["plain", "", "with a key", "idempotent", "open"];
    let mut specials: Vec<_> = (0..)
        .zip(texts.map(|text| text.as_bytes().to_vec()))
        .collect();
    let marker = [0, 0, 0, 0, 0, 1].to_vec();
    specials.push((5, marker));
    specials.push((6, "packed ".repeat(40).into_bytes()));
    [
        (plain, numbered),
        (special, specials),
        (late, vec![(0, b"both".to_vec())]),
    ]
    .into()
}

/// What is in the partitions that are not compacted.
fn read(reader: &Reader) -> BTreeMap<PartitionId, Vec<(u64, Vec<u8>)>> {
    let known = ids().into_iter().filter(|id| reader.bounds(*id).is_some());
    let known = known.filter(|id| *id != partition(4, 0));
    known.map(|id| (id, read_all(reader, id, 4096))).collect()
}

/// How far a compaction comes may change: what it leaves are records that were written, and the
/// last one of each key.
fn check_compacted(reader: &Reader) {
    let id = partition(4, 0);
    let rows = read_all(reader, id, 4096);
    assert!(rows.iter().all(|(offset, kept)| *kept == value(*offset)));
    let kept: BTreeSet<_> = rows.iter().map(|(offset, _)| *offset).collect();
    assert!(
        kept.is_superset(&[27, 28, 29].into()) && kept.len() < 30,
        "{kept:?}"
    );
    assert_eq!(reader.settings(id), Some(compact()));
}

/// The folder of today's version.
fn golden() -> Image {
    if std::env::var_os("TIDEMILL_WRITE_GOLDEN").is_some() {
        let folder = folder(FORMAT_VERSION);
        let _ = std::fs::remove_dir_all(&folder);
        for (path, bytes) in made() {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    written_by(FORMAT_VERSION)
}

fn written_by(version: u32) -> Image {
    files(&folder(version), &folder(version))
}

fn files(root: &Path, dir: &Path) -> Image {
    let mut found = Image::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(root, &path));
            continue;
        }
        let name = path.strip_prefix(root).unwrap().to_str().unwrap();
        found.insert(name.to_owned(), std::fs::read(&path).unwrap());
    }
    found
}

#[test]
fn what_a_version_wrote_is_read_to_the_very_records_and_written_on() {
    let golden = golden();
    let bytes: usize = golden.values().map(Vec::len).sum();
    assert!(bytes < 200 * 1024, "{bytes} bytes are too many to keep");
    // What is written today holds the same, so the files can be made again.
    let older = (0..FORMAT_VERSION).map(|version| ("older", written_by(version)));
    for (which, image) in older.chain([("golden", golden), ("made today", made())]) {
        let disk = disk_of(&image);
        let report = verify(disk.as_ref(), &mut (), &mut |_| {}).unwrap();
        assert!(report.is_clean(), "{which}: {:?}", report.findings);
        let mut log = open(&disk, 20_000);
        check_compacted(&log.reader());
        check_settled(&log.reader());
        assert_eq!(read(&log.reader()), expected(), "{which}");
        let registers = &log.log.machine().durable;
        // The last one is what the tests' machine knows of a trim.
        let known = [(1, 2), (3, 4), (SETTLED + 1, 28), (u64::MAX, 15)];
        assert_eq!(*registers, known.into(), "{which}");
        assert_eq!(log.log.epoch(), 3);
        let [plain, special, gone, late, _] = ids();
        for (id, expected) in [
            (plain, PartitionSettings::default()),
            (special, settings()),
            (late, settings()),
        ] {
            assert_eq!(log.reader().settings(id), Some(expected), "{which}");
        }
        assert_eq!(log.reader().bounds(gone), None);
        assert_eq!(log.publish(special, b"on"), 7);
        log.log.close();
        log.settle();
        let mut more = expected();
        more.get_mut(&special).unwrap().push((7, b"on".to_vec()));
        let log = open(&disk, 30_000);
        check_compacted(&log.reader());
        check_settled(&log.reader());
        assert_eq!(read(&log.reader()), more, "{which}");
        // Whatever it was, it is of today's version now.
        let superblocks = common::faulty::image(disk.as_ref(), "");
        for name in ["superblock.0", "superblock.1"] {
            assert_eq!(superblocks[name][8..12], FORMAT_VERSION.to_le_bytes());
        }
        assert_eq!(log.reader().bounds(plain).unwrap().earliest, Offset(15));
    }
}

#[test]
fn the_golden_folder_has_every_kind_that_there_is_code_for() {
    let mut kinds = BTreeSet::new();
    let disk = disk_of(&golden());
    dump(disk.as_ref(), &Dump::default(), &mut |line| {
        for (name, value) in &line.fields {
            match value {
                Value::Text(text) => kinds.insert(format!("{} {text}", line.what)),
                Value::Flag(true) => kinds.insert((*name).to_owned()),
                _ => true,
            };
        }
        true
    })
    .unwrap();
    for kind in [
        "chunk deleted",
        "chunk footer",
        "chunk machine",
        "chunk partitions",
        "part effect",
        "part epoch",
        "part marker",
        "part partition create",
        "part partition delete",
        "part partition settings",
        "part records",
        "part segment create",
        "part segment delete",
        "part segment swap",
        "batch lz4",
        "transactional",
        "control",
    ] {
        assert!(kinds.contains(kind), "{kind} is not in {kinds:?}");
    }
}

#[test]
fn a_folder_of_a_newer_version_is_refused_with_what_to_do() {
    let mut newer = golden();
    for path in ["superblock.0", "superblock.1"] {
        let block = newer.get_mut(path).unwrap();
        block[8..12].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
        let sum = crc32c::crc32c_append(crc32c::crc32c(&block[..12]), &block[16..]);
        block[12..16].copy_from_slice(&sum.to_le_bytes());
    }
    let disk = disk_of(&newer);
    let refused = ByHand::open(&disk, &options()).err().unwrap().to_string();
    assert!(
        refused.contains("use the program's newer version"),
        "{refused}"
    );
    assert_eq!(image(disk.as_ref(), ""), newer, "nothing was changed");
}
