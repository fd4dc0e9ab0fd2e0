//! One door as it is described: a method of a path, what it takes and what it answers.
//!
//! Descriptions stand where the path is given to its handlers, so that no door is without one.
//! This room may not know how a request is handled.

use axum::http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::http::problem::Kind;

/// The schema of a type, wherever the document keeps it.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// What a query parameter may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    /// A whole number within these bounds, and what holds where it is not given.
    Number {
        min: u64,
        max: u64,
        default: Option<u64>,
    },
    /// `true` or `false`, and false where it is not given.
    Flag,
    /// Any text.
    Text,
}

/// A query parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) value: Value,
    pub(crate) required: bool,
}

impl Parameter {
    /// A text.
    pub(crate) const fn text(name: &'static str, description: &'static str) -> Self {
        Self::of(name, description, Value::Text)
    }

    /// `true` or `false`.
    pub(crate) const fn flag(name: &'static str, description: &'static str) -> Self {
        Self::of(name, description, Value::Flag)
    }

    /// A whole number from `min` to `max`.
    pub(crate) const fn number(
        name: &'static str,
        description: &'static str,
        (min, max): (u64, u64),
    ) -> Self {
        let default = None;
        Self::of(name, description, Value::Number { min, max, default })
    }

    /// The same, being `value` where it is not given.
    pub(crate) const fn or(mut self, value: u64) -> Self {
        if let Value::Number { min, max, .. } = self.value {
            let default = Some(value);
            self.value = Value::Number { min, max, default };
        }
        self
    }

    /// The same, which must be given.
    pub(crate) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    const fn of(name: &'static str, description: &'static str, value: Value) -> Self {
        Self {
            name,
            description,
            value,
            required: false,
        }
    }
}

/// A body in one media type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    pub(crate) media_type: &'static str,
    pub(crate) schema: SchemaOf,
}

/// An answer when all went well.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) description: &'static str,
    /// One of these; none where the answer has no body.
    pub(crate) content: Vec<Content>,
}

/// What one method of a path does.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// Given where the method is given its handler.
    pub(crate) method: Method,
    /// One name for programs that are made from the document.
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    /// More of it, in Markdown; empty where the summary says all.
    pub(crate) description: &'static str,
    pub(crate) query: &'static [Parameter],
    /// Headers of the request that mean something here.
    pub(crate) headers: &'static [Parameter],
    pub(crate) body: Vec<Content>,
    pub(crate) answers: Vec<Answer>,
    pub(crate) problems: &'static [Kind],
}

impl Operation {
    /// `id` names it for programs, `summary` says in a few words what it does.
    pub(crate) fn new(id: &'static str, summary: &'static str) -> Self {
        Self {
            method: Method::GET,
            id,
            summary,
            description: "",
            query: &[],
            headers: &[],
            body: Vec::new(),
            answers: Vec::new(),
            problems: &[],
        }
    }

    /// More than the summary says, in Markdown.
    pub(crate) fn described(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// Its query parameters.
    pub(crate) fn query(mut self, query: &'static [Parameter]) -> Self {
        self.query = query;
        self
    }

    /// Headers that mean something to it.
    pub(crate) fn headers(mut self, headers: &'static [Parameter]) -> Self {
        self.headers = headers;
        self
    }

    /// It takes a `T` as JSON.
    pub(crate) fn takes<T: JsonSchema>(self) -> Self {
        self.takes_as::<T>("application/json")
    }

    /// It takes a `T` in this media type, too.
    pub(crate) fn takes_as<T: JsonSchema>(mut self, media_type: &'static str) -> Self {
        let schema = schema_of::<T>;
        self.body.push(Content { media_type, schema });
        self
    }

    /// It answers `status` with a `T` as JSON.
    pub(crate) fn answers<T: JsonSchema>(self, status: u16, description: &'static str) -> Self {
        self.answers_as::<T>(status, "application/json", description)
    }

    /// It answers `status` with a `T` in this media type.
    pub(crate) fn answers_as<T: JsonSchema>(
        self,
        status: u16,
        media_type: &'static str,
        description: &'static str,
    ) -> Self {
        let schema = schema_of::<T>;
        let content = vec![Content { media_type, schema }];
        self.answer(status, description, content)
    }

    /// It answers `status` without a body.
    pub(crate) fn answers_nothing(self, status: u16, description: &'static str) -> Self {
        self.answer(status, description, Vec::new())
    }

    fn answer(mut self, status: u16, description: &'static str, content: Vec<Content>) -> Self {
        self.answers.push(Answer {
            status,
            description,
            content,
        });
        self
    }

    /// The problems that are its own, beside those that every door may answer.
    pub(crate) fn problems(mut self, problems: &'static [Kind]) -> Self {
        self.problems = problems;
        self
    }
}
