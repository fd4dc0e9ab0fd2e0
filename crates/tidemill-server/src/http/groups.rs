//! `/v1/groups`: lists, shows and deletes consumer groups.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use serde::Serialize;
use tidemill_broker::{GroupError, GroupInfo};
use tidemill_core::GroupName;

use super::answer::json;
use super::path::Named;
use super::problem::Problem;
use super::query::Query;
use crate::app::App;

/// The methods of `/v1/groups/{group}`.
pub(crate) fn one() -> MethodRouter<Arc<App>> {
    get(show).delete(delete)
}

#[derive(Serialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Serialize)]
struct Group {
    /// Durable events that are not settled, over all partitions.
    lag: u64,
    #[serde(flatten)]
    info: GroupInfo,
}

impl From<GroupInfo> for Group {
    fn from(info: GroupInfo) -> Self {
        let lag = info.lag();
        Self { lag, info }
    }
}

/// All groups.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let groups = app
        .broker()?
        .groups()
        .into_iter()
        .map(Group::from)
        .collect();
    Ok(json(&Groups { groups }))
}

async fn show(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let name = GroupName::new(name)?;
    match app.broker()?.group(&name) {
        Some(info) => Ok(json(&Group::from(info))),
        None => Err(GroupError::Unknown(name).into()),
    }
}

async fn delete(
    State(app): State<Arc<App>>,
    Named(name): Named,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["force"])?;
    let force = query.flag("force")?;
    let name = GroupName::new(name)?;
    let broker = app.broker()?;
    match force {
        true => broker.delete_group(&name).await?,
        false => broker.delete_group_without_members(&name).await?,
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
