//! `ListTransactions` (66), versions 0 to 1: the transactional producers, by how far they are, who
//! they are, and how long their transactions have been open.
//!
//! Deviations: version 2, which searches by patterns, is not served. Producers for which there is
//! no memory are left out, and the answer says `COORDINATOR_LOAD_IN_PROGRESS`, so that it is asked
//! for again.

use std::time::Duration;

use kafka_protocol::messages::list_transactions_response::TransactionState;
use kafka_protocol::messages::{
    ApiKey, ListTransactionsRequest, ListTransactionsResponse, ProducerId,
};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::TransactionInfo;
use tidemill_core::budget::Class;
use tokio::time::Instant;

use super::super::convert;
use super::super::error::Code;
use super::super::registry::{Api, Call, Held, grown};
use super::super::shape::Shape;
use super::super::shapes;
use super::describe_transactions::state;
use crate::limits::{KAFKA_PARTITION_BYTES, MEMORY_WAIT};

/// Kafka's words for how far a transaction may be.
const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

/// See the module.
pub(in super::super) struct ListTransactions;

impl Api for ListTransactions {
    type Request = ListTransactionsRequest;
    type Response = Held<ListTransactionsResponse>;
    const KEY: ApiKey = ApiKey::ListTransactions;
    const VERSIONS: [i16; 2] = [0, 1];
    const SHAPE: &'static Shape = &shapes::LIST_TRANSACTIONS;

    async fn answer(
        call: Call,
        request: ListTransactionsRequest,
    ) -> Held<ListTransactionsResponse> {
        let mut share = call.door.memory.empty(Class::Answers);
        let until = Instant::now() + MEMORY_WAIT;
        let unknown = request.state_filters.iter();
        let unknown = unknown.filter(|name| !STATES.contains(&name.as_str()));
        let mut response = ListTransactionsResponse::default()
            .with_unknown_state_filters(unknown.cloned().collect());
        for info in call.broker.transactions() {
            if !is_asked_for(&info, &request) {
                continue;
            }
            let bytes = KAFKA_PARTITION_BYTES + info.id.as_str().len();
            if !grown(&mut share, bytes, until).await {
                response.error_code = Code::CoordinatorLoadInProgress.code();
                break;
            }
            let told = TransactionState::default()
                .with_transactional_id(convert::text(info.id.as_str()).into())
                .with_producer_id(ProducerId(info.producer.0))
                .with_transaction_state(StrBytes::from_static_str(state(info.status)));
            response.transaction_states.push(told);
        }
        Held { response, share }
    }
}

fn is_asked_for(info: &TransactionInfo, request: &ListTransactionsRequest) -> bool {
    let (states, producers) = (&request.state_filters, &request.producer_id_filters);
    let of_state = || {
        states
            .iter()
            .any(|name| name.as_str() == state(info.status))
    };
    let of_producer = || producers.contains(&ProducerId(info.producer.0));
    // A negative time asks for all.
    let so_long = match u64::try_from(request.duration_filter) {
        Ok(ms) => info.age.is_some_and(|age| age > Duration::from_millis(ms)),
        Err(_) => true,
    };
    (states.is_empty() || of_state()) && (producers.is_empty() || of_producer()) && so_long
}
