//! Few bytes that unpack to very many: refused at the bound, long before they are there.

use crate::forge::{batch_of, event, pack, rebuilt};
use tidemill_log::batch::{Batch, BatchError, Compression};
use tidemill_log::limits::{BATCH_MAX_BYTES, UNCOMPRESSED_MAX_BYTES};

/// How full the packed bodies are made.
const PACKED_BYTES: usize = BATCH_MAX_BYTES - 1024 * 1024;

fn refused(codec: Compression, body: Vec<u8>) {
    let plain = batch_of(&[event(0)]);
    let bytes = rebuilt(&plain, codec, |_| body);
    let bomb = BatchError::Bomb {
        codec,
        max_bytes: UNCOMPRESSED_MAX_BYTES,
    };
    assert_eq!(Batch::from_producer(bytes.clone()).unwrap_err(), bomb);
    let (batch, _) = Batch::parse(bytes).unwrap();
    assert_eq!(batch.check_records().unwrap_err(), bomb);
    let mut records = batch.records();
    assert_eq!(records.next().unwrap().unwrap_err(), bomb);
    assert!(records.next().is_none());
}

fn repeated(part: &[u8], max_bytes: usize) -> Vec<u8> {
    part.repeat(max_bytes / part.len())
}

#[test]
fn just_above_the_bound_is_refused_in_every_codec() {
    let zeros = vec![0; UNCOMPRESSED_MAX_BYTES + 1];
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        refused(codec, pack(codec, &zeros));
    }
}

#[test]
fn gzip_members_of_thirty_gigabytes_are_refused() {
    let member = pack(Compression::Gzip, &vec![0; 1024 * 1024]);
    refused(Compression::Gzip, repeated(&member, PACKED_BYTES));
}

#[test]
fn lz4_blocks_of_gigabytes_are_refused() {
    let frame = pack(Compression::Lz4, &vec![0; 64 * 1024]);
    // Magic, two flags and their checksum; then the block; then the end's mark.
    let (head, block) = (&frame[..7], &frame[7..frame.len() - 4]);
    let blocks = repeated(block, PACKED_BYTES);
    refused(Compression::Lz4, [head, &blocks, &[0; 4]].concat());
}

#[test]
fn snappy_blocks_of_hundreds_of_megabytes_are_refused() {
    let stream = pack(Compression::Snappy, &vec![0; 32 * 1024]);
    let (head, block) = stream.split_at(16);
    let blocks = repeated(block, PACKED_BYTES);
    refused(Compression::Snappy, [head, &blocks].concat());
}

#[test]
fn a_snappy_block_that_claims_gigabytes_is_refused() {
    refused(Compression::Snappy, vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
}

#[test]
fn zstd_blocks_of_a_terabyte_are_refused() {
    // A frame header without a size: a window of 128 KiB. A block that repeats one byte 128 KiB
    // times is four bytes long.
    let head = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x38];
    let block = [0x02, 0x00, 0x10, 0x00];
    let blocks = repeated(&block, PACKED_BYTES);
    refused(Compression::Zstd, [&head[..], &blocks, &[1, 0, 0]].concat());
}

#[test]
fn a_zstd_frame_that_claims_a_terabyte_is_refused() {
    // A single segment, eight bytes of size, one block that ends it.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
    frame.extend_from_slice(&(1u64 << 40).to_le_bytes());
    frame.extend_from_slice(&[1, 0, 0]);
    refused(Compression::Zstd, frame);
}
