//! Ways to bring what was committed into segments, with nothing of the log around them: a thread
//! writes and syncs commits over and over in a file that is there already, and a second one writes
//! the same bytes to a file that grows; and records by reference, which are written once.

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Instant;

use rustix::fs::{FallocateFlags, fallocate};
use tidemill::Bytes;
use tidemill_log::driver::FileDisk;
use tidemill_log::{Disk as _, DiskFile};

use crate::overwrite::{Raw, Way};
use crate::report::{RAW_BYTES, Run, median};

const TURNS: usize = 3;
/// What a run commits.
const RUN_BYTES: u64 = 1024 * 1024 * 1024;
/// What may wait for the segment: the tails' default bound.
const TAIL_BYTES: usize = 64 * 1024 * 1024;
/// What a segment gets at once where commits are smaller: as the log gathers it.
const PIECE_BYTES: usize = 1024 * 1024;
/// How far behind the segment's end a consumer reads: a second or two.
const BEHIND_BYTES: u64 = 256 * 1024 * 1024;
/// A commit that names records instead of holding them.
const NAME_BYTES: usize = 4096;

/// How bytes get into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// They do not.
    None,
    /// Through the page cache, synced at the end.
    Buffered,
    /// The same, and the kernel is told to begin writing after each piece.
    Ranged,
    /// Past the page cache.
    Direct,
    /// Past the page cache and synced before the commit, which only names them.
    ByReference,
}

const WRITERS: [(Writer, &str); 5] = [
    (Writer::None, "none (the journal alone)"),
    (Writer::Buffered, "buffered"),
    (Writer::Ranged, "buffered, `sync_file_range`"),
    (Writer::Direct, "`O_DIRECT`"),
    (Writer::ByReference, "by reference, `O_DIRECT`"),
];

pub(crate) fn run(dir: &Path) -> Result<(), Box<dyn Error>> {
    println!(
        "{} MB a run, medians of {TURNS} runs that took turns; the segment's last sync counts; \
         the consumer reads {} MB behind\n",
        RUN_BYTES / 1_000_000,
        BEHIND_BYTES / 1_000_000
    );
    println!("| commits | segments | MB/s | p99 ms | MB/s with a consumer | p99 ms |");
    println!("|---|---|---|---|---|---|");
    for bytes in [64 * 1024, 1024 * 1024] {
        let mut rates = [const { [const { Vec::new() }; 2] }; WRITERS.len()];
        let mut waits = [const { [const { Vec::new() }; 2] }; WRITERS.len()];
        for _ in 0..TURNS {
            for (way, (writer, _)) in WRITERS.iter().enumerate() {
                for consumer in [false, true] {
                    let mut run = commit(dir, *writer, bytes, consumer)?;
                    rates[way][usize::from(consumer)].push(run.per_second() * bytes as f64 / 1e6);
                    waits[way][usize::from(consumer)].push(run.permille(990));
                }
            }
        }
        for (((_, name), rates), waits) in WRITERS.iter().zip(rates).zip(waits) {
            let [alone, read] = rates.map(median);
            let [alone_p99, read_p99] = waits.map(median);
            println!(
                "| {} KiB | {name} | {alone:.0} | {alone_p99:.2} | {read:.0} | {read_p99:.2} |",
                bytes / 1024
            );
        }
    }
    Ok(())
}

/// One run; its latencies are those of commits.
fn commit(dir: &Path, writer: Writer, bytes: usize, consumer: bool) -> io::Result<Run> {
    let journal = Raw::new(dir, RAW_BYTES, Way::Direct)?;
    let segment = Segment::new(dir, writer)?;
    let ended = AtomicBool::new(false);
    let begun = Instant::now();
    let mut run = thread::scope(|scope| {
        let reads = consumer && writer != Writer::None;
        let consumer = reads.then(|| scope.spawn(|| segment.follow(&ended)));
        let run = match writer {
            Writer::ByReference => by_reference(journal, &segment, bytes),
            _ => twice(journal, &segment, bytes),
        };
        ended.store(true, Ordering::Release);
        consumer.map_or(Ok(()), |reading| {
            reading.join().expect("the consumer does not panic")
        })?;
        run
    })?;
    run.whole = begun.elapsed();
    Ok(run)
}

/// The journal first, then the segment by its own thread, if at all.
fn twice(mut journal: Raw, segment: &Segment, bytes: usize) -> io::Result<Run> {
    thread::scope(|scope| {
        let (to_segment, commits) = sync_channel(TAIL_BYTES / bytes);
        let writing = scope.spawn(move || segment.write_all(&commits));
        let block = Bytes::from(vec![0x5a; bytes]);
        let mut run = Run::default();
        for _ in 0..RUN_BYTES / bytes as u64 {
            run.took.push(journal.one(std::slice::from_ref(&block))?);
            if segment.writer != Writer::None && to_segment.send(block.clone()).is_err() {
                break;
            }
        }
        drop(to_segment);
        writing.join().expect("the writer does not panic")?;
        Ok(run)
    })
}

/// The segment first, synced; then the commit that names it, while the next one is written.
fn by_reference(mut journal: Raw, segment: &Segment, bytes: usize) -> io::Result<Run> {
    thread::scope(|scope| {
        let (to_journal, written) = sync_channel::<Instant>(1);
        let naming = scope.spawn(move || {
            let name = [Bytes::from(vec![0x5a; NAME_BYTES])];
            let mut run = Run::default();
            for start in written {
                journal.one(&name)?;
                run.took.push(start.elapsed());
            }
            Ok(run)
        });
        let block = [Bytes::from(vec![0x5a; bytes])];
        for _ in 0..RUN_BYTES / bytes as u64 {
            let start = Instant::now();
            segment.write(&block)?;
            segment.sync()?;
            if to_journal.send(start).is_err() {
                break;
            }
        }
        drop(to_journal);
        naming.join().expect("the journal does not panic")
    })
}

/// A file that grows; removed at the end.
struct Segment {
    path: PathBuf,
    writer: Writer,
    /// For what the disk's own trait does not have.
    plain: File,
    file: Arc<dyn DiskFile>,
    written: AtomicU64,
}

impl Segment {
    fn new(dir: &Path, writer: Writer) -> io::Result<Self> {
        const NAME: &str = "tidemill-segment.tmp";
        let disk = match writer {
            Writer::Direct | Writer::ByReference => FileDisk::new(dir),
            Writer::None | Writer::Buffered | Writer::Ranged => FileDisk::new(dir).buffered(),
        };
        let file = disk.create(NAME)?;
        let path = dir.join(NAME);
        let plain = File::options().read(true).write(true).open(&path)?;
        fallocate(&plain, FallocateFlags::KEEP_SIZE, 0, RUN_BYTES)?;
        plain.sync_all()?;
        Ok(Self {
            path,
            writer,
            plain,
            file,
            written: AtomicU64::new(0),
        })
    }

    /// Writes what comes, small ones together, until nothing does; then syncs.
    fn write_all(&self, commits: &Receiver<Bytes>) -> io::Result<()> {
        while let Ok(first) = commits.recv() {
            let mut bytes = first.len();
            let mut pieces = vec![first];
            while bytes < PIECE_BYTES
                && let Ok(next) = commits.recv()
            {
                bytes += next.len();
                pieces.push(next);
            }
            self.write(&pieces)?;
        }
        self.sync()
    }

    fn write(&self, pieces: &[Bytes]) -> io::Result<()> {
        let at = self.written.load(Ordering::Relaxed);
        self.file.write_at(at, pieces)?;
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        if self.writer == Writer::Ranged {
            self.begin_writing(at, bytes as u64)?;
        }
        self.written.store(at + bytes as u64, Ordering::Release);
        Ok(())
    }

    #[allow(unsafe_code, reason = "no safe crate has it")]
    fn begin_writing(&self, at: u64, bytes: u64) -> io::Result<()> {
        let (at, bytes) = (at.cast_signed(), bytes.cast_signed());
        let fd = self.plain.as_raw_fd();
        // SAFETY: it takes numbers alone, and the descriptor is open.
        match unsafe { libc::sync_file_range(fd, at, bytes, libc::SYNC_FILE_RANGE_WRITE) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Reads what was written some time ago, until the end.
    fn follow(&self, ended: &AtomicBool) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = 0;
        while !ended.load(Ordering::Acquire) {
            if at + BEHIND_BYTES > self.written.load(Ordering::Acquire) {
                thread::yield_now();
                continue;
            }
            self.plain.read_exact_at(&mut piece, at)?;
            at += piece.len() as u64;
        }
        Ok(())
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
