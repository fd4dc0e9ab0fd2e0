//! The codecs that a batch's records may be packed with, as Kafka writes them for magic 2.
//!
//! All five are read; none, LZ4 and zstd are written. Nothing a stranger says becomes memory
//! beyond [`UNCOMPRESSED_MAX_BYTES`]: whatever unpacks to more is refused at that bound. This
//! room knows bytes alone, not what a record is.

use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;

use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::BatchError;
use crate::limits::UNCOMPRESSED_MAX_BYTES;

/// How the records of a batch are packed, in the order of the numbers in its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy, in Kafka's (xerial) framing or without any.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

/// How batches are packed on their way into a partition's segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompressionType {
    /// Not at all.
    #[default]
    None,
    /// LZ4 frames: a third of the size of JSON events, at little cost.
    Lz4,
    /// Zstandard at its quickest level: half of LZ4's size again.
    Zstd,
}

impl CompressionType {
    /// What a batch says that was packed so.
    #[must_use]
    pub fn codec(self) -> Compression {
        match self {
            Self::None => Compression::None,
            Self::Lz4 => Compression::Lz4,
            Self::Zstd => Compression::Zstd,
        }
    }

    /// Whether this build can write it: zstd needs the feature `zstd`.
    #[must_use]
    pub fn is_built(self) -> bool {
        self != Self::Zstd || cfg!(feature = "zstd")
    }
}

impl fmt::Display for CompressionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.codec().fmt(f)
    }
}

impl FromStr for CompressionType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "lz4" => Ok(Self::Lz4),
            "zstd" => Ok(Self::Zstd),
            other => Err(format!(
                "{other:?} is no compression; use none, lz4 or zstd"
            )),
        }
    }
}

/// The packed bytes as they were before.
///
/// # Errors
/// [`BatchError::Codec`] where they are not what the codec writes, [`BatchError::Bomb`] where
/// they unpack to more than the bound.
pub(super) fn unpack(codec: Compression, packed: &[u8]) -> Result<Vec<u8>, BatchError> {
    let unpacked = match codec {
        Compression::None => Ok(packed.to_vec()),
        Compression::Gzip => gzip(packed),
        Compression::Snappy => snappy(packed),
        Compression::Lz4 => lz4(packed),
        Compression::Zstd => zstd(packed),
    };
    unpacked.map_err(|why| match why {
        Stop::Bound => BatchError::Bomb {
            codec,
            max_bytes: UNCOMPRESSED_MAX_BYTES,
        },
        Stop::Broken(why) => BatchError::Codec { codec, why },
    })
}

/// Packs bytes; `None` where that does not make them fewer, or where this build cannot.
pub(super) fn pack(to: CompressionType, bytes: &[u8]) -> Option<Vec<u8>> {
    let packed = match to {
        CompressionType::None => return None,
        CompressionType::Lz4 => pack_lz4(bytes)?,
        CompressionType::Zstd => pack_zstd(bytes)?,
    };
    (packed.len() < bytes.len()).then_some(packed)
}

/// Why unpacking ended early.
enum Stop {
    Bound,
    Broken(String),
}

fn broken<T>(why: impl fmt::Display) -> Result<T, Stop> {
    Err(Stop::Broken(why.to_string()))
}

/// Everything that `reader` gives, up to the bound.
fn read_all(reader: &mut impl Read) -> Result<Vec<u8>, Stop> {
    let mut bytes = Vec::new();
    let bound = UNCOMPRESSED_MAX_BYTES as u64 + 1;
    match reader.take(bound).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() > UNCOMPRESSED_MAX_BYTES => Err(Stop::Bound),
        Ok(_) => Ok(bytes),
        Err(error) => broken(error),
    }
}

fn gzip(packed: &[u8]) -> Result<Vec<u8>, Stop> {
    if packed.is_empty() {
        return broken("there is no gzip member");
    }
    read_all(&mut MultiGzDecoder::new(packed))
}

/// The magic number of an LZ4 frame.
const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

fn lz4(packed: &[u8]) -> Result<Vec<u8>, Stop> {
    if !packed.starts_with(&LZ4_MAGIC) {
        return broken("there is no LZ4 frame");
    }
    let mut decoder = FrameDecoder::new(packed);
    let bytes = read_all(&mut decoder)?;
    match decoder.into_inner() {
        [] => Ok(bytes),
        _ => broken("bytes follow the LZ4 frame"),
    }
}

/// Independent blocks without content checksum: what Kafka's own readers take.
fn pack_lz4(bytes: &[u8]) -> Option<Vec<u8>> {
    let size = match bytes.len() {
        0..=0x1_0000 => BlockSize::Max64KB,
        _ => BlockSize::Max256KB,
    };
    let info = FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .block_size(size);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::with_capacity(bytes.len() / 2));
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

/// How Kafka's snappy streams begin: a magic, then two versions of four bytes.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;
/// Three bytes of snappy give at most 64.
const SNAPPY_RATIO_MAX: usize = 22;

fn snappy(packed: &[u8]) -> Result<Vec<u8>, Stop> {
    let mut bytes = Vec::new();
    if !packed.starts_with(&XERIAL_MAGIC) {
        snappy_block(packed, &mut bytes)?;
        return Ok(bytes);
    }
    let Some(mut rest) = packed.get(XERIAL_HEADER_BYTES..) else {
        return broken("the snappy stream's header is cut off");
    };
    while !rest.is_empty() {
        let Some((length, after)) = rest.split_first_chunk() else {
            return broken("a snappy block's length is cut off");
        };
        let length = u32::from_be_bytes(*length) as usize;
        let Some((block, after)) = after.split_at_checked(length) else {
            return broken("a snappy block is cut off");
        };
        snappy_block(block, &mut bytes)?;
        rest = after;
    }
    Ok(bytes)
}

/// Appends what one block holds. What it claims to hold is believed where snappy could say that
/// much in so few bytes.
fn snappy_block(block: &[u8], out: &mut Vec<u8>) -> Result<(), Stop> {
    let claimed = match snap::raw::decompress_len(block) {
        Ok(claimed) => claimed,
        Err(error) => return broken(error),
    };
    if out.len() + claimed > UNCOMPRESSED_MAX_BYTES {
        return Err(Stop::Bound);
    }
    if claimed > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return broken("a snappy block claims more than its bytes can hold");
    }
    let start = out.len();
    out.resize(start + claimed, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    match snap::raw::Decoder::new().decompress(block, room) {
        Ok(size) if size == claimed => Ok(()),
        Ok(_) => broken("a snappy block holds less than it claims"),
        Err(error) => broken(error),
    }
}

/// The quickest of zstd's ordinary levels.
#[cfg(feature = "zstd")]
const ZSTD_LEVEL: i32 = 1;

/// Unpacks in one step into memory that is the output alone: no window of the writer's choice is
/// set aside. Where the frame does not say its size, the room is doubled until it is enough.
#[cfg(feature = "zstd")]
fn zstd(packed: &[u8]) -> Result<Vec<u8>, Stop> {
    use zstd::zstd_safe::{self, DCtx, zstd_sys::ZSTD_ErrorCode};

    const FIRST_ROOM_BYTES: usize = 4096;
    let too_small = (ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as usize).wrapping_neg();
    let mut room = match zstd_safe::get_frame_content_size(packed) {
        Ok(Some(size)) if size > UNCOMPRESSED_MAX_BYTES as u64 => return Err(Stop::Bound),
        Ok(Some(size)) => size as usize,
        Ok(None) => packed.len().saturating_mul(4).max(FIRST_ROOM_BYTES),
        Err(_) => return broken("there is no zstd frame"),
    };
    let Some(mut context) = DCtx::try_create() else {
        return broken("there is no memory to unpack it");
    };
    loop {
        room = room.min(UNCOMPRESSED_MAX_BYTES);
        let mut bytes = Vec::with_capacity(room);
        match context.decompress(&mut bytes, packed) {
            Ok(_) if bytes.len() > UNCOMPRESSED_MAX_BYTES => return Err(Stop::Bound),
            Ok(_) => return Ok(bytes),
            Err(code) if code == too_small && room == UNCOMPRESSED_MAX_BYTES => {
                return Err(Stop::Bound);
            }
            Err(code) if code == too_small => room = (room * 2).max(FIRST_ROOM_BYTES),
            Err(code) => return broken(zstd_safe::get_error_name(code)),
        }
    }
}

#[cfg(feature = "zstd")]
fn pack_zstd(bytes: &[u8]) -> Option<Vec<u8>> {
    // Room for less than there is: what does not fit is not worth packing.
    let mut packed = Vec::with_capacity(bytes.len());
    zstd::zstd_safe::compress(&mut packed, bytes, ZSTD_LEVEL).ok()?;
    Some(packed)
}

#[cfg(not(feature = "zstd"))]
fn zstd(_: &[u8]) -> Result<Vec<u8>, Stop> {
    broken("this program was built without the feature zstd")
}

#[cfg(not(feature = "zstd"))]
fn pack_zstd(_: &[u8]) -> Option<Vec<u8>> {
    None
}
