//! Where the parts of a record lie: the one place that takes a record's bytes apart.
//!
//! No number from the wire is trusted or used to reserve memory, and nothing is copied. This
//! room may not know a batch's header.

use std::ops::Range;

use super::varint;

const SHORT: &str = "its bytes end too early";
const VARINT: &str = "a number in it does not end or does not fit";

/// Where a record's parts lie in the bytes that hold it.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) time_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) key: Option<Range<usize>>,
    pub(super) value: Option<Range<usize>>,
    pub(super) headers: Range<usize>,
    pub(super) header_count: u32,
    /// Where the next record begins.
    pub(super) end: usize,
}

impl Shape {
    /// The record that begins at `at`.
    pub(super) fn read(bytes: &[u8], at: usize) -> Result<Self, &'static str> {
        let mut cursor = Cursor { bytes, at };
        let length = cursor.length()?.ok_or("its length is negative")?;
        let end = cursor.ahead(length)?;
        let mut cursor = Cursor {
            bytes: bytes.get(..end).ok_or(SHORT)?,
            at: cursor.at,
        };
        cursor.at = cursor.ahead(1)?;
        let time_delta = cursor.varint_64()?;
        let offset_delta = cursor.varint_32()?;
        let key = cursor.optional()?;
        let value = cursor.optional()?;
        let header_count = cursor.varint_32()?;
        let header_count =
            u32::try_from(header_count).map_err(|_| "its header count is negative")?;
        let headers_from = cursor.at;
        for _ in 0..header_count {
            cursor.header()?;
        }
        if cursor.at != end {
            return Err("it is longer than its parts");
        }
        Ok(Self {
            time_delta,
            offset_delta,
            key,
            value,
            headers: headers_from..end,
            header_count,
            end,
        })
    }
}

/// A checked walk over bytes.
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Where `length` bytes from here end, if they are there.
    fn ahead(&self, length: usize) -> Result<usize, &'static str> {
        let end = self.at.checked_add(length).ok_or(SHORT)?;
        if end > self.bytes.len() {
            return Err(SHORT);
        }
        Ok(end)
    }

    fn varint_64(&mut self) -> Result<i64, &'static str> {
        let (value, size) = varint::get_64(self.rest()).ok_or(VARINT)?;
        self.at += size;
        Ok(value)
    }

    fn varint_32(&mut self) -> Result<i32, &'static str> {
        let (value, size) = varint::get_32(self.rest()).ok_or(VARINT)?;
        self.at += size;
        Ok(value)
    }

    /// A length: `None` for -1.
    fn length(&mut self) -> Result<Option<usize>, &'static str> {
        match self.varint_32()? {
            -1 => Ok(None),
            length => usize::try_from(length)
                .map(Some)
                .map_err(|_| "a length in it is negative"),
        }
    }

    fn optional(&mut self) -> Result<Option<Range<usize>>, &'static str> {
        let Some(length) = self.length()? else {
            return Ok(None);
        };
        let range = self.at..self.ahead(length)?;
        self.at = range.end;
        Ok(Some(range))
    }

    /// A header's name, and where its value lies.
    pub(super) fn header(&mut self) -> Result<(&'a str, Option<Range<usize>>), &'static str> {
        let length = self.length()?.ok_or("a header has no name")?;
        let end = self.ahead(length)?;
        let name = self.bytes.get(self.at..end).ok_or(SHORT)?;
        let name = std::str::from_utf8(name).map_err(|_| "a header's name is not UTF-8")?;
        self.at = end;
        Ok((name, self.optional()?))
    }
}
