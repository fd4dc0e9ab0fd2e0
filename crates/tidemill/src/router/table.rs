//! Finds the handler of an event: by topic, then the exact type, then the most special pattern.
//!
//! Sorted lists: routers are small, so comparing lengths and bytes beats hashing.

use tidemill_core::{Event, EventType, Pattern, TopicName};

use super::BuildError;
use super::describe::HandlerInfo;

/// The table of a finished router; the numbers are places in its list of handlers.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Sorted by name.
    topics: Vec<(TopicName, Types)>,
}

#[derive(Debug, Default)]
struct Types {
    /// Sorted by type.
    exact: Vec<(EventType, usize)>,
    /// The longest literal prefix first.
    patterns: Vec<(Pattern, usize)>,
}

impl Table {
    /// The topics that it reads, sorted by name.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &TopicName> {
        self.topics.iter().map(|(topic, _)| topic)
    }

    /// The place of the handler for `event` on `topic`.
    pub(crate) fn find(&self, topic: &TopicName, event: &Event) -> Option<usize> {
        let types = self.types(topic.as_str())?;
        let ty = event.ty().as_str();
        let order = |have: &(EventType, usize)| have.0.as_str().cmp(ty);
        if let Ok(at) = types.exact.binary_search_by(order) {
            return types.exact.get(at).map(|(_, place)| *place);
        }
        let mut fitting = types.patterns.iter().filter(|(p, _)| p.matches(ty));
        fitting.next().map(|(_, place)| *place)
    }

    fn types(&self, topic: &str) -> Option<&Types> {
        let order = |have: &(TopicName, Types)| have.0.as_str().cmp(topic);
        let at = self.topics.binary_search_by(order).ok()?;
        self.topics.get(at).map(|(_, types)| types)
    }

    /// The table for `handlers`, each at its place in the list.
    pub(crate) fn build(handlers: &[HandlerInfo]) -> Result<Self, BuildError> {
        let mut table = Self::default();
        for (place, handler) in handlers.iter().enumerate() {
            let name = |why| BuildError::Name {
                handler: handler.id.clone(),
                why,
            };
            let topic = TopicName::new(handler.topic.clone()).map_err(name)?;
            let types = table.types_mut(topic);
            if handler.pattern {
                let pattern = Pattern::new(&handler.ty).map_err(|why| BuildError::Pattern {
                    handler: handler.id.clone(),
                    pattern: handler.ty.clone(),
                    why,
                })?;
                types.add_pattern(pattern, place, handlers)?;
            } else {
                let ty = EventType::new(handler.ty.clone()).map_err(name)?;
                types.add_exact(ty, place, handlers)?;
            }
        }
        Ok(table)
    }

    fn types_mut(&mut self, topic: TopicName) -> &mut Types {
        let at = match self.topics.binary_search_by(|have| have.0.cmp(&topic)) {
            Ok(at) => at,
            Err(at) => {
                self.topics.insert(at, (topic, Types::default()));
                at
            }
        };
        let slot = self.topics.get_mut(at);
        &mut slot.expect("it was found or inserted there").1
    }
}

impl Types {
    fn add_exact(
        &mut self,
        ty: EventType,
        place: usize,
        handlers: &[HandlerInfo],
    ) -> Result<(), BuildError> {
        match self.exact.binary_search_by(|have| have.0.cmp(&ty)) {
            Ok(at) => {
                let first = self.exact.get(at).map_or(place, |(_, first)| *first);
                Err(double_type(handlers, first, place))
            }
            Err(at) => {
                self.exact.insert(at, (ty, place));
                Ok(())
            }
        }
    }

    fn add_pattern(
        &mut self,
        pattern: Pattern,
        place: usize,
        handlers: &[HandlerInfo],
    ) -> Result<(), BuildError> {
        for (have, first) in &self.patterns {
            let as_special = have.literal_prefix() == pattern.literal_prefix();
            if as_special && have.overlaps(&pattern) {
                return Err(if have == &pattern {
                    double_type(handlers, *first, place)
                } else {
                    tie(handlers, *first, place)
                });
            }
        }
        let length = pattern.literal_prefix().len();
        let longer = |(have, _): &(Pattern, usize)| have.literal_prefix().len() >= length;
        let at = self.patterns.partition_point(longer);
        self.patterns.insert(at, (pattern, place));
        Ok(())
    }
}

fn text(handlers: &[HandlerInfo], place: usize, of: fn(&HandlerInfo) -> &String) -> String {
    handlers.get(place).map(of).cloned().unwrap_or_default()
}

fn double_type(handlers: &[HandlerInfo], first: usize, second: usize) -> BuildError {
    BuildError::DoubleType {
        topic: text(handlers, second, |h| &h.topic),
        ty: text(handlers, second, |h| &h.ty),
        first: text(handlers, first, |h| &h.id),
        second: text(handlers, second, |h| &h.id),
    }
}

fn tie(handlers: &[HandlerInfo], first: usize, second: usize) -> BuildError {
    BuildError::Tie {
        topic: text(handlers, second, |h| &h.topic),
        first: text(handlers, first, |h| &h.id),
        first_pattern: text(handlers, first, |h| &h.ty),
        second: text(handlers, second, |h| &h.id),
        second_pattern: text(handlers, second, |h| &h.ty),
    }
}
