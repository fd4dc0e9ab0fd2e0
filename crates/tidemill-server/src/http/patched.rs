//! The one rule of `null` in bodies: where something is made it is as left out, and in a change it
//! brings back what a new one has of whom nothing is said.
//!
//! This room may not know what is changed.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

use super::problem::{Kind, Problem};

/// A member of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Patched<T> {
    /// It is left out: what there is stays.
    #[default]
    Stays,
    /// It is `null`: as with a new one.
    Usual,
    To(T),
}

impl<T> Patched<T> {
    /// The change, where a new one has `usual`.
    pub(crate) fn or(self, usual: T) -> Option<T> {
        match self {
            Self::Stays => None,
            Self::Usual => Some(usual),
            Self::To(value) => Some(value),
        }
    }

    /// The change, where a new one has nothing.
    pub(crate) fn or_nothing(self) -> Option<Option<T>> {
        match self {
            Self::Stays => None,
            Self::Usual => Some(None),
            Self::To(value) => Some(Some(value)),
        }
    }

    /// The change, where there is nothing to bring back; `why` says what to do instead.
    pub(crate) fn needed(self, kind: Kind, why: &'static str) -> Result<Option<T>, Problem> {
        match self {
            Self::Stays => Ok(None),
            Self::Usual => Err(Problem::new(kind, why)),
            Self::To(value) => Ok(Some(value)),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patched<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match Option::deserialize(from)? {
            Some(value) => Self::To(value),
            None => Self::Usual,
        })
    }
}

impl<T: JsonSchema> JsonSchema for Patched<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Option::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        n: Patched<u8>,
    }

    #[test]
    fn left_out_stays_and_null_is_as_with_a_new_one() {
        let read = |text: &str| serde_json::from_str::<Body>(text).unwrap().n;
        assert_eq!(read("{}").or(7), None);
        assert_eq!(read(r#"{"n":null}"#).or(7), Some(7));
        assert_eq!(read(r#"{"n":1}"#).or(7), Some(1));
        assert_eq!(read("{}").or_nothing(), None);
        assert_eq!(read(r#"{"n":null}"#).or_nothing(), Some(None));
        assert_eq!(read(r#"{"n":1}"#).or_nothing(), Some(Some(1)));
        let needed = |text: &str| read(text).needed(Kind::InvalidTopic, "leave it out");
        assert_eq!(needed("{}").unwrap(), None);
        assert_eq!(needed(r#"{"n":1}"#).unwrap(), Some(1));
        assert!(needed(r#"{"n":null}"#).is_err());
        assert!(serde_json::from_str::<Body>(r#"{"n":"1"}"#).is_err());
    }
}
