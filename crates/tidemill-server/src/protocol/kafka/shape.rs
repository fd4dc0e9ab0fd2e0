//! Walks the bytes of a request by the shape that it must have, before anything is decoded: the
//! decoders of `kafka-protocol` make room for as many elements as an array says that it has, and
//! for as many bytes as a text says, which a lie of four bytes would turn into an abort.
//!
//! A walk reads nothing but lengths. What it has passed holds: every length fits into the bytes
//! that follow it, and there are no more than [`ELEMENTS_MAX`] elements in all, so that decoding
//! takes no more than a few times the request's own bytes and a bounded sum.
//!
//! The format is the one of "The Messages" in Kafka's protocol guide. This room may not know what
//! a field means.

#[cfg(any(test, feature = "fuzzing"))]
mod example;

use crate::limits::KAFKA_ELEMENTS_MAX as ELEMENTS_MAX;

/// A request's fields over all versions.
#[derive(Debug)]
pub(super) struct Shape {
    /// The first version whose lengths are compact and whose structs end with tagged fields.
    pub(super) flexible: i16,
    /// In their order.
    pub(super) fields: &'static [Field],
    /// The one tagged field that decoders look into, a nullable text.
    pub(super) tagged_text: Option<u32>,
}

/// A field and the versions that have it.
#[derive(Debug)]
pub(super) struct Field {
    since: i16,
    until: i16,
    kind: Kind,
}

/// What a field is made of.
#[derive(Debug)]
#[allow(dead_code, reason = "as shapes are")]
pub(super) enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A text or null; its length in two bytes where it is not compact.
    Text,
    /// Bytes or null; their length in four bytes where it is not compact.
    Bytes,
    /// Many of one kind, or null.
    Array(&'static Kind),
    /// A struct.
    Group(&'static [Field]),
    /// 1 and a struct, or -1.
    Maybe(&'static [Field]),
    /// A tagged field that decoders look into, by its number. The last ones of their struct.
    Tagged(u32, &'static Kind),
}

impl Field {
    /// What it is made of, if it is the tagged field of this number.
    fn tagged(&self, number: u32, version: i16) -> Option<&'static Kind> {
        match self.kind {
            Kind::Tagged(tag, kind) if tag == number => {
                let there = (self.since..=self.until).contains(&version);
                there.then_some(kind)
            }
            _ => None,
        }
    }
}

/// A field of every version.
pub(super) const fn always(kind: Kind) -> Field {
    within(0, i16::MAX, kind)
}

/// A field from a version on.
pub(super) const fn from(since: i16, kind: Kind) -> Field {
    within(since, i16::MAX, kind)
}

/// A field of some versions.
pub(super) const fn within(since: i16, until: i16, kind: Kind) -> Field {
    Field { since, until, kind }
}

/// The bytes are not a request of that shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Shape {
    /// Whether structs of this version end with tagged fields.
    pub(super) fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible
    }

    /// Walks a request's body; answers how many elements it has, and how many bytes it took.
    ///
    /// # Errors
    /// [`Malformed`] where a length does not fit, or there are too many elements.
    pub(super) fn walk(&self, body: &[u8], version: i16) -> Result<Walked, Malformed> {
        let mut walk = Walk {
            rest: body,
            version,
            compact: self.is_flexible(version),
            elements: 0,
        };
        walk.fields(self.fields)?;
        if walk.compact {
            walk.tags(self.tagged_text, self.fields)?;
        }
        Ok(Walked {
            elements: walk.elements,
            bytes: body.len() - walk.rest.len(),
        })
    }
}

/// What a walk has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walked {
    /// Elements of all arrays, and tagged fields.
    pub(super) elements: usize,
    /// Bytes that belong to the request.
    pub(super) bytes: usize,
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    compact: bool,
    elements: usize,
}

impl<'a> Walk<'a> {
    fn fields(&mut self, fields: &[Field]) -> Result<(), Malformed> {
        let version = self.version;
        let has = |field: &&Field| (field.since..=field.until).contains(&version);
        fields
            .iter()
            .filter(has)
            .try_for_each(|field| self.kind(&field.kind))
    }

    fn kind(&mut self, kind: &Kind) -> Result<(), Malformed> {
        match kind {
            Kind::Fixed(bytes) => self.skip(*bytes),
            Kind::Text | Kind::Bytes => match self.length(matches!(kind, Kind::Text))? {
                Some(bytes) => self.skip(bytes),
                None => Ok(()),
            },
            Kind::Array(of) => match self.length(false)? {
                Some(count) => self.array(count, of),
                None => Ok(()),
            },
            Kind::Group(fields) => self.group(fields),
            Kind::Maybe(fields) => match self.take::<1>()? {
                [1] => self.group(fields),
                [0xff] => Ok(()),
                _ => Err(Malformed),
            },
            // Where they stand, `tags` says.
            Kind::Tagged(..) => Ok(()),
        }
    }

    fn array(&mut self, count: usize, of: &Kind) -> Result<(), Malformed> {
        self.count(count)?;
        (0..count).try_for_each(|_| self.kind(of))
    }

    fn group(&mut self, fields: &[Field]) -> Result<(), Malformed> {
        self.fields(fields)?;
        if self.compact {
            self.tags(None, fields)?;
        }
        Ok(())
    }

    /// Tagged fields of a struct of these fields, of which the one with this number is a text and
    /// nothing else.
    fn tags(&mut self, text: Option<u32>, fields: &[Field]) -> Result<(), Malformed> {
        let count = self.varint()?;
        self.count(count as usize)?;
        for _ in 0..count {
            let tag = self.varint()?;
            let bytes = self.varint()? as usize;
            let before = self.rest.len();
            let known = match text == Some(tag) {
                true => Some(&Kind::Text),
                false => fields
                    .iter()
                    .find_map(|field| field.tagged(tag, self.version)),
            };
            if let Some(kind) = known {
                self.kind(kind)?;
                if before - self.rest.len() != bytes {
                    return Err(Malformed);
                }
                continue;
            }
            self.skip(bytes)?;
        }
        Ok(())
    }

    /// So many elements more, each of which has at least one byte.
    fn count(&mut self, more: usize) -> Result<(), Malformed> {
        self.elements = self.elements.saturating_add(more);
        match more <= self.rest.len() && self.elements <= ELEMENTS_MAX {
            true => Ok(()),
            false => Err(Malformed),
        }
    }

    /// A length; `None` for null.
    fn length(&mut self, short: bool) -> Result<Option<usize>, Malformed> {
        if self.compact {
            return Ok((self.varint()? as usize).checked_sub(1));
        }
        let length = match short {
            true => i32::from(i16::from_be_bytes(self.take()?)),
            false => i32::from_be_bytes(self.take()?),
        };
        match length {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| Malformed),
        }
    }

    /// At most five bytes of seven bits each; of the fifth, four bits count.
    fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.take::<1>()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.rest = self.rest.get(bytes..).ok_or(Malformed)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::shapes;
    use super::*;

    #[test]
    fn an_array_that_lies_is_refused_before_it_is_decoded() {
        let lie = 0x7fff_ffff_u32.to_be_bytes();
        assert_eq!(shapes::METADATA.walk(&lie, 1), Err(Malformed));
        // As a varint, of an array and of a text.
        let lie = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(shapes::METADATA.walk(&lie, 12), Err(Malformed));
        assert_eq!(shapes::API_VERSIONS.walk(&lie, 3), Err(Malformed));
        // Null is no array, and no lie.
        let null = shapes::METADATA.walk(&[0xff; 4], 1).unwrap();
        assert_eq!(null.elements, 0);
    }

    #[test]
    fn a_known_tag_is_what_it_says_and_no_more() {
        let body = |tag: &[u8]| {
            let mut body = vec![0; 4 + 4 + 4 + 4 + 1 + 4 + 4];
            // No topics, none forgotten, no rack, one tagged field.
            body.extend([1, 1, 1, 1]);
            body.extend(tag);
            body
        };
        let walk = |tag: &[u8]| shapes::FETCH.walk(&body(tag), 12);
        assert!(walk(&[0, 2, 2, b'c']).is_ok());
        for lie in [&[0, 3, 2, b'c', 0][..], &[0, 1, 2, b'c'], &[0, 2, 9, b'c']] {
            assert_eq!(walk(lie), Err(Malformed), "{lie:?}");
        }
    }

    #[test]
    fn elements_are_bounded_over_all_arrays() {
        let many = u32::try_from(ELEMENTS_MAX + 1).unwrap();
        let mut body = many.to_be_bytes().to_vec();
        body.resize(ELEMENTS_MAX * 4, 0);
        assert_eq!(shapes::METADATA.walk(&body, 1), Err(Malformed));
    }
}
