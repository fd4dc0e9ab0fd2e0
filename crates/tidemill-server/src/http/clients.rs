//! `/v1/clients`: who is connected, and what each did. May not know by which door they came.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;
use tidemill_broker::Broker;
use tidemill_core::GroupName;

use super::answer::json;
use super::doors::Methods;
use super::openapi::{Operation, Parameter};
use super::problem::{Kind, Problem};
use super::query::Query;
use crate::app::App;
use crate::clients::Shown;
use crate::limits::{CLIENTS_LISTED_DEFAULT, CLIENTS_LISTED_MAX};

/// What programs can count up to whose numbers are those of JavaScript.
const AFTER_MAX: u64 = (1 << 53) - 1;

#[derive(Serialize, JsonSchema)]
struct ClientList {
    /// In the order in which they came.
    clients: Vec<Shown>,
    /// How many are connected, those that are not listed included.
    connected: usize,
}

/// The methods of `/v1/clients`.
pub(crate) fn methods() -> Methods {
    const QUERY: &[Parameter] = &[
        Parameter::number("max", "Most clients", (1, CLIENTS_LISTED_MAX as u64))
            .or(CLIENTS_LISTED_DEFAULT as u64),
        Parameter::number("after", "Only those with higher ids", (0, AFTER_MAX)),
    ];
    let operation = Operation::new("list_clients", "Lists the clients that are connected")
        .described("Those of the Kafka protocol, a connection each.")
        .query(QUERY)
        .answers::<ClientList>(200, "The clients")
        .problems(&[Kind::InvalidQuery]);
    Methods::new().get(list, operation)
}

/// Those of a group who are there now.
fn members(broker: Option<&Broker>, group: &str) -> HashSet<String> {
    let Some((broker, name)) = broker.zip(GroupName::new(group).ok()) else {
        return HashSet::new();
    };
    if let Some(found) = broker.consumer_groups().describe(&name) {
        let ids = found.members.iter().map(|one| one.member.to_string());
        return ids.collect();
    }
    if let Some(found) = broker.share_groups().describe(&name) {
        let ids = found.members.iter().map(|one| one.member.to_string());
        return ids.collect();
    }
    let found = broker.classic_groups().describe(&name);
    let members = found.map(|group| group.members).unwrap_or_default();
    let ids = members.iter().map(|member| member.member.to_string());
    ids.collect()
}

/// Everybody, in pages.
async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["max", "after"])?;
    let most = query.number("max", 1..=CLIENTS_LISTED_MAX)?;
    let after = query.number("after", 0..=AFTER_MAX)?;
    let all = &app.metrics.connected;
    let listed = all.list(after, most.unwrap_or(CLIENTS_LISTED_DEFAULT));
    // Each group is looked at once.
    let mut groups = HashMap::new();
    let mut is_member = |group: &str, member: &str| {
        let there = groups
            .entry(group.to_owned())
            .or_insert_with(|| members(app.broker.as_ref(), group));
        there.contains(member)
    };
    let clients = listed.iter().map(|client| client.shown(&mut is_member));
    Ok(json(&ClientList {
        clients: clients.collect(),
        connected: all.len(),
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use tidemill_broker::{ConsumerHeartbeat, ConsumerParts, ShareHeartbeat};
    use tidemill_core::TopicName;

    use super::*;

    #[tokio::test]
    async fn members_of_share_groups_are_members() {
        let broker = Broker::in_memory();
        let joins = ShareHeartbeat {
            member: "m".into(),
            topics: Some(BTreeSet::from([TopicName::new("t").unwrap()])),
            ..ShareHeartbeat::default()
        };
        let name = GroupName::new("g").unwrap();
        let groups = broker.share_groups();
        groups.heartbeat(&name, joins).await.unwrap();
        let found = members(Some(&broker), "g");
        assert_eq!(found, HashSet::from(["m".to_owned()]));
    }

    #[tokio::test]
    async fn members_of_consumer_groups_are_members() {
        let broker = Broker::in_memory();
        let joins = ConsumerHeartbeat {
            member: "m".into(),
            rebalance_timeout: Some(Duration::from_secs(60)),
            topics: Some(BTreeSet::new()),
            owned: Some(ConsumerParts::new()),
            ..ConsumerHeartbeat::default()
        };
        let name = GroupName::new("g").unwrap();
        let groups = broker.consumer_groups();
        groups.heartbeat(&name, joins).await.unwrap();
        let found = members(Some(&broker), "g");
        assert_eq!(found, HashSet::from(["m".to_owned()]));
        assert_eq!(members(Some(&broker), "other"), HashSet::new());
    }
}
