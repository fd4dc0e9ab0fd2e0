//! `/v1/groups`: lists, shows and deletes consumer groups.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use tidemill_broker::{GroupError, GroupInfo};
use tidemill_core::GroupName;

use super::answer::json;
use super::doors::{Doors, Methods};
use super::openapi::{Operation, Parameter};
use super::path::Named;
use super::problem::{Kind, Problem};
use super::query::Query;
use crate::app::App;

/// The paths of groups.
pub(crate) fn doors(doors: Doors) -> Doors {
    const QUERY: &[Parameter] = &[Parameter::flag(
        "force",
        "Also one with members, which lose their deliveries",
    )];
    let list_all =
        Operation::new("list_groups", "Lists the groups").answers::<Groups>(200, "All groups");
    let one = Operation::new("show_group", "Shows a group, its members and its positions")
        .answers::<Group>(200, "The group")
        .problems(&[Kind::InvalidName, Kind::UnknownGroup]);
    let remove = Operation::new("delete_group", "Deletes a group and its positions")
        .query(QUERY)
        .answers_nothing(204, "It is gone")
        .problems(&[
            Kind::InvalidQuery,
            Kind::InvalidName,
            Kind::UnknownGroup,
            Kind::GroupInUse,
            Kind::Mismatch,
        ]);
    doors
        .door("/v1/groups", Methods::new().get(list, list_all))
        .door(
            "/v1/groups/{group}",
            Methods::new().get(show, one).delete(delete, remove),
        )
}

#[derive(Serialize, JsonSchema)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Serialize, JsonSchema)]
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
async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
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
    app.pullers.dismiss_idle(&name);
    match force {
        true => broker.delete_group(&name).await?,
        false => broker.delete_group_without_members(&name).await?,
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
