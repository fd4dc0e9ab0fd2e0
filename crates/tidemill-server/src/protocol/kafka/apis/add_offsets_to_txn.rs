//! `AddOffsetsToTxn` (25), versions 0 to 3: a transaction is going to set positions of a group.
//!
//! Deviations: the group is not noted before its positions come, with `TxnOffsetCommit`; the
//! transaction begins here all the same.

use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, ApiKey};

use super::super::access::{Kind, Needs, Operation};
use super::super::convert;
use super::super::error::{self, Code};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// See the module.
pub(in super::super) struct AddOffsetsToTxn;

impl Api for AddOffsetsToTxn {
    type Request = AddOffsetsToTxnRequest;
    type Response = AddOffsetsToTxnResponse;
    const KEY: ApiKey = ApiKey::AddOffsetsToTxn;
    const VERSIONS: [i16; 2] = [0, 3];
    const SHAPE: &'static Shape = &shapes::ADD_OFFSETS_TO_TXN;
    const NEEDS: Needs = &[
        (Operation::Write, Kind::TransactionalId),
        (Operation::Read, Kind::Group),
    ];

    async fn answer(call: Call, asked: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
        let added = add(&call, &asked).await;
        AddOffsetsToTxnResponse::default().with_error_code(error::code_of(&added))
    }
}

async fn add(call: &Call, asked: &AddOffsetsToTxnRequest) -> Result<(), Code> {
    let access = call.access();
    access.transaction(Operation::Write, &asked.transactional_id)?;
    access.group(Operation::Read, &asked.group_id)?;
    let (id, producer) = (&asked.transactional_id, asked.producer_id);
    let (id, identity) = convert::transaction(id, producer, asked.producer_epoch)?;
    let added = call.broker.add_to_transaction(&id, identity, &[]).await;
    added.map_err(|why| error::transaction(&why, call.version >= 2))
}
