//! Apache Kafka's own `DumpLogSegments` reads our segments: merged and packed ones, what producers
//! packed, and large ones, record by record as we read them.
//!
//! Kafka's tools are installed into the target folder. Where that is not possible the test is
//! skipped and says why, except under `CI=true`, where that is a failure.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use common::{Operation, ok, open, partition};
use tidemill_core::Offset;
use tidemill_log::batch::{Batch, BatchBuilder, CompressionType, Producer, Record};
use tidemill_log::driver::{FileDisk, Handle};
use tidemill_log::{Options, PartitionId, PartitionSettings, Read, Reader};

const LARGE_BYTES: usize = 3 * 1024 * 1024;

/// The folder of the tools; `None` after saying why they are not there.
fn tools() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka-tools");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/install.sh");
    let install = Command::new("sh")
        .arg(script)
        .arg(&folder)
        .stdin(Stdio::null())
        .output();
    let why = match install {
        Ok(output) if output.status.success() => return Some(folder),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        panic!("Apache Kafka's tools cannot be installed: {why}");
    }
    eprintln!("skipped: Apache Kafka's tools cannot be installed (they need Java, Maven): {why}");
    None
}

/// What one record has to be, in the words of the tool's output.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    offset: u64,
    time: i64,
    sequence: String,
    header_names: String,
    key: Option<String>,
    payload: Option<String>,
}

/// A line for people: large values are cut.
fn brief(line: &Line) -> String {
    format!("{line:?}").chars().take(300).collect()
}

fn text(bytes: Option<Bytes>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

fn line(batch: &Batch, record: Record) -> Line {
    let names: Vec<_> = record.headers.iter().map(|header| header.name).collect();
    let delta = record.offset.0 - batch.base_offset().0;
    let sequence = batch
        .producer()
        .map_or(-1, |producer| producer.base_sequence + delta as i32);
    Line {
        offset: record.offset.0,
        time: record.timestamp_ms,
        sequence: sequence.to_string(),
        header_names: names.join(","),
        key: text(record.key),
        payload: text(record.value),
    }
}

/// Reads a line such as `| offset: 3 CreateTime: 5 keySize: 2 valueSize: 4 sequence: -1
/// headerKeys: [a,b] key: k3 payload: text`.
fn parsed(line: &str) -> Line {
    let field = |name: &str| {
        let rest = line.split_once(name).unwrap_or_else(|| panic!("{line}")).1;
        rest.split_whitespace().next().unwrap()
    };
    let tail = line.split_once("headerKeys: [").unwrap().1;
    let (header_names, tail) = tail.split_once(']').unwrap();
    let (key, payload) = match tail.split_once(" payload: ") {
        Some((key, payload)) => (key, Some(payload.to_owned())),
        None => (tail, None),
    };
    Line {
        offset: field("offset: ").parse().unwrap(),
        time: field("CreateTime: ").parse().unwrap(),
        sequence: field("sequence: ").to_owned(),
        header_names: header_names.to_owned(),
        key: key.strip_prefix(" key: ").map(ToOwned::to_owned),
        payload,
    }
}

/// What we read ourselves.
fn ours(reader: &Reader, id: PartitionId) -> Vec<Line> {
    let (mut lines, mut offset) = (Vec::new(), Offset(0));
    loop {
        let batches = match reader.read(id, offset, 1 << 20) {
            Read::Disk(read) => read.run().unwrap(),
            Read::AtEnd => return lines,
            other => panic!("{other:?}"),
        };
        for batch in &batches {
            let records = batch.checked_records().unwrap().map(Result::unwrap);
            lines.extend(records.map(|record| line(batch, record)));
        }
        offset = batches.last().unwrap().next_offset();
    }
}

fn segments(folder: &Path, id: PartitionId) -> Vec<PathBuf> {
    let dir = folder.join(format!("topics/{}/{}", id.topic, id.partition));
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut logs: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .collect();
    logs.sort();
    logs
}

/// What the tool prints of some segments.
fn dumped(tools: &Path, segments: &[PathBuf]) -> String {
    let names: Vec<_> = segments.iter().map(|path| path.to_str().unwrap()).collect();
    let output = Command::new("java")
        .arg("-cp")
        .arg(tools.join("libs/*"))
        .arg("kafka.tools.DumpLogSegments")
        .args(["--deep-iteration", "--print-data-log", "--files"])
        .arg(names.join(","))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    assert!(!text.contains("isvalid: false"), "a batch is not valid");
    // What it finds wrong it says and goes on.
    for wrong in ["Found", "Mismatches", "Non-consecutive", "not valid"] {
        assert!(!text.contains(wrong), "the tool says {wrong}");
    }
    text
}

fn golden(name: &str) -> Batch {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let text = std::fs::read_to_string(folder.join(format!("batch-v2-java-{name}.hex")));
    let text: String = text.unwrap().split_whitespace().collect();
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    let bytes: Bytes = (0..text.len()).step_by(2).map(byte).collect();
    Batch::from_producer(bytes).unwrap()
}

fn of(mut builder: BatchBuilder, from: u64, count: u64) -> Batch {
    for n in from..from + count {
        let key = (!n.is_multiple_of(3)).then(|| format!("key-{}", n % 40));
        let value = (!n.is_multiple_of(7)).then(|| format!("{{\"order\":{n},\"paid\":true}}"));
        let (key, value) = (key.as_deref(), value.as_deref());
        let id = n.to_string();
        let headers = [("ce_id", Some(id.as_bytes())), ("none", None)];
        builder
            .push(
                1_700_000_000_000 + n as i64 % 50,
                key.map(str::as_bytes),
                value.map(str::as_bytes),
                headers.into_iter(),
            )
            .unwrap();
    }
    builder.finish().unwrap()
}

fn fill(log: &Handle<common::Registers>, id: PartitionId) {
    for n in 0..400 {
        ok(log, Operation::Append(id, of(BatchBuilder::new(), n, 1)));
    }
    for name in ["gzip", "snappy", "lz4", "zstd"] {
        ok(log, Operation::Append(id, golden(name)));
    }
    for n in 0..5 {
        let builder = BatchBuilder::new().producer(Producer {
            id: 77,
            epoch: 1,
            base_sequence: n * 20,
        });
        ok(log, Operation::Append(id, of(builder, 1000, 20)));
    }
    let mut large = BatchBuilder::new();
    let value = vec![b'x'; LARGE_BYTES];
    large
        .push(5, Some(b"large"), Some(&value), std::iter::empty())
        .unwrap();
    ok(log, Operation::Append(id, large.finish().unwrap()));
    ok(log, Operation::Append(id, of(BatchBuilder::new(), 0, 3000)));
}

/// The codecs that the tool found, in the order in which it found them.
fn codecs(text: &str) -> Vec<&str> {
    let words = text.lines().filter_map(|line| {
        let rest = line.split_once("compresscodec: ")?.1;
        rest.split_whitespace().next()
    });
    let mut codecs: Vec<_> = words.collect();
    codecs.sort_unstable();
    codecs.dedup();
    codecs
}

#[test]
fn apache_kafkas_dump_log_segments_reads_our_segments() {
    let Some(tools) = tools() else { return };
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<dyn tidemill_log::Disk> = Arc::new(FileDisk::new(folder.path()));
    let mut options = Options::default();
    // Several segments a partition, so that names with other first offsets are read too.
    options.segment_max_bytes = 4 * 1024 * 1024;
    let kinds = [
        CompressionType::None,
        CompressionType::Lz4,
        CompressionType::Zstd,
    ];
    let log = open(&disk, &options).unwrap();
    for (number, kind) in kinds.into_iter().enumerate() {
        let id = partition(1, number as u32);
        let mut settings = PartitionSettings::default();
        settings.compression = kind;
        ok(&log, Operation::Create(id));
        ok(&log, Operation::Configure(id, settings));
        fill(&log, id);
        if kind == CompressionType::None {
            fill(&log, id);
        }
    }
    log.close();

    let log = open(&disk, &options).unwrap();
    for (number, kind) in kinds.into_iter().enumerate() {
        let id = partition(1, number as u32);
        let ours = ours(log.reader(), id);
        let segments = segments(folder.path(), id);
        assert!(kind != CompressionType::None || segments.len() > 1);
        let text = dumped(&tools, &segments);
        let theirs: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("| offset: "))
            .map(parsed)
            .collect();
        assert_eq!(theirs.len(), ours.len(), "{kind}");
        for (theirs, ours) in theirs.iter().zip(&ours) {
            assert!(
                theirs == ours,
                "{kind}: {} and {}",
                brief(theirs),
                brief(ours)
            );
        }
        let batches = text.lines().filter(|line| line.starts_with("baseOffset: "));
        assert!(batches.count() < 60, "{kind}: small batches were merged");
        assert_eq!(codecs(&text), ["gzip", "lz4", "none", "snappy", "zstd"]);
        println!("holds: {} records, {kind}", ours.len());
    }
    log.close();
}
