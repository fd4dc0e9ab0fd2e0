//! What only a running server knows: the handlers that programs serve, what they reply, what
//! flows where, and who is connected.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tidemill::core::json;
use tidemill::{Event, GroupName, TopicName};

use super::Target;
use crate::client::path;
use crate::failure::Failure;
use crate::wire;

impl Target {
    /// The handlers that are served now: all, those of a group, or those of an id.
    ///
    /// # Errors
    /// Of a folder that no server has open: nothing serves its events.
    pub(crate) async fn handlers(
        &self,
        group: Option<&GroupName>,
        id: Option<&str>,
    ) -> Result<Vec<wire::Handler>, Failure> {
        let Self::Server(client) = self else {
            return Err(at_rest());
        };
        let named = [("group", group.map(GroupName::as_str)), ("id", id)];
        let pairs = named.into_iter().filter_map(|(name, value)| {
            let value = utf8_percent_encode(value?, NON_ALPHANUMERIC);
            Some(format!("{name}={value}"))
        });
        let query = pairs.collect::<Vec<_>>().join("&");
        let at = format!("/v1/handlers?{query}");
        let answer: wire::Handlers = client.get(&at, Duration::ZERO).await?;
        Ok(answer.handlers)
    }

    /// Publishes `event` and waits for the reply of the handler that settles it.
    ///
    /// # Errors
    /// As [`Target::handlers`]; what the server refused; and where no reply came in time.
    pub(crate) async fn request(
        &self,
        topic: &TopicName,
        event: &Event,
        timeout: Duration,
    ) -> Result<Event, Failure> {
        let Self::Server(client) = self else {
            return Err(at_rest());
        };
        let at = path(&["v1", "topics", topic.as_str(), "request"]);
        let at = format!("{at}?timeout_ms={}", timeout.as_millis());
        let mut body = Vec::new();
        json::encode(event, &mut body);
        let kind = json::EVENT_CONTENT_TYPE;
        let asked = client.post_and_wait(&at, kind, body.into(), timeout).await;
        json::decode(&asked?)
            .map_err(|why| Failure::new(format!("the server's answer is not understood: {why}")))
    }

    /// Who is connected.
    ///
    /// # Errors
    /// As [`Target::handlers`].
    pub(crate) async fn clients(&self) -> Result<Vec<wire::Client>, Failure> {
        let Self::Server(client) = self else {
            return Err(at_rest());
        };
        let mut all: Vec<wire::Client> = Vec::new();
        loop {
            let after = all.last().map(|last| format!("?after={}", last.id));
            let at = format!("/v1/clients{}", after.unwrap_or_default());
            let page: wire::Clients = client.get(&at, Duration::ZERO).await?;
            if page.clients.is_empty() {
                return Ok(all);
            }
            all.extend(page.clients);
        }
    }

    /// Who sends what to whom.
    ///
    /// # Errors
    /// As [`Target::handlers`].
    pub(crate) async fn graph(&self) -> Result<wire::Graph, Failure> {
        match self {
            Self::Server(client) => Ok(client.get("/v1/graph", Duration::ZERO).await?),
            Self::Folder(_) => Err(at_rest()),
        }
    }

    /// The same as text for Mermaid.
    ///
    /// # Errors
    /// As [`Target::handlers`].
    pub(crate) async fn graph_for_mermaid(&self) -> Result<String, Failure> {
        match self {
            Self::Server(client) => Ok(client.get_text("/v1/graph?format=mermaid").await?),
            Self::Folder(_) => Err(at_rest()),
        }
    }
}

pub(super) fn at_rest() -> Failure {
    Failure::new(
        "a folder that no server has open is served by nobody; start `tidemill serve` on it and \
         ask that with --server",
    )
}
