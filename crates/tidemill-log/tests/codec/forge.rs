//! Batches as a stranger could send them: any codec, any body, any header, a right checksum.

use std::io::Write;

use bytes::Bytes;
use tidemill_log::batch::{Batch, BatchBuilder, Compression, HEADER_BYTES};

pub(crate) const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

pub(crate) struct Pieces {
    pub(crate) time: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Pieces {
    pub(crate) fn push(&self, builder: &mut BatchBuilder) {
        let headers = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()));
        builder
            .push(
                self.time,
                self.key.as_deref(),
                self.value.as_deref(),
                headers,
            )
            .unwrap();
    }
}

/// A record like an event's.
pub(crate) fn event(n: u64) -> Pieces {
    Pieces {
        time: 1_700_000_000_000 + (n as i64 * 37) % 100,
        key: (!n.is_multiple_of(3)).then(|| format!("key-{}", n % 50).into_bytes()),
        value: (!n.is_multiple_of(7)).then(|| {
            format!(
                "{{\"order\":{n},\"state\":\"paid\",\"customer\":\"c-{}\"}}",
                n % 90
            )
            .into_bytes()
        }),
        headers: vec![
            ("ce_id".to_owned(), Some(n.to_string().into_bytes())),
            ("ce_type".to_owned(), Some(b"order_paid".to_vec())),
            ("none".to_owned(), None),
        ],
    }
}

pub(crate) fn batch_of(records: &[Pieces]) -> Batch {
    let mut builder = BatchBuilder::new();
    records.iter().for_each(|record| record.push(&mut builder));
    builder.finish().unwrap()
}

/// Bytes of a batch that another encoder made.
pub(crate) fn golden(name: &str) -> Bytes {
    let path = format!(
        "{}/tests/golden/batch-v2-{name}.hex",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(path).unwrap();
    let text: String = text.split_whitespace().collect();
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

/// Every record in one line.
pub(crate) fn texts(batch: &Batch) -> Vec<String> {
    let text = |bytes: Option<Bytes>| bytes.map(|b| String::from_utf8_lossy(&b).into_owned());
    let records = batch.checked_records().unwrap().map(Result::unwrap);
    records
        .map(|record| {
            let headers: Vec<_> = record
                .headers
                .iter()
                .map(|header| format!("{}={:?}", header.name, text(header.value)))
                .collect();
            format!(
                "{} {} {:?} {:?} {}",
                record.offset.0 - batch.base_offset().0,
                record.timestamp_ms,
                text(record.key.clone()),
                text(record.value.clone()),
                headers.join(" ")
            )
        })
        .collect()
}

/// Packs as the codecs' own libraries do.
pub(crate) fn pack(codec: Compression, body: &[u8]) -> Vec<u8> {
    match codec {
        Compression::None => body.to_vec(),
        Compression::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Snappy => {
            let mut packed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
            for block in body.chunks(32 * 1024) {
                let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
                packed.extend_from_slice(&(block.len() as u32).to_be_bytes());
                packed.extend_from_slice(&block);
            }
            packed
        }
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        // Streamed: such a frame does not say its size.
        Compression::Zstd => zstd::stream::encode_all(body, 3).unwrap(),
    }
}

/// The batch with another body under a codec's number.
pub(crate) fn rebuilt(
    batch: &Batch,
    codec: Compression,
    body: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Bytes {
    forged(batch, codec, body, |_| {})
}

/// The batch with another body and a changed header, under a right length and checksum.
pub(crate) fn forged(
    batch: &Batch,
    codec: Compression,
    body: impl FnOnce(&[u8]) -> Vec<u8>,
    change: impl FnOnce(&mut [u8]),
) -> Bytes {
    let (header, own) = batch.as_bytes().split_at(HEADER_BYTES);
    let mut bytes = [header, &body(own)].concat();
    let length = bytes.len() as i32 - 12;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[22] = bytes[22] & !7 | codec as u8;
    change(&mut bytes);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}
