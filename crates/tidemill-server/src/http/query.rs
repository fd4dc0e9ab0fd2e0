//! Query parameters, strictly: an unknown or a doubled one is refused by name, so that a
//! misspelled bound is never silently the default.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::problem::Problem;

/// The parameters of one request.
#[derive(Debug)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Parses `query` (the part of the URI behind `?`), which may have the parameters `known`.
    pub(crate) fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for piece in query.unwrap_or("").split('&').filter(|p| !p.is_empty()) {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if !known.contains(&name.as_str()) {
                return Err(Problem::query(unknown(&name, known)));
            }
            if pairs.iter().any(|(have, _)| *have == name) {
                return Err(Problem::query(format!(
                    "{name} is given twice; give it once"
                )));
            }
            pairs.push((name, value));
        }
        Ok(Self { pairs })
    }

    /// The text of a parameter.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let pair = self.pairs.iter().find(|(have, _)| have == name)?;
        Some(&pair.1)
    }

    /// A parameter that is `true` or `false`, and false when it is not given.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.text(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Problem::query(format!("{name} is true or false"))),
        }
    }

    /// The number of a parameter, which must lie in `allowed`.
    pub(crate) fn number<T>(
        &self,
        name: &str,
        allowed: RangeInclusive<T>,
    ) -> Result<Option<T>, Problem>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match text.parse::<T>() {
            Ok(number) if allowed.contains(&number) => Ok(Some(number)),
            _ => Err(Problem::query(format!(
                "{name} is a whole number from {} to {}, not {:?}",
                allowed.start(),
                allowed.end(),
                text.chars().take(64).collect::<String>(),
            ))),
        }
    }
}

fn decode(text: &str) -> Result<String, Problem> {
    let spaced = text.replace('+', " ");
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(Problem::query("a query parameter is not UTF-8")),
    }
}

fn unknown(name: &str, known: &[&str]) -> String {
    let name: String = name.chars().take(64).collect();
    if known.is_empty() {
        return format!("unknown query parameter {name:?}; this path has none");
    }
    let known = known.join(", ");
    format!("unknown query parameter {name:?}; this path has {known}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_parameters_are_read_and_decoded() {
        let query = Query::parse(Some("max=7&name=a%20b+c&&"), &["max", "name"]).unwrap();
        assert_eq!(query.number("max", 1..=10).unwrap(), Some(7));
        assert_eq!(query.text("name"), Some("a b c"));
        assert_eq!(query.number::<u32>("other", 0..=1).unwrap(), None);
    }

    #[test]
    fn wrong_parameters_are_refused_by_name() {
        let flags = Query::parse(Some("a=true&b=false&c=1&d"), &["a", "b", "c", "d"]).unwrap();
        assert_eq!(flags.flag("a").ok(), Some(true));
        assert_eq!(flags.flag("b").ok(), Some(false));
        assert_eq!(flags.flag("other").ok(), Some(false));
        assert!(flags.flag("c").is_err() && flags.flag("d").is_err());
        for (query, named) in [
            ("maks=7", "maks"),
            ("max=1&max=2", "max"),
            ("max=%ff", "UTF-8"),
        ] {
            let problem = Query::parse(Some(query), &["max"]).unwrap_err();
            assert!(format!("{problem:?}").contains(named), "{query}");
        }
        for bad in ["", "-1", "11", "1.5", "99999999999999999999", "x"] {
            let query = Query::parse(Some(&format!("max={bad}")), &["max"]).unwrap();
            assert!(query.number("max", 0u64..=10).is_err(), "{bad}");
        }
    }
}
