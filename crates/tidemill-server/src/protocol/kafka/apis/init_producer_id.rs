//! `InitProducerId` (22), versions 0 to 5: the id of an idempotent or a transactional producer.
//!
//! Deviations: a producer without a transactional id that asks for another epoch of its id gets a
//! new id, as with Apache Kafka; ids are larger than Kafka's, as the broker's incarnation is part
//! of them. A takeover ends an open transaction in the same step, so `CONCURRENT_TRANSACTIONS` is
//! never answered.

use std::time::Duration;

use kafka_protocol::messages::{
    ApiKey, InitProducerIdRequest, InitProducerIdResponse, ProducerId as WireProducerId,
};
use tidemill_broker::{InitTransactional, ProducerError, ProducerIdentity};

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// The first version whose clients know `PRODUCER_FENCED`.
const KNOWS_FENCED: i16 = 4;

/// See the module.
pub(in super::super) struct InitProducerId;

impl Api for InitProducerId {
    type Request = InitProducerIdRequest;
    type Response = InitProducerIdResponse;
    const KEY: ApiKey = ApiKey::InitProducerId;
    const VERSIONS: [i16; 2] = [0, 5];
    const SHAPE: &'static Shape = &shapes::INIT_PRODUCER_ID;
    const NEEDS: Needs = &[
        (Operation::Write, Kind::TransactionalId),
        (Operation::IdempotentWrite, Kind::Cluster),
        (Operation::Write, Kind::Topic),
    ];

    async fn answer(call: Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
        match init(&call, &request).await {
            Ok(identity) => InitProducerIdResponse::default()
                .with_producer_id(WireProducerId(identity.id.0))
                .with_producer_epoch(identity.epoch.0),
            Err(code) => InitProducerIdResponse::default()
                .with_error_code(asked_again(code).code())
                .with_producer_id(WireProducerId(-1))
                .with_producer_epoch(-1),
        }
    }
}

/// A coordinator that cannot do it now. Clients take what partitions say of themselves, and that
/// the time is over, for the end of their producer here.
fn asked_again(code: Code) -> Code {
    match code {
        Code::NotLeaderOrFollower
        | Code::NotEnoughReplicas
        | Code::KafkaStorageError
        | Code::RequestTimedOut => Code::CoordinatorNotAvailable,
        code => code,
    }
}

async fn init(call: &Call, request: &InitProducerIdRequest) -> Result<ProducerIdentity, Code> {
    let refused = |why: &ProducerError| error::transaction(why, call.version >= KNOWS_FENCED);
    let access = call.access();
    let Some(id) = &request.transactional_id else {
        access.idempotent()?;
        return call.broker.init_producer().map_err(|why| refused(&why));
    };
    access.transaction(Operation::Write, id)?;
    let timeout_ms = u64::try_from(request.transaction_timeout_ms);
    let timeout_ms = timeout_ms.map_err(|_| Code::InvalidTransactionTimeout)?;
    let init = InitTransactional {
        id: convert::transactional_id(id)?,
        timeout: Duration::from_millis(timeout_ms),
        expected: convert::producer(request.producer_id, request.producer_epoch),
    };
    let done = call.broker.init_transactional(init).await;
    done.map_err(|why| refused(&why))
}

#[cfg(test)]
mod tests {
    use tidemill_core::error::Unavailable;

    use super::*;

    #[test]
    fn a_producer_that_is_refused_for_now_asks_again() {
        for why in [Unavailable::Overloaded, Unavailable::Closed] {
            let code = error::producer(&ProducerError::Unavailable(why));
            assert_eq!(asked_again(code), Code::CoordinatorNotAvailable);
        }
        for code in [Code::KafkaStorageError, Code::RequestTimedOut] {
            assert_eq!(asked_again(code), Code::CoordinatorNotAvailable);
        }
        assert_eq!(asked_again(Code::ProducerFenced), Code::ProducerFenced);
    }
}
