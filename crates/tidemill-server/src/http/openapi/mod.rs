//! `GET /openapi.json`: the OpenAPI 3.1 document of all doors, made from what is said of each
//! where it is given its handlers (`doors.rs`), and from the Rust types that are sent and taken.
//!
//! OpenAPI 3.1.1 (spec.openapis.org/oas/v3.1.1) describes bodies in JSON Schema 2020-12, which is
//! what schemars writes. This room may not know how a request is handled.

mod operation;
pub(crate) mod types;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use axum::Extension;
use axum::extract::RawQuery;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value as Json, json};

use self::operation::{Answer, Content, Value};
pub(crate) use self::operation::{Operation, Parameter};
use super::answer::raw_json;
use super::doors::Methods;
use super::problem::{PROBLEM_JSON, Problem};
use super::query::Query;
use types::{AnyJson, ProblemDocument};

/// The version of OpenAPI that the document is in.
const OPENAPI_VERSION: &str = "3.1.1";

/// What is said of each path.
pub(crate) type Paths = Vec<(String, Vec<Operation>)>;

/// The document, which is made when it is first asked for: a server starts sooner.
#[derive(Clone)]
pub(crate) struct Document(Arc<Described>);

struct Described {
    paths: Paths,
    text: OnceLock<Bytes>,
}

/// The methods of `/openapi.json`.
pub(crate) fn methods() -> Methods {
    let operation = Operation::new("openapi", "This document")
        .described("OpenAPI 3.1, made from the doors themselves.")
        .answers::<AnyJson>(200, "An OpenAPI document");
    Methods::new().get(show, operation)
}

async fn show(
    Extension(document): Extension<Document>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    Ok(raw_json(StatusCode::OK, document.text()))
}

impl Document {
    /// Of these paths.
    pub(crate) fn of(paths: Paths) -> Self {
        let text = OnceLock::new();
        Self(Arc::new(Described { paths, text }))
    }

    /// As it is sent.
    fn text(&self) -> Bytes {
        let made = || {
            let text = serde_json::to_vec(&document(&self.0.paths));
            text.expect("a JSON value is always text").into()
        };
        self.0.text.get_or_init(made).clone()
    }
}

fn document(paths: &[(String, Vec<Operation>)]) -> Json {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let mut described = Map::new();
    for (path, operations) in paths {
        let mut item = Map::new();
        for operation in operations {
            let method = operation.method.as_str().to_ascii_lowercase();
            item.insert(method, operation_json(path, operation, &mut generator));
        }
        described.insert(path.clone(), Json::Object(item));
    }
    let problem = generator.subschema_for::<ProblemDocument>();
    let any = json!({
        "description": "What went wrong, and what to do about it",
        "content": { PROBLEM_JSON: { "schema": problem } },
    });
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "Tidemill",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The doors of a Tidemill server. An answer with a position means that \
                            the event is durable. Unknown query parameters and members are \
                            refused by name. Errors are problem documents (RFC 9457).",
        },
        "paths": described,
        "components": { "schemas": schemas, "responses": { "Problem": any } },
    })
}

/// The named parts of a path, in their order.
fn names_in(path: &str) -> impl Iterator<Item = &str> {
    let named = path.split('/').filter_map(|part| part.strip_prefix('{'));
    named.filter_map(|part| part.strip_suffix('}'))
}

fn operation_json(path: &str, operation: &Operation, generator: &mut SchemaGenerator) -> Json {
    let in_path = names_in(path).map(|name| {
        let schema = json!({ "type": "string", "minLength": 1 });
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    });
    let query = operation.query.iter().map(|one| parameter("query", one));
    let headers = operation.headers.iter().map(|one| parameter("header", one));
    let parameters: Vec<Json> = in_path.chain(query).chain(headers).collect();
    let mut described = Map::new();
    described.insert("operationId".into(), operation.id.into());
    described.insert("summary".into(), operation.summary.into());
    if !operation.description.is_empty() {
        described.insert("description".into(), operation.description.into());
    }
    described.insert("tags".into(), json!([tag(path)]));
    if !parameters.is_empty() {
        described.insert("parameters".into(), parameters.into());
    }
    if !operation.body.is_empty() {
        let body = json!({
            "required": true,
            "content": content(&operation.body, generator),
        });
        described.insert("requestBody".into(), body);
    }
    described.insert("responses".into(), responses(operation, generator));
    Json::Object(described)
}

/// What the path is about, for pages that group the doors.
fn tag(path: &str) -> &str {
    let mut parts = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != "v1");
    match parts.next() {
        Some("event") => "topics",
        Some(part @ ("topics" | "groups" | "deadletters" | "queues" | "backups" | "health")) => {
            part
        }
        _ => "server",
    }
}

fn parameter(place: &str, one: &Parameter) -> Json {
    let schema = match one.value {
        Value::Text => json!({ "type": "string" }),
        Value::Flag => json!({ "type": "boolean", "default": false }),
        Value::Number { min, max, default } => {
            let mut schema = json!({ "type": "integer", "minimum": min, "maximum": max });
            if let (Some(default), Some(members)) = (default, schema.as_object_mut()) {
                members.insert("default".into(), default.into());
            }
            schema
        }
    };
    json!({
        "name": one.name,
        "in": place,
        "description": one.description,
        "required": one.required,
        "schema": schema,
    })
}

fn content(bodies: &[Content], generator: &mut SchemaGenerator) -> Json {
    let described = bodies.iter().map(|body| {
        let schema: Schema = (body.schema)(generator);
        (body.media_type.to_owned(), json!({ "schema": schema }))
    });
    Json::Object(described.collect())
}

fn responses(operation: &Operation, generator: &mut SchemaGenerator) -> Json {
    let mut responses = Map::new();
    for Answer {
        status,
        description,
        content: bodies,
    } in &operation.answers
    {
        let mut answer = Map::new();
        answer.insert("description".into(), (*description).into());
        if !bodies.is_empty() {
            answer.insert("content".into(), content(bodies, generator));
        }
        responses.insert(status.to_string(), Json::Object(answer));
    }
    let mut by_status: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for kind in operation.problems {
        let names = by_status.entry(kind.status().as_u16()).or_default();
        names.push(format!("`{}`: {}", kind.urn(), kind.title()));
    }
    for (status, names) in by_status {
        let schema = generator.subschema_for::<ProblemDocument>();
        let answer = json!({
            "description": names.join("; "),
            "content": { PROBLEM_JSON: { "schema": schema } },
        });
        responses.insert(status.to_string(), answer);
    }
    let any = json!({ "$ref": "#/components/responses/Problem" });
    responses.insert("default".into(), any);
    Json::Object(responses)
}
