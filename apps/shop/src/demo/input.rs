//! A replayed file as it is read: by a thread of its own, so that a pipe whose writer pauses, and
//! a file that has no end, keep nobody from ending the demo. Knows nothing of what it reads.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::watch;

/// How much is read at once, in bytes, and how many of these wait.
const CHUNK_BYTES: usize = 64 * 1024;
const CHUNKS_MAX: usize = 4;

/// How often a reader that waits looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);

/// Reads a file until its end, or until `stop` is true: then reading fails. It never fails as
/// [`io::ErrorKind::Interrupted`], which readers take as a word to try again.
pub(super) struct Input {
    chunks: Receiver<io::Result<Vec<u8>>>,
    chunk: io::Cursor<Vec<u8>>,
    stop: watch::Receiver<bool>,
}

impl Input {
    /// Begins to read. The thread ends with the file or, at its next piece, with this.
    pub(super) fn open(file: &Path, stop: watch::Receiver<bool>) -> io::Result<Self> {
        let file = file.to_owned();
        let (to, chunks) = sync_channel(CHUNKS_MAX);
        std::thread::Builder::new()
            .name("shop-input".to_owned())
            // A named pipe opens when its writer does, so that is waited for there, too.
            .spawn(move || match File::open(file) {
                Ok(from) => pump(from, &to),
                // Nobody wants it any more.
                Err(error) => drop(to.send(Err(error))),
            })?;
        Ok(Self {
            chunks,
            chunk: io::Cursor::default(),
            stop,
        })
    }
}

fn pump(mut from: impl Read, to: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = match from.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => {
                chunk.truncate(count);
                Ok(chunk)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let failed = read.is_err();
        if to.send(read).is_err() || failed {
            return;
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if *self.stop.borrow() {
                return Err(io::Error::other("the demo ends before the file"));
            }
            let count = self.chunk.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            match self.chunks.recv_timeout(LOOK) {
                Ok(chunk) => self.chunk = io::Cursor::new(chunk?),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_whole_and_one_without_an_end_until_the_stop() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let bytes: Vec<u8> = (0..=250).cycle().take(5 * CHUNK_BYTES + 7).collect();
        std::fs::write(&file, &bytes).unwrap();
        let (stop, stopped) = watch::channel(false);
        let mut read = Vec::new();
        let whole = Input::open(&file, stopped.clone()).and_then(|mut i| i.read_to_end(&mut read));
        assert_eq!(whole.unwrap(), bytes.len());
        assert_eq!(read, bytes);
        let mut zeros = Input::open(Path::new("/dev/zero"), stopped.clone()).unwrap();
        zeros.read_exact(&mut read).unwrap();
        stop.send_replace(true);
        assert!(zeros.read_to_end(&mut read).is_err());
        let gone = Input::open(&folder.path().join("none"), watch::channel(false).1);
        let error = gone.unwrap().read(&mut read).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
