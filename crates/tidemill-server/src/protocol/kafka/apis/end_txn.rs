//! `EndTxn` (26), versions 0 to 3: commits or aborts a transaction.
//!
//! The answer comes when everything of it is durable: markers, positions of groups, and the
//! producer's state are one entry of the journal.
//!
//! Deviations: none.

use kafka_protocol::messages::{ApiKey, EndTxnRequest, EndTxnResponse};
use tidemill_broker::TransactionEnd;

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// See the module.
pub(in super::super) struct EndTxn;

impl Api for EndTxn {
    type Request = EndTxnRequest;
    type Response = EndTxnResponse;
    const KEY: ApiKey = ApiKey::EndTxn;
    const VERSIONS: [i16; 2] = [0, 3];
    const SHAPE: &'static Shape = &shapes::END_TXN;
    const NEEDS: Needs = &[(Operation::Write, Kind::TransactionalId)];

    async fn answer(call: Call, asked: EndTxnRequest) -> EndTxnResponse {
        let ended = end(&call, &asked).await;
        EndTxnResponse::default().with_error_code(error::code_of(&ended))
    }
}

async fn end(call: &Call, asked: &EndTxnRequest) -> Result<(), Code> {
    let access = call.access();
    access.transaction(Operation::Write, &asked.transactional_id)?;
    let (id, producer) = (&asked.transactional_id, asked.producer_id);
    let (id, identity) = convert::transaction(id, producer, asked.producer_epoch)?;
    let end = TransactionEnd {
        commit: asked.committed,
        renew: false,
    };
    let ended = call.broker.end_transaction(&id, identity, end).await;
    let ended = ended.map_err(|why| error::transaction(&why, call.version >= 2));
    ended.map(|_| ())
}
