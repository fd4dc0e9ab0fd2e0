//! `DescribeAcls` (29), `CreateAcls` (30) and `DeleteAcls` (31), versions 1 to 3: there are none,
//! which is told as Apache Kafka does without an authorizer.
//!
//! Deviations: none of such a server.

use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::delete_acls_response::DeleteAclsFilterResult;
use kafka_protocol::messages::{
    ApiKey, CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse,
    DescribeAclsRequest, DescribeAclsResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::super::error::Code;
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

const WHY: &str = "there are no ACLs: who is logged in may do everything";

/// See the module.
pub(in super::super) struct DescribeAcls;

impl Api for DescribeAcls {
    type Request = DescribeAclsRequest;
    type Response = DescribeAclsResponse;
    const KEY: ApiKey = ApiKey::DescribeAcls;
    const VERSIONS: [i16; 2] = [1, 3];
    const SHAPE: &'static Shape = &shapes::DESCRIBE_ACLS;

    async fn answer(_: Call, _: DescribeAclsRequest) -> DescribeAclsResponse {
        DescribeAclsResponse::default()
            .with_error_code(Code::SecurityDisabled.code())
            .with_error_message(Some(StrBytes::from_static_str(WHY)))
    }
}

/// See the module.
pub(in super::super) struct CreateAcls;

impl Api for CreateAcls {
    type Request = CreateAclsRequest;
    type Response = CreateAclsResponse;
    const KEY: ApiKey = ApiKey::CreateAcls;
    const VERSIONS: [i16; 2] = [1, 3];
    const SHAPE: &'static Shape = &shapes::CREATE_ACLS;

    async fn answer(_: Call, request: CreateAclsRequest) -> CreateAclsResponse {
        let refused = AclCreationResult::default().with_error_code(Code::SecurityDisabled.code());
        CreateAclsResponse::default().with_results(vec![refused; request.creations.len()])
    }
}

/// See the module.
pub(in super::super) struct DeleteAcls;

impl Api for DeleteAcls {
    type Request = DeleteAclsRequest;
    type Response = DeleteAclsResponse;
    const KEY: ApiKey = ApiKey::DeleteAcls;
    const VERSIONS: [i16; 2] = [1, 3];
    const SHAPE: &'static Shape = &shapes::DELETE_ACLS;

    async fn answer(_: Call, request: DeleteAclsRequest) -> DeleteAclsResponse {
        let code = Code::SecurityDisabled.code();
        let refused = DeleteAclsFilterResult::default().with_error_code(code);
        DeleteAclsResponse::default().with_filter_results(vec![refused; request.filters.len()])
    }
}
