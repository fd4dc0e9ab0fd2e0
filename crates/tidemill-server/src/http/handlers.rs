//! `/v1/handlers`: what the programs that are members of groups now say they handle. May not know
//! how they say it.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use tidemill_broker::ServedHandlers;
use tidemill_core::GroupName;
use tidemill_core::catalogue::HandlerEntry;

use super::answer::json;
use super::doors::Methods;
use super::openapi::types::HandlerList;
use super::openapi::{Operation, Parameter};
use super::problem::{Kind, Problem};
use super::query::Query;
use crate::app::App;

#[derive(Serialize)]
struct Handlers {
    handlers: Vec<Handler>,
}

/// A handler of a group, and the members that have it.
#[derive(Serialize)]
struct Handler {
    group: GroupName,
    #[serde(flatten)]
    entry: HandlerEntry,
    served_by: Vec<Member>,
}

#[derive(Serialize)]
struct Member {
    /// Its number in the group.
    member: u64,
    /// The program's name.
    name: String,
    since: Timestamp,
}

/// The methods of `/v1/handlers`.
pub(crate) fn methods() -> Methods {
    const QUERY: &[Parameter] = &[
        Parameter::text("group", "Only handlers of this group"),
        Parameter::text("id", "Only handlers of this id"),
        Parameter::text("schemas", "`false` leaves the JSON Schemas out"),
    ];
    let operation = Operation::new("list_handlers", "Lists what connected programs handle")
        .query(QUERY)
        .answers::<HandlerList>(200, "The handlers that are served now")
        .problems(&[Kind::InvalidQuery, Kind::InvalidName, Kind::NotSupported]);
    Methods::new().get(list, operation)
}

/// All handlers, those of one group, or those of one id.
async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["group", "id", "schemas"])?;
    let group = query.text("group").map(GroupName::new).transpose()?;
    let schemas = query.text("schemas").is_none() || query.flag("schemas")?;
    let served = app.broker()?.handlers();
    let wanted = |group_of: &GroupName, entry: &HandlerEntry| {
        group.as_ref().is_none_or(|group| group == group_of)
            && query.text("id").is_none_or(|id| id == entry.id)
    };
    let handlers = collect(&served, wanted, schemas);
    Ok(json(&Handlers { handlers }))
}

/// One entry for all members of a group that describe a handler alike, by group and id.
fn collect(
    served: &[ServedHandlers],
    wanted: impl Fn(&GroupName, &HandlerEntry) -> bool,
    schemas: bool,
) -> Vec<Handler> {
    let mut found: Vec<(&ServedHandlers, &HandlerEntry)> = Vec::new();
    for one in served {
        let entries = one.catalogue.handlers.iter();
        let entries = entries.filter(|entry| wanted(&one.group, entry));
        found.extend(entries.map(|entry| (one, entry)));
    }
    // Stable: members stay in the order in which they came.
    found.sort_by(|(one, a), (other, b)| (&one.group, &a.id).cmp(&(&other.group, &b.id)));
    let mut handlers: Vec<Handler> = Vec::new();
    let mut last: Vec<&HandlerEntry> = Vec::new();
    for (one, entry) in found {
        let member = Member {
            member: one.member,
            name: one.catalogue.name.clone(),
            since: one.since,
        };
        let before = handlers.iter_mut().zip(&last).rev();
        let mut before =
            before.take_while(|(have, of)| have.group == one.group && of.id == entry.id);
        if let Some((have, _)) = before.find(|(_, of)| **of == entry) {
            have.served_by.push(member);
            continue;
        }
        last.push(entry);
        handlers.push(Handler {
            group: one.group.clone(),
            entry: match schemas {
                true => entry.clone(),
                false => entry.without_schemas(),
            },
            served_by: vec![member],
        });
    }
    handlers
}
