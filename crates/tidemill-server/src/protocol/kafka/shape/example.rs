//! Requests of a shape, for tests and fuzzers: well formed, and of no sense.

use super::{Field, Kind, Shape};

/// Takes its choices from the seed's bytes, over and over.
struct Choices<'a>(std::iter::Cycle<std::slice::Iter<'a, u8>>);

impl Choices<'_> {
    fn below(&mut self, bound: u8) -> u8 {
        self.0.next().copied().unwrap_or(0) % bound
    }
}

impl Shape {
    /// Some request of this shape.
    pub(in super::super) fn example(&self, version: i16, seed: &[u8]) -> Vec<u8> {
        let mut choices = Choices(seed.iter().cycle());
        let compact = self.is_flexible(version);
        let mut out = Vec::new();
        fields(self.fields, version, compact, &mut choices, &mut out);
        if compact {
            tags(
                self.tagged_text,
                self.fields,
                version,
                &mut choices,
                &mut out,
            );
        }
        out
    }
}

fn fields(all: &[Field], version: i16, compact: bool, from: &mut Choices, out: &mut Vec<u8>) {
    for field in all {
        if (field.since..=field.until).contains(&version) {
            one(&field.kind, version, compact, from, out);
        }
    }
}

fn one(kind: &Kind, version: i16, compact: bool, from: &mut Choices, out: &mut Vec<u8>) {
    match kind {
        Kind::Fixed(bytes) => out.extend((0..*bytes).map(|_| from.below(128))),
        Kind::Text | Kind::Bytes => {
            let count = from.below(4);
            match (compact, kind) {
                (true, _) => out.push(count + 1),
                (false, Kind::Text) => out.extend([0, count]),
                (false, _) => out.extend([0, 0, 0, count]),
            }
            // Of few letters, so that the same names come again.
            out.extend((0..count).map(|_| b'a' + from.below(2)));
        }
        Kind::Array(of) => {
            let count = from.below(4);
            match compact {
                true => out.push(count + 1),
                false => out.extend([0, 0, 0, count]),
            }
            for _ in 0..count {
                one(of, version, compact, from, out);
            }
        }
        Kind::Group(all) => {
            fields(all, version, compact, from, out);
            if compact {
                tags(None, all, version, from, out);
            }
        }
        Kind::Maybe(_) if from.below(2) == 0 => out.push(0xff),
        Kind::Maybe(all) => {
            out.push(1);
            one(&Kind::Group(all), version, compact, from, out);
        }
        Kind::Tagged(..) => {}
    }
}

fn tags(text: Option<u32>, all: &[Field], version: i16, from: &mut Choices, out: &mut Vec<u8>) {
    let number = u32::from(from.below(2));
    let known = all.iter().find_map(|field| field.tagged(number, version));
    if let Some(kind) = known.filter(|_| from.below(2) == 0) {
        let mut inner = Vec::new();
        one(kind, version, true, from, &mut inner);
        // Of a length that is one byte of a varint.
        let short = u8::try_from(inner.len()).ok().filter(|bytes| *bytes < 128);
        if let (Some(bytes), Ok(number)) = (short, u8::try_from(number)) {
            out.extend([1, number, bytes]);
            return out.extend(inner);
        }
    }
    match (text, from.below(3)) {
        (Some(tag), 0) => out.extend([1, tag as u8, 3, 3, b'o', b'k']),
        (_, 1) => out.extend([2, 100, 1, 7, 101, 0]),
        _ => out.push(0),
    }
}
