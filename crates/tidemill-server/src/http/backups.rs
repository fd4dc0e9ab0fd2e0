//! `/v1/backups`: takes, lists and shows backups in the folder that the server was given for them.

use std::sync::Arc;

use axum::extract::{RawQuery, Request, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{json, json_with};
use super::body::{decode, is_for_json};
use super::doors::{Doors, Methods};
use super::openapi::Operation;
use super::path::Named as NamedPath;
use super::problem::{Kind, Problem};
use super::query::Query;
use crate::app::App;
use crate::backups::{Backups, Named, NotBegun, Standing};

/// The paths of backups.
pub(crate) fn doors(doors: Doors) -> Doors {
    let list_all = Operation::new("list_backups", "Lists the backups")
        .answers::<All>(200, "All backups")
        .problems(&[Kind::NotSupported]);
    let begin = Operation::new("take_backup", "Begins to take a backup")
        .takes::<NewBackup>()
        .answers::<Named>(202, "It is being taken; its path says how it stands")
        .problems(&[
            Kind::InvalidJson,
            Kind::InvalidName,
            Kind::Conflict,
            Kind::NotSupported,
        ]);
    let one = Operation::new("show_backup", "Says how a backup stands")
        .answers::<Named>(200, "The backup")
        .problems(&[Kind::UnknownBackup, Kind::NotSupported]);
    doors
        .door(
            "/v1/backups",
            Methods::new().get(list, list_all).post(take, begin),
        )
        .door("/v1/backups/{backup}", Methods::new().get(show, one))
}

#[derive(Serialize, JsonSchema)]
struct All {
    backups: Vec<Named>,
}

fn backups(app: &App) -> Result<&Arc<Backups>, Problem> {
    app.backups.as_ref().ok_or_else(|| {
        let detail = "this server has no folder for backups; start it with --backups DIR";
        Problem::new(Kind::NotSupported, detail)
    })
}

async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    let backups = Arc::clone(backups(&app)?);
    let listed = tokio::task::spawn_blocking(move || backups.list()).await;
    let internal = |why: String| Problem::new(Kind::Internal, why);
    let listed = listed.map_err(|error| internal(error.to_string()))?;
    let backups = listed
        .map_err(|error| internal(format!("the folder of backups cannot be read: {error}")))?;
    Ok(json(&All { backups }))
}

async fn show(
    State(app): State<Arc<App>>,
    NamedPath(name): NamedPath,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(query.as_deref(), &[])?;
    match backups(&app)?.show(&name) {
        Some(standing) => Ok(json(&Named { name, standing })),
        None => {
            let detail = format!("no backup {name}; GET /v1/backups lists those there are");
            Err(Problem::new(Kind::UnknownBackup, detail))
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct NewBackup {
    name: String,
}

async fn take(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let received = app.bodies.read(&parts.headers, body).await?;
    Query::parse(query.as_deref(), &[])?;
    let (backups, broker) = (backups(&app)?, app.broker()?);
    is_for_json(&parts.headers)?;
    let NewBackup { name } = decode(&received.bytes, "{\"name\": ...}", Kind::InvalidJson)?;
    backups.begin(broker, &name).map_err(|why| match why {
        NotBegun::Name(detail) => Problem::new(Kind::InvalidName, detail),
        NotBegun::Taken(detail) => Problem::new(Kind::Conflict, detail),
    })?;
    let location = format!("/v1/backups/{name}").try_into();
    let standing = Standing::Running;
    let mut response = json_with(StatusCode::ACCEPTED, &Named { name, standing });
    if let Ok(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}
