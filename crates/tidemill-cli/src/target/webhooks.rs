//! Webhooks of a running server, in the form in which it tells of them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidemill::GroupName;

use super::Target;
use super::handlers::at_rest;
use crate::client::{Client, path};
use crate::failure::Failure;
use crate::limits::WEBHOOK_TEST_MAX;

const JSON: &str = "application/json";

/// `POST /v1/webhooks`.
#[derive(Serialize)]
pub(crate) struct NewWebhook<'a> {
    pub(crate) name: &'a str,
    pub(crate) topics: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<String>,
    pub(crate) start: &'static str,
    #[serde(flatten)]
    pub(crate) how: Changes<'a>,
}

/// `PATCH /v1/webhooks/{name}`: what is not named stays.
#[derive(Default, PartialEq, Eq, Serialize)]
pub(crate) struct Changes<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) types: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) headers: Option<BTreeMap<&'a str, &'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_first_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_max_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) concurrency: Option<usize>,
}

/// `GET /v1/webhooks/{name}`. Like all here that may have a secret it has no debug form.
#[derive(Deserialize, Serialize)]
pub(crate) struct Webhook {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) topics: Vec<String>,
    pub(crate) types: Vec<String>,
    pub(crate) headers: Vec<String>,
    pub(crate) timeout_ms: u64,
    pub(crate) attempts: u32,
    pub(crate) retry_first_ms: u64,
    pub(crate) retry_max_ms: u64,
    pub(crate) concurrency: usize,
    pub(crate) created: String,
    pub(crate) group: String,
    pub(crate) paused: Option<Paused>,
    pub(crate) lag: Option<u64>,
    pub(crate) in_flight: usize,
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    pub(crate) dead_lettered: u64,
    pub(crate) last_success: Option<String>,
    pub(crate) last_error: Option<LastError>,
    /// What keeps it from reading its topics now.
    #[serde(default)]
    pub(crate) trouble: Option<LastError>,
    pub(crate) old_secret_until: Option<String>,
    /// Only where it was just created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<String>,
}

/// Why nothing is sent.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Paused {
    pub(crate) reason: String,
    pub(crate) since: String,
}

/// What went wrong last.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct LastError {
    pub(crate) time: String,
    pub(crate) error: String,
}

/// `POST /v1/webhooks/{name}/rotate`.
#[derive(Deserialize, Serialize)]
pub(crate) struct Rotated {
    pub(crate) name: String,
    pub(crate) secret: String,
    pub(crate) old_secret_until: Option<String>,
    pub(crate) signing: usize,
    pub(crate) oldest_ended: bool,
}

/// `POST /v1/webhooks/{name}/test`.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Tested {
    pub(crate) delivered: bool,
    pub(crate) status: Option<u16>,
    pub(crate) error: Option<String>,
    pub(crate) took_ms: u64,
    pub(crate) id: String,
}

#[derive(Deserialize)]
struct Webhooks {
    webhooks: Vec<Webhook>,
}

#[derive(Serialize)]
struct Rotate {
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap_ms: Option<u64>,
}

fn one(name: &str) -> String {
    path(&["v1", "webhooks", name])
}

impl Target {
    /// The webhook that a group is, where there is one.
    pub(crate) async fn webhook_of(&self, group: &GroupName) -> Option<String> {
        let webhooks = match self {
            Self::Server(_) => self.webhooks().await.ok()?,
            Self::Folder(_) => return None,
        };
        let mut of = webhooks.into_iter().filter(|it| it.group == group.as_str());
        of.next().map(|webhook| webhook.name)
    }

    /// The server; webhooks are of a running one alone.
    fn webhook_server(&self) -> Result<&Client, Failure> {
        match self {
            Self::Server(client) => Ok(client),
            Self::Folder(_) => Err(at_rest()),
        }
    }

    async fn post_webhook<T: DeserializeOwned>(
        &self,
        at: &str,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let client = self.webhook_server()?;
        let body = serde_json::to_vec(body).expect("texts and numbers are JSON");
        Ok(client.post(at, JSON, body.into()).await?)
    }

    /// All webhooks, by name.
    ///
    /// # Errors
    /// Of a folder that no server has open: nothing is sent from there.
    pub(crate) async fn webhooks(&self) -> Result<Vec<Webhook>, Failure> {
        let client = self.webhook_server()?;
        let answer: Webhooks = client.get("/v1/webhooks", Duration::ZERO).await?;
        Ok(answer.webhooks)
    }

    /// One webhook.
    ///
    /// # Errors
    /// As [`Target::webhooks`]; and where there is none.
    pub(crate) async fn webhook(&self, name: &str) -> Result<Webhook, Failure> {
        Ok(self
            .webhook_server()?
            .get(&one(name), Duration::ZERO)
            .await?)
    }

    /// Creates one; the answer has its secret.
    ///
    /// # Errors
    /// As [`Target::webhooks`]; and what the server refuses.
    pub(crate) async fn create_webhook(&self, new: &NewWebhook<'_>) -> Result<Webhook, Failure> {
        self.post_webhook("/v1/webhooks", new).await
    }

    /// Changes one; its place stays.
    ///
    /// # Errors
    /// As [`Target::webhook`]; and what the server refuses.
    pub(crate) async fn alter_webhook(
        &self,
        name: &str,
        changes: &Changes<'_>,
    ) -> Result<Webhook, Failure> {
        let client = self.webhook_server()?;
        let body = serde_json::to_vec(changes).expect("texts and numbers are JSON");
        Ok(client.patch(&one(name), body.into()).await?)
    }

    /// Does `what` with one: `pause` or `resume`.
    ///
    /// # Errors
    /// As [`Target::webhook`].
    pub(crate) async fn turn_webhook(&self, name: &str, what: &str) -> Result<Webhook, Failure> {
        let at = format!("{}/{what}", one(name));
        Ok(self.webhook_server()?.ask(&at, Duration::ZERO).await?)
    }

    /// Gives one a new secret.
    ///
    /// # Errors
    /// As [`Target::webhook`]; and what the server refuses.
    pub(crate) async fn rotate_webhook(
        &self,
        name: &str,
        secret: Option<String>,
        overlap: Option<Duration>,
    ) -> Result<Rotated, Failure> {
        let overlap_ms = overlap.map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX));
        let body = Rotate { secret, overlap_ms };
        self.post_webhook(&format!("{}/rotate", one(name)), &body)
            .await
    }

    /// Has one send a test event.
    ///
    /// # Errors
    /// As [`Target::webhook`].
    pub(crate) async fn test_webhook(&self, name: &str) -> Result<Tested, Failure> {
        let at = format!("{}/test", one(name));
        Ok(self.webhook_server()?.ask(&at, WEBHOOK_TEST_MAX).await?)
    }

    /// Deletes one.
    ///
    /// # Errors
    /// As [`Target::webhook`].
    pub(crate) async fn delete_webhook(&self, name: &str) -> Result<(), Failure> {
        Ok(self.webhook_server()?.delete(&one(name)).await?)
    }
}
