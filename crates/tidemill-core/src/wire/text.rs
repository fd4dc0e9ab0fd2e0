//! Frames as texts: which type they are of, and events put into them verbatim.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::fault::Fault;
use crate::event::Event;
use crate::json;

/// A frame that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The call that it would have been, where that much could be read.
    pub id: Option<u64>,
    /// What is wrong.
    pub fault: Fault,
}

impl Malformed {
    pub(super) fn new(why: impl ToString) -> Self {
        let why = why.to_string();
        Self {
            id: None,
            fault: Fault::Malformed { why },
        }
    }
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow)]
    ty: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Id {
    id: Option<u64>,
}

/// The type of the frame in `bytes`, and its whole text.
pub(super) fn open(bytes: &Bytes) -> Result<(Cow<'_, str>, &str), Malformed> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Malformed::new(format_args!("{error}; send UTF-8")))?;
    // Where the type comes first, nothing else needs to be looked at to know it.
    let known = text.strip_prefix(r#"{"type":""#);
    if let Some((ty, _)) = known.and_then(|rest| rest.split_once('"'))
        && ty.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    {
        return Ok((Cow::Borrowed(ty), text));
    }
    let head: Head<'_> = serde_json::from_str(text).map_err(|error| {
        Malformed::new(format_args!(
            "{error}; send a JSON object with a member 'type'"
        ))
    })?;
    Ok((head.ty, text))
}

/// The members of a frame; where they are wrong, the error still names the call.
pub(super) fn members<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Malformed> {
    serde_json::from_str(text).map_err(|error| {
        let id = serde_json::from_str::<Id>(text).ok().and_then(|id| id.id);
        Malformed {
            id,
            ..Malformed::new(error)
        }
    })
}

/// The event in this part of `bytes`.
pub(super) fn event(bytes: &Bytes, raw: &RawValue, id: Option<u64>) -> Result<Event, Malformed> {
    let decoded = json::decode(&bytes.slice_ref(raw.get().as_bytes()));
    decoded.map_err(|error| Malformed {
        id,
        fault: error.into(),
    })
}

/// `{"type":ty, members of head` without the brace that ends it, for more members to follow.
pub(super) fn begin(ty: &str, head: &impl Serialize, room: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(room + 160);
    out.extend_from_slice(br#"{"type":""#);
    out.extend_from_slice(ty.as_bytes());
    out.extend_from_slice(b"\",");
    let at = out.len();
    serde_json::to_writer(&mut out, head).expect("a frame is written to memory");
    // Without the braces of the object.
    out.remove(at);
    out.pop();
    out
}

/// `,"name":[...]`: each of `items` as `put` writes it.
pub(super) fn list<T>(
    out: &mut Vec<u8>,
    name: &str,
    items: impl IntoIterator<Item = T>,
    mut put: impl FnMut(&mut Vec<u8>, T),
) {
    member(out, name);
    out.push(b'[');
    let begin = out.len();
    for item in items {
        if out.len() > begin {
            out.push(b',');
        }
        put(out, item);
    }
    out.push(b']');
}

/// `,"name":`
pub(super) fn member(out: &mut Vec<u8>, name: &str) {
    if !matches!(out.last(), Some(b',' | b'{')) {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// A frame's text: what was written is UTF-8, as JSON texts and what they are made of are.
pub(super) fn finish(mut out: Vec<u8>) -> String {
    out.push(b'}');
    String::from_utf8(out).expect("JSON was written")
}
