//! The least that a server has to do with records that must be durable: receive them, write them
//! twice and sync them. It knows just enough of the protocol for a producer to send them.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::Fallible;
use crate::wire::{In, Out};

/// Keys and versions that are served.
const SERVED: [(i16, i16); 3] = [(0, 3), (3, 1), (18, 0)];
/// Bytes that the first of the two writes goes round in, as a journal does.
const JOURNAL: u64 = 512 << 20;

pub(crate) fn serve(port: &str, folder: &Path) -> Fallible<()> {
    std::fs::create_dir_all(folder)?;
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?))?;
    let address = listener.local_addr()?;
    let journal = File::create(folder.join("journal"))?;
    let zeroes = vec![0; 1 << 20];
    for at in 0..JOURNAL >> 20 {
        journal.write_all_at(&zeroes, at << 20)?;
    }
    journal.sync_all()?;
    for stream in listener.incoming() {
        let (stream, journal) = (stream?, journal.try_clone()?);
        let segment = File::options()
            .create(true)
            .append(true)
            .open(folder.join("segment"))?;
        std::thread::spawn(move || {
            let kept = Kept {
                journal,
                segment,
                at: 0,
            };
            let _ = connection(stream, address, kept);
        });
    }
    Ok(())
}

struct Kept {
    journal: File,
    segment: File,
    at: u64,
}

impl Kept {
    fn keep(&mut self, records: &[u8]) -> Fallible<()> {
        if self.at + records.len() as u64 > JOURNAL {
            self.segment.sync_data()?;
            self.at = 0;
        }
        self.journal.write_all_at(records, self.at)?;
        self.journal.sync_data()?;
        self.at += records.len() as u64;
        self.segment.write_all(records)?;
        Ok(())
    }
}

fn connection(mut stream: TcpStream, address: SocketAddr, mut kept: Kept) -> Fallible<()> {
    stream.set_nodelay(true)?;
    let mut body = Vec::new();
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        body.resize(usize::try_from(i32::from_be_bytes(length))?, 0);
        stream.read_exact(&mut body)?;
        let mut request = In(&body);
        let (key, version, id) = (request.i16()?, request.i16()?, request.i32()?);
        request.text()?;
        let out = Out::default().i32(id);
        let out = match key {
            18 => api_versions(out, version),
            3 => metadata(out, request, address)?,
            _ => produce(out, request, &mut kept)?,
        };
        let whole = Out::default().bytes(&out.0);
        stream.write_all(&whole.0)?;
    }
}

fn api_versions(out: Out, version: i16) -> Out {
    // Newer clients ask again as they are told.
    let out = out.i16(if version == 0 { 0 } else { 35 });
    let out = out.i32(SERVED.len() as i32);
    let each = |out: Out, (key, version): (i16, i16)| out.i16(key).i16(version).i16(version);
    SERVED.into_iter().fold(out, each)
}

fn metadata(out: Out, mut request: In<'_>, address: SocketAddr) -> Fallible<Out> {
    let topics = request.i32()?;
    let port = i32::from(address.port());
    let broker = out.i32(1).i32(0).text("127.0.0.1").i32(port).i16(-1);
    let mut out = broker.i32(0).i32(topics.max(0));
    for _ in 0..topics {
        let name = std::str::from_utf8(request.text()?)?;
        let partition = out.i16(0).text(name).i8(0).i32(1).i16(0);
        out = partition.i32(0).i32(0).i32(1).i32(0).i32(1).i32(0);
    }
    Ok(out)
}

fn produce(mut out: Out, mut request: In<'_>, kept: &mut Kept) -> Fallible<Out> {
    request.text()?;
    let (_acks, _timeout, topics) = (request.i16()?, request.i32()?, request.i32()?);
    out = out.i32(topics);
    for _ in 0..topics {
        let name = std::str::from_utf8(request.text()?)?;
        let partitions = request.i32()?;
        out = out.text(name).i32(partitions);
        for _ in 0..partitions {
            let index = request.i32()?;
            kept.keep(request.bytes()?)?;
            out = out.i32(index).i16(0).i64(0).i64(-1);
        }
    }
    Ok(out.i32(0))
}
