//! The physical lines of a file, each of bounded length, whatever the file holds. Knows nothing
//! of columns.

use std::io::{self, BufRead, Read};

use crate::limits::{CSV_LINE_END_MAX_BYTES, CSV_LINE_MAX_BYTES};

/// One line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RawLine<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// Its first [`CSV_LINE_MAX_BYTES`]; the rest was passed over.
    TooLong(&'a [u8]),
}

/// Reads lines one after another into one buffer.
pub(crate) struct Lines<R> {
    from: R,
    buffer: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(from: R) -> Self {
        Self {
            from,
            buffer: Vec::new(),
            number: 0,
        }
    }

    /// The next line and its number, from 1; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, RawLine<'_>)>> {
        self.buffer.clear();
        let limit = CSV_LINE_MAX_BYTES as u64;
        let read = (&mut self.from)
            .take(limit)
            .read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let ended = self.buffer.ends_with(b"\n");
        if !ended && read == CSV_LINE_MAX_BYTES && self.skip_rest()? {
            return Ok(Some((self.number, RawLine::TooLong(&self.buffer))));
        }
        let line = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Ok(Some((self.number, RawLine::Whole(line))))
    }

    /// Passes over the rest of a line; whether there was any.
    fn skip_rest(&mut self) -> io::Result<bool> {
        let mut any = false;
        let mut passed = self.buffer.len();
        loop {
            let waiting = self.from.fill_buf()?;
            if waiting.is_empty() {
                return Ok(any);
            }
            let end = waiting.iter().position(|b| *b == b'\n');
            any |= end != Some(0);
            let pass = end.map_or(waiting.len(), |at| at + 1);
            self.from.consume(pass);
            passed += pass;
            if end.is_some() {
                return Ok(any);
            }
            if passed > CSV_LINE_END_MAX_BYTES {
                let why = format!(
                    "line {} does not end within {CSV_LINE_END_MAX_BYTES} bytes; name a CSV file",
                    self.number
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Vec<(u64, bool, usize)> {
        let mut lines = Lines::new(text);
        let mut out = Vec::new();
        while let Some((number, line)) = lines.next().unwrap() {
            match line {
                RawLine::Whole(bytes) => out.push((number, true, bytes.len())),
                RawLine::TooLong(bytes) => out.push((number, false, bytes.len())),
            }
        }
        out
    }

    #[test]
    fn ends_of_lines_are_taken_off() {
        assert_eq!(
            all(b"ab\r\n\nc"),
            [(1, true, 2), (2, true, 0), (3, true, 1)]
        );
        assert_eq!(all(b""), []);
    }

    #[test]
    fn an_endless_line_costs_its_bound_and_the_next_one_is_read() {
        let mut text = vec![b'x'; 5 * CSV_LINE_MAX_BYTES];
        text.extend_from_slice(b"\nnext\n");
        assert_eq!(all(&text), [(1, false, CSV_LINE_MAX_BYTES), (2, true, 4)]);
    }

    #[test]
    fn a_line_without_an_end_is_given_up() {
        let zeros = io::BufReader::new(io::repeat(0));
        let error = Lines::new(zeros).next().unwrap_err().to_string();
        assert!(error.contains("line 1 does not end within"), "{error}");
    }

    #[test]
    fn a_line_of_exactly_the_bound_is_whole() {
        let mut text = vec![b'x'; CSV_LINE_MAX_BYTES];
        assert_eq!(all(&text), [(1, true, CSV_LINE_MAX_BYTES)]);
        text.extend_from_slice(b"\ny\n");
        assert_eq!(all(&text), [(1, true, CSV_LINE_MAX_BYTES), (2, true, 1)]);
    }
}
