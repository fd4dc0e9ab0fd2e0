//! What the members of a group say to each other where they are consumers: the topics that one
//! reads, and the partitions that are its part. Bytes of strangers: nothing in them is believed.

use bytes::Buf;

/// The type of such groups.
const CONSUMER: &str = "consumer";

/// The topics that a member reads; `None` where its bytes say something else.
pub(super) fn subscription(protocol_type: &str, metadata: &[u8]) -> Option<Vec<String>> {
    if protocol_type != CONSUMER {
        return None;
    }
    let mut rest = metadata;
    let _version = rest.try_get_i16().ok()?;
    array(&mut rest, text)
}

/// A member's part: each topic with the numbers of its partitions. `None` where its bytes say
/// something else, empty where they say nothing.
pub(crate) fn assignment(protocol_type: &str, bytes: &[u8]) -> Option<Vec<(String, Vec<i32>)>> {
    if protocol_type != CONSUMER {
        return None;
    }
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let mut rest = bytes;
    let _version = rest.try_get_i16().ok()?;
    array(&mut rest, |rest| {
        let topic = text(rest)?;
        let partitions = array(rest, |rest| rest.try_get_i32().ok())?;
        Some((topic, partitions))
    })
}

fn array<T>(rest: &mut &[u8], one: impl Fn(&mut &[u8]) -> Option<T>) -> Option<Vec<T>> {
    let count = usize::try_from(rest.try_get_i32().ok()?).ok()?;
    // No room is made for what may not be there.
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(one(rest)?);
    }
    Some(all)
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(rest.try_get_i16().ok()?).ok()?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_and_lies_are_not_believed() {
        let mut bytes = vec![0, 3, 0, 0, 0, 1, 0, 2, b'a', b'b'];
        bytes.extend([0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7]);
        let part = assignment("consumer", &bytes);
        assert_eq!(part, Some(vec![("ab".to_owned(), vec![0, 7])]));
        for cut in 1..bytes.len() {
            assert_eq!(assignment("consumer", &bytes[..cut]), None, "{cut}");
        }
        assert_eq!(assignment("consumer", &[]), Some(Vec::new()));
        assert_eq!(assignment("connect", &bytes), None);
        let lie = [0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1, b'a'];
        assert_eq!(subscription("consumer", &lie), None);
        let said = subscription("consumer", &[0, 0, 0, 0, 0, 1, 0, 1, b'a', 9, 9]);
        assert_eq!(said, Some(vec!["a".to_owned()]), "more may follow");
    }
}
