//! `ListTransactions` (66), versions 0 to 2: the transactional producers, by how far they are, who
//! they are, how long their transactions have been open, and from version 2 on by a regular
//! expression that the whole of their ids matches.
//!
//! Deviations: an expression without look around and back references, which is not too large for
//! so many ids; else `INVALID_REGULAR_EXPRESSION`. Producers for which there is no memory are left
//! out, and the answer says `COORDINATOR_LOAD_IN_PROGRESS`, so that it is asked for again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::list_transactions_response::TransactionState;
use kafka_protocol::messages::{
    ApiKey, ListTransactionsRequest, ListTransactionsResponse, ProducerId,
};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::{NamePattern, TransactionSummary, TransactionalId};
use tidemill_core::budget::Class;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code};
use super::super::registry::{Api, Call, Held, grown};
use super::super::shape::Shape;
use super::super::shapes;
use super::describe_transactions::state;
use crate::limits::{KAFKA_PARTITION_BYTES, KAFKA_PATTERN_WORK_MAX, MEMORY_WAIT};

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

/// Transactions that are looked at before others are served.
const ONE_TURN: usize = 256;

/// See the module.
pub(in super::super) struct ListTransactions;

impl Api for ListTransactions {
    type Request = ListTransactionsRequest;
    type Response = Held<ListTransactionsResponse>;
    const KEY: ApiKey = ApiKey::ListTransactions;
    const VERSIONS: [i16; 2] = [0, 2];
    const SHAPE: &'static Shape = &shapes::LIST_TRANSACTIONS;
    const NEEDS: Needs = &[(Operation::Describe, Kind::TransactionalId)];

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
        let filter = Filter::of(&request);
        let mut pattern = match Pattern::of(&request) {
            Ok(pattern) => pattern,
            Err(code) => {
                response.error_code = code.code();
                return Held { response, share };
            }
        };
        let access = call.access();
        let sees = |one: &TransactionSummary| {
            let id = one.id.as_str();
            access.may(Operation::Describe, Kind::TransactionalId, id) && filter.takes(one)
        };
        let mut last: Option<TransactionalId> = None;
        loop {
            // No more at once than what is of a bounded size.
            let page = call.broker.transactions(last.as_ref(), ONE_TURN);
            let Some(end) = page.last() else {
                return Held { response, share };
            };
            last = Some(end.id.clone());
            let mut seen: Vec<_> = page.into_iter().filter(|one| sees(one)).collect();
            if let Some(pattern) = &mut pattern {
                seen = match pattern.matching(seen).await {
                    Ok(matching) => matching,
                    Err(code) => {
                        response = ListTransactionsResponse::default();
                        response.error_code = code.code();
                        return Held { response, share };
                    }
                };
            }
            for one in seen {
                let bytes = KAFKA_PARTITION_BYTES + one.id.as_str().len();
                if !grown(&mut share, bytes, until).await {
                    response.error_code = Code::CoordinatorLoadInProgress.code();
                    return Held { response, share };
                }
                response.transaction_states.push(told(&one));
            }
            yield_now().await;
        }
    }
}

/// The expression that ids are to match, and what comparing them may still take.
struct Pattern {
    pattern: Arc<NamePattern>,
    work: usize,
}

impl Pattern {
    /// `None` where all are asked for.
    fn of(request: &ListTransactionsRequest) -> Result<Option<Self>, Code> {
        let text = request.transactional_id_pattern.as_deref();
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let pattern = NamePattern::new(text).map_err(|why| error::consumer(&why))?;
        Ok(Some(Self {
            pattern: Arc::new(pattern),
            work: KAFKA_PATTERN_WORK_MAX,
        }))
    }

    /// Those that match, found beside the runtime's threads.
    async fn matching(
        &mut self,
        mut all: Vec<TransactionSummary>,
    ) -> Result<Vec<TransactionSummary>, Code> {
        let needed = all.iter().map(|one| self.pattern.work(one.id.as_str()));
        let left = self.work.checked_sub(needed.sum());
        self.work = left.ok_or(Code::InvalidRegularExpression)?;
        let pattern = Arc::clone(&self.pattern);
        let matching = tokio::task::spawn_blocking(move || {
            all.retain(|one| pattern.is_match(one.id.as_str()));
            all
        });
        matching.await.map_err(|_| Code::UnknownServerError)
    }
}

fn told(one: &TransactionSummary) -> TransactionState {
    TransactionState::default()
        .with_transactional_id(convert::text(one.id.as_str()).into())
        .with_producer_id(ProducerId(one.producer.0))
        .with_transaction_state(StrBytes::from_static_str(state(one.status)))
}

/// What is asked for; a list that is empty asks for all.
struct Filter<'a> {
    states: Option<HashSet<&'a str>>,
    producers: Option<HashSet<i64>>,
    longer_than: Option<Duration>,
}

impl<'a> Filter<'a> {
    fn of(request: &'a ListTransactionsRequest) -> Self {
        let states = request.state_filters.iter().map(StrBytes::as_str);
        let producers = request.producer_id_filters.iter().map(|id| id.0);
        Self {
            states: (!request.state_filters.is_empty()).then(|| states.collect()),
            producers: (!request.producer_id_filters.is_empty()).then(|| producers.collect()),
            // A negative time asks for all.
            longer_than: u64::try_from(request.duration_filter)
                .ok()
                .map(Duration::from_millis),
        }
    }

    fn takes(&self, info: &TransactionSummary) -> bool {
        let of_state = |states: &HashSet<&str>| states.contains(state(info.status));
        let of_producer = |ids: &HashSet<_>| ids.contains(&info.producer.0);
        let so_long = |least| info.age.is_some_and(|age| age > least);
        self.states.as_ref().is_none_or(of_state)
            && self.producers.as_ref().is_none_or(of_producer)
            && self.longer_than.is_none_or(so_long)
    }
}
