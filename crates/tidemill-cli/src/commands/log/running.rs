//! `tidemill log backup --server`: a running server copies its own data.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::client::{CallError, Client, path};
use crate::failure::Failure;
use crate::limits::BACKUP_LOOK_EVERY;
use crate::listing::print_json;
use crate::output::{all_the_same, say};
use crate::shell;
use crate::values::ServerUrl;

/// How it stands, as the server says.
#[derive(Deserialize, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Standing {
    Running,
    Done {
        files: Option<u64>,
        linked_files: Option<u64>,
        bytes: Option<u64>,
        #[serde(flatten)]
        rest: Map<String, Value>,
    },
    Failed {
        detail: String,
        #[serde(default)]
        copied: bool,
    },
}

/// Begins it and waits for its end.
pub(super) async fn take(server: &ServerUrl, name: &str, json: bool) -> Result<(), Failure> {
    let client = Client::new(server);
    let body = serde_json::json!({ "name": name }).to_string();
    let begun = client.post("/v1/backups", "application/json", Bytes::from(body));
    let mut standing: Standing = begun.await.map_err(|error| refused(server, name, error))?;
    let at = path(&["v1", "backups", name]);
    while matches!(standing, Standing::Running) {
        tokio::time::sleep(BACKUP_LOOK_EVERY).await;
        let shown = client.get(&at, Duration::ZERO).await;
        standing = shown.map_err(|error| {
            let why = format!("{error}; it may go on all the same: look before you begin another");
            Failure::new(format!("backup {name}: {why}"))
        })?;
    }
    match standing {
        Standing::Failed {
            detail,
            copied: false,
        } => {
            let why = format!("backup {name}: {detail}; what is there of it cannot be restored");
            Err(Failure::new(why))
        }
        Standing::Failed { detail, .. } => Err(Failure::new(format!("backup {name}: {detail}"))),
        done => {
            let told = all_the_same(tell(name, &done, json), format!("backup {name} is taken"));
            match damage(&done) {
                0 => told,
                count => told.and(Err(Failure::new(format!(
                    "{count} findings of damage, which are in backup {name} too"
                )))),
            }
        }
    }
}

/// Findings of damage in what was copied, as far as the server says.
fn damage(standing: &Standing) -> u64 {
    let Standing::Done { rest, .. } = standing else {
        return 0;
    };
    let report = rest.get("report").and_then(|report| report.get("damage"));
    report.and_then(Value::as_u64).unwrap_or(0)
}

fn refused(server: &ServerUrl, name: &str, error: CallError) -> Failure {
    match error {
        CallError::Refused(refusal) if refusal.is("not-supported") => Failure::usage(format!(
            "--server {}: {}",
            server.as_str(),
            refusal.detail()
        )),
        CallError::Refused(refusal) if refusal.is("conflict") || refusal.is("invalid-name") => {
            Failure::usage(format!(
                "--name {}: {}",
                shell::quoted(name),
                refusal.detail()
            ))
        }
        error => error.into(),
    }
}

fn tell(name: &str, done: &Standing, json: bool) -> Result<(), Failure> {
    if json {
        return print_json(done);
    }
    let Standing::Done {
        files,
        linked_files,
        bytes,
        ..
    } = done
    else {
        return Ok(());
    };
    let count = |number: &Option<u64>| number.map_or_else(|| "?".to_owned(), |n| n.to_string());
    say(format_args!(
        "{} files, {} of them shared, {} bytes in {name}, in the folder that the server has for \
         backups; tidemill log restore --from FOLDER/{name} --data DIR makes a data folder of it",
        count(files),
        count(linked_files),
        count(bytes)
    ))
}
