//! As much of a client of Kafka as the measures need, in versions without tagged fields, which
//! Apache Kafka 4 and Tidemill both serve. One connection, one thing after another or many ahead.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::Fallible;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// What stands before a record's time in its value.
const MARK: &[u8; 8] = b"\xf0MADE-AT";

/// A request's or an answer's bytes, written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Out(pub(crate) Vec<u8>);

impl Out {
    pub(crate) fn i8(mut self, value: i8) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn i16(mut self, value: i16) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn i32(mut self, value: i32) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn i64(mut self, value: i64) -> Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub(crate) fn text(self, text: &str) -> Self {
        let mut out = self.i16(text.len() as i16);
        out.0.extend_from_slice(text.as_bytes());
        out
    }

    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        let mut out = self.i32(bytes.len() as i32);
        out.0.extend_from_slice(bytes);
        out
    }
}

/// The same, read.
pub(crate) struct In<'a>(pub(crate) &'a [u8]);

impl<'a> In<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Fallible<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("it is cut short")?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn i16(&mut self) -> Fallible<i16> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into()?))
    }

    pub(crate) fn i32(&mut self) -> Fallible<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into()?))
    }

    pub(crate) fn i64(&mut self) -> Fallible<i64> {
        Ok(i64::from_be_bytes(self.take(8)?.try_into()?))
    }

    /// A text, or bytes with a short length; none is empty.
    pub(crate) fn text(&mut self) -> Fallible<&'a [u8]> {
        let length = self.i16()?;
        self.take(usize::try_from(length).unwrap_or(0))
    }

    pub(crate) fn bytes(&mut self) -> Fallible<&'a [u8]> {
        let length = self.i32()?;
        self.take(usize::try_from(length).unwrap_or(0))
    }
}

fn well(error: i16, what: &str) -> Fallible<()> {
    match error {
        0 => Ok(()),
        code => Err(format!("{what} is answered with error {code}").into()),
    }
}

/// A connection to a broker.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn new(address: SocketAddr) -> Fallible<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::with_capacity(16 * 1024, stream),
        })
    }

    /// The same connection, for another thread that reads while this one writes.
    pub(crate) fn twin(&self) -> Fallible<Self> {
        Ok(Self {
            stream: BufReader::with_capacity(16 * 1024, self.stream.get_ref().try_clone()?),
        })
    }

    pub(crate) fn send(&mut self, key: i16, version: i16, body: &Out) -> Fallible<()> {
        let head = Out::default().i16(key).i16(version).i32(0).text("bench").0;
        let length = Out::default().i32((head.len() + body.0.len()) as i32).0;
        let whole = [length.as_slice(), &head, &body.0].concat();
        self.stream.get_mut().write_all(&whole)?;
        Ok(())
    }

    /// The body of the next answer.
    pub(crate) fn receive(&mut self) -> Fallible<Vec<u8>> {
        let mut head = [0; 8];
        self.stream.read_exact(&mut head)?;
        let length = In(&head).i32()?;
        let mut body = vec![0; usize::try_from(length)?.checked_sub(4).ok_or("no answer")?];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    pub(crate) fn ask(&mut self, key: i16, version: i16, body: &Out) -> Fallible<Vec<u8>> {
        self.send(key, version, body)?;
        self.receive()
    }

    /// What every client asks first.
    pub(crate) fn hello(&mut self) -> Fallible<()> {
        let answer = self.ask(18, 0, &Out::default())?;
        well(In(&answer).i16()?, "ApiVersions")
    }

    pub(crate) fn create_topic(&mut self, name: &str, partitions: i32) -> Fallible<()> {
        let topic = Out::default().i32(1).text(name).i32(partitions).i16(1);
        let body = topic.i32(0).i32(0).i32(30_000).i8(0);
        let answer = self.ask(19, 2, &body)?;
        let mut answer = In(&answer);
        let (_throttled, _topics) = (answer.i32()?, answer.i32()?);
        answer.text()?;
        well(answer.i16()?, "CreateTopics")?;
        // Apache Kafka makes it, and has a leader for it, some time after it has answered.
        let begun = Instant::now();
        loop {
            self.fetch(name, 0, 1)?;
            match self.fetched(0, &mut Vec::new()) {
                Ok(_) => return Ok(()),
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Asks for a batch to be kept, with acks=all.
    pub(crate) fn produce(&mut self, topic: &str, partition: i32, batch: &[u8]) -> Fallible<()> {
        let body = Out::default()
            .i16(-1)
            .i16(-1)
            .i32(30_000)
            .i32(1)
            .text(topic);
        self.send(0, 3, &body.i32(1).i32(partition).bytes(batch))
    }

    /// The answer to it.
    pub(crate) fn produced(&mut self) -> Fallible<()> {
        let answer = self.receive()?;
        let mut answer = In(&answer);
        answer.i32()?;
        answer.text()?;
        let (_partitions, _index) = (answer.i32()?, answer.i32()?);
        well(answer.i16()?, "Produce")
    }

    /// Asks for records of a partition, waiting up to half a second for the first one.
    pub(crate) fn fetch(&mut self, topic: &str, offset: i64, most: i32) -> Fallible<()> {
        let head = Out::default().i32(-1).i32(500).i32(1).i32(most).i8(0);
        let topic = head.i32(1).text(topic).i32(1);
        self.send(1, 4, &topic.i32(0).i64(offset).i32(most))
    }

    /// The answer to it: its records' bytes are in `records`; answers the offset behind them.
    pub(crate) fn fetched(&mut self, from: i64, records: &mut Vec<u8>) -> Fallible<i64> {
        let answer = self.receive()?;
        let mut answer = In(&answer);
        let (_throttled, _topics) = (answer.i32()?, answer.i32()?);
        answer.text()?;
        let (_partitions, _index) = (answer.i32()?, answer.i32()?);
        well(answer.i16()?, "Fetch")?;
        let (_high, _stable, _aborted) = (answer.i64()?, answer.i64()?, answer.i32()?);
        records.clear();
        records.extend_from_slice(answer.bytes()?);
        let (mut rest, mut next) = (In(records), from);
        // Of a batch that is cut short there is nothing.
        while let Some(batch) = batch(&mut rest) {
            next = batch?;
        }
        Ok(next)
    }
}

/// The offset behind the next whole batch.
fn batch(rest: &mut In<'_>) -> Option<Fallible<i64>> {
    let mut head = In(rest.0);
    let (first, length) = (head.i64().ok()?, head.i32().ok()?);
    let mut body = In(head.take(usize::try_from(length).ok()?).ok()?);
    rest.0 = head.0;
    let last = body.take(11).and_then(|_| body.i32());
    Some(last.map(|last| first + i64::from(last) + 1))
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// A batch of so many records of so many bytes, each made at this many nanoseconds.
pub(crate) fn batch_of(records: i32, bytes: usize, made: u64) -> Vec<u8> {
    let mut value = [MARK.as_slice(), &made.to_be_bytes()].concat();
    value.resize(bytes.max(value.len()), b'x');
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_millis() as i64);
    let last = records - 1;
    // Attributes, last offset, times, no producer, number of records.
    let head = Out::default().i16(0).i32(last).i64(now).i64(now);
    let mut checked = head.i64(-1).i16(-1).i32(-1).i32(records).0;
    for offset in 0..records {
        let mut record = vec![0, 0];
        varint(&mut record, i64::from(offset));
        varint(&mut record, -1);
        varint(&mut record, value.len() as i64);
        record.extend_from_slice(&value);
        record.push(0);
        varint(&mut checked, record.len() as i64);
        checked.extend_from_slice(&record);
    }
    let length = checked.len() as i32 + 9;
    let head = Out::default().i64(0).i32(length).i32(-1).i8(2);
    let sum = crc32c::crc32c(&checked).to_be_bytes();
    [head.0.as_slice(), &sum, &checked].concat()
}

/// When the records in these bytes were made.
pub(crate) fn made_at(records: &[u8], mut told: impl FnMut(u64)) {
    let mut rest = records;
    while let Some(at) = rest.windows(MARK.len()).position(|part| part == MARK) {
        rest = rest.get(at + MARK.len()..).unwrap_or_default();
        if let Some(made) = rest.first_chunk() {
            told(u64::from_be_bytes(*made));
        }
    }
}
