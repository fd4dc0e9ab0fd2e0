//! The regular expressions by which members of a consumer group read topics, and what they match.
//!
//! To compare one with many names takes long: [`Pattern::of`] and [`Pattern::at`] are to be called
//! where that holds nobody up.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::successors;
use std::sync::Arc;

use bytestring::ByteString;
use regex_lite::{Regex, RegexBuilder};
use tidemill_core::{TopicId, TopicName};

use super::types::ConsumerError;
use crate::catalog::Catalog;
use crate::limits::{
    CONSUMER_PATTERN_COMPILED_MAX_BYTES, CONSUMER_PATTERN_COMPILED_MIN_BYTES,
    CONSUMER_PATTERN_MAX_BYTES, CONSUMER_PATTERN_WORK_MAX, CONSUMER_PATTERNS_MAX,
};

/// An expression, and the topics that matched at one moment.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    text: ByteString,
    regex: Regex,
    /// The topics of that moment.
    catalog: Arc<Catalog>,
    matches: BTreeSet<TopicId>,
}

impl Pattern {
    /// Compiles an expression and compares it with all names.
    ///
    /// # Errors
    /// [`ConsumerError::Pattern`]: it is none, is too large, or is too large for so many names.
    pub(super) fn of(text: &ByteString, catalog: &Arc<Catalog>) -> Result<Self, ConsumerError> {
        let (regex, size) = compile(text)?;
        let names: usize = catalog.iter().map(|(name, _)| name.as_str().len()).sum();
        if size.saturating_mul(names) > CONSUMER_PATTERN_WORK_MAX {
            let why = "it is too large for so many topics; make it simpler, or name the topics";
            return Err(ConsumerError::Pattern(why.to_owned()));
        }
        Ok(Self {
            text: text.clone(),
            matches: matches(&regex, catalog, |_| true),
            regex,
            catalog: Arc::clone(catalog),
        })
    }

    /// The topics are others now. Looks at the names of those that came alone.
    pub(super) fn at(&self, now: &Arc<Catalog>) -> Self {
        let stay = self.matches.iter().copied();
        let stay = stay.filter(|id| now.name(*id).is_some());
        let came = matches(&self.regex, now, |id| self.catalog.name(id).is_none());
        Self {
            text: self.text.clone(),
            regex: self.regex.clone(),
            catalog: Arc::clone(now),
            matches: stay.chain(came).collect(),
        }
    }

    fn is_of(&self, catalog: &Arc<Catalog>) -> bool {
        Arc::ptr_eq(&self.catalog, catalog)
    }
}

/// The expressions of a group's members, each compiled once.
#[derive(Debug, Default)]
pub(super) struct Patterns(BTreeMap<ByteString, Arc<Pattern>>);

impl Patterns {
    /// Knows this expression from now on.
    ///
    /// # Errors
    /// [`ConsumerError::Full`].
    pub(super) fn add(
        &mut self,
        pattern: &Arc<Pattern>,
        catalog: &Arc<Catalog>,
    ) -> Result<(), ConsumerError> {
        if self.0.contains_key(&pattern.text) {
            return Ok(());
        }
        if self.0.len() >= CONSUMER_PATTERNS_MAX {
            let why = "its members have too many regular expressions";
            return Err(ConsumerError::Full(why));
        }
        self.0.insert(pattern.text.clone(), Arc::clone(pattern));
        self.look(catalog);
        Ok(())
    }

    /// One that is known.
    pub(super) fn get(&self, text: &ByteString) -> Option<&Arc<Pattern>> {
        self.0.get(text)
    }

    /// Those whose matches are of other topics than these.
    pub(super) fn late(&self, catalog: &Arc<Catalog>) -> Vec<Arc<Pattern>> {
        let late = self.0.values().filter(|pattern| !pattern.is_of(catalog));
        late.cloned().collect()
    }

    /// Takes the matches of newer topics over.
    pub(super) fn renew(&mut self, newer: Vec<Arc<Pattern>>) {
        for pattern in newer {
            if let Some(have) = self.0.get_mut(&pattern.text) {
                *have = pattern;
            }
        }
    }

    /// The topics are these now.
    pub(super) fn look(&mut self, now: &Arc<Catalog>) {
        let late = self.0.values_mut().filter(|pattern| !pattern.is_of(now));
        for pattern in late {
            *pattern = Arc::new(pattern.at(now));
        }
    }

    /// Forgets those that nobody has.
    pub(super) fn keep<'a>(&mut self, used: impl Iterator<Item = &'a ByteString>) {
        let used: BTreeSet<_> = used.collect();
        self.0.retain(|text, _| used.contains(text));
    }

    /// The topics that match.
    pub(super) fn topics(&self, text: Option<&ByteString>) -> impl Iterator<Item = TopicId> {
        let found = text.and_then(|text| self.0.get(text));
        found
            .into_iter()
            .flat_map(|found| found.matches.iter().copied())
    }

    /// Bytes in memory, roughly: as many as a compiled one may have at most.
    pub(super) fn bytes(&self) -> usize {
        let one = |pattern: &Arc<Pattern>| {
            CONSUMER_PATTERN_COMPILED_MAX_BYTES + pattern.matches.len() * size_of::<TopicId>() * 2
        };
        self.0.values().map(one).sum()
    }
}

/// A regular expression that whole names match, bounded in what it takes to compare one.
#[derive(Clone, Debug)]
pub struct NamePattern {
    regex: Regex,
    size: usize,
}

impl NamePattern {
    /// Compiles an expression of at most
    /// [`CONSUMER_PATTERN_MAX_BYTES`](crate::limits::CONSUMER_PATTERN_MAX_BYTES), without look
    /// around and back references.
    ///
    /// # Errors
    /// [`ConsumerError::Pattern`]: it is none, or is too large.
    pub fn new(text: &str) -> Result<Self, ConsumerError> {
        let (regex, size) = compile(text)?;
        Ok(Self { regex, size })
    }

    /// Whether the whole name matches. Takes up to [`NamePattern::work`] steps: to be called where
    /// that holds nobody up.
    #[must_use]
    pub fn is_match(&self, name: &str) -> bool {
        self.regex.is_match(name)
    }

    /// How many steps it may take to compare a name.
    #[must_use]
    pub fn work(&self, name: &str) -> usize {
        self.size.saturating_mul(name.len())
    }
}

/// An expression that whole names match, as clients expect it, and most bytes that it has.
fn compile(text: &str) -> Result<(Regex, usize), ConsumerError> {
    if text.len() > CONSUMER_PATTERN_MAX_BYTES {
        let why = format!("it has more than {CONSUMER_PATTERN_MAX_BYTES} bytes");
        return Err(ConsumerError::Pattern(why));
    }
    let built = |text: &str, size| {
        let mut builder = RegexBuilder::new(text);
        builder.size_limit(size);
        let built = builder.build();
        built.map_err(|why| ConsumerError::Pattern(why.to_string()))
    };
    // Alone at first: what is no expression may be one within brackets.
    let most = CONSUMER_PATTERN_COMPILED_MAX_BYTES;
    built(text, most)?;
    let whole = format!("^(?:{text})$");
    let sizes = successors(Some(CONSUMER_PATTERN_COMPILED_MIN_BYTES), |size| {
        Some(size * 2)
    });
    for size in sizes.take_while(|size| *size < most) {
        if let Ok(regex) = built(&whole, size) {
            return Ok((regex, size));
        }
    }
    Ok((built(&whole, most)?, most))
}

fn matches(regex: &Regex, catalog: &Catalog, among: impl Fn(TopicId) -> bool) -> BTreeSet<TopicId> {
    let all = catalog.iter();
    let all = all.filter(|(_, topic)| among(topic.id) && !catalog.is_queue(topic.id));
    let all = all.filter(|(name, _): &(&TopicName, _)| regex.is_match(name.as_str()));
    all.map(|(_, topic)| topic.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_match_and_what_is_no_expression_is_refused() {
        let is = |text, name| compile(text).unwrap().0.is_match(name);
        assert!(is("order.*", "orders") && !is("order", "orders"));
        assert!(is("a|b", "b") && !is("a|b", "ab"));
        assert!(is("^a-[0-9]+$", "a-12") && !is("^a-[0-9]+$", "xa-12"));
        let refused = |text: &str| matches!(compile(text), Err(ConsumerError::Pattern(_)));
        for wrong in ["(", "a)(b", "[a", "*", "(?=a)"] {
            assert!(refused(wrong), "{wrong}");
        }
        assert!(refused(&"a".repeat(CONSUMER_PATTERN_MAX_BYTES + 1)));
        for large in ["((a{200}){200}){200}", "(?:.?){1300}"] {
            assert!(refused(large), "{large} is too large compiled");
        }
    }

    #[test]
    fn an_expression_may_be_as_large_as_the_number_of_names_allows() {
        let topics = |count: u32| {
            let one = |number: u32| {
                let id = TopicId(uuid::Uuid::from_u128(number.into()));
                let name = TopicName::new(format!("{}{number}", "n".repeat(180))).unwrap();
                (name, crate::machine::Topic { id, partitions: 1 })
            };
            Arc::new(Catalog::with(&(0..count).map(one).collect::<Vec<_>>()))
        };
        // Both fail at the first byte of a name, so that this takes no time.
        let small = ByteString::from("x");
        let large = ByteString::from(format!("x{}", "a{9}".repeat(22)));
        assert!(compile(&small).unwrap().1 < compile(&large).unwrap().1);
        let (few, many) = (topics(10), topics(4000));
        assert!(Pattern::of(&large, &few).is_ok() && Pattern::of(&small, &many).is_ok());
        let refused = Pattern::of(&large, &many).unwrap_err();
        assert!(refused.to_string().contains("so many topics"), "{refused}");
    }
}
