//! `ApiVersions` (18), versions 0 to 4: which keys and versions are served.
//!
//! A request of a higher version is answered in version 0 with `UNSUPPORTED_VERSION` and what is
//! served, so that the client comes again with a version that we know.
//!
//! Deviations: none. No features are finalized, so transactions are those of before KIP-890.

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

use super::super::access::Needs;
use super::super::error::{Code, NONE};
use super::super::registry::{APIS, Api, Call};
use super::super::shape::Shape;
use super::super::shapes;

/// The first version in which a client says which program it is.
const TELLS_SOFTWARE: i16 = 3;

/// See the module.
pub(in super::super) struct ApiVersions;

impl Api for ApiVersions {
    type Request = ApiVersionsRequest;
    type Response = ApiVersionsResponse;
    const KEY: ApiKey = ApiKey::ApiVersions;
    const VERSIONS: [i16; 2] = [0, 4];
    const SHAPE: &'static Shape = &shapes::API_VERSIONS;
    const NEEDS: Needs = &[];
    const BEFORE_LOGIN: bool = true;

    async fn answer(call: Call, request: ApiVersionsRequest) -> ApiVersionsResponse {
        if call.version >= TELLS_SOFTWARE {
            let (name, version) = (
                request.client_software_name,
                request.client_software_version,
            );
            call.client.is(&name, &version);
        }
        let served = APIS.iter().map(|entry| {
            ApiVersion::default()
                .with_api_key(entry.key as i16)
                .with_min_version(entry.advertised[0])
                .with_max_version(entry.advertised[1])
        });
        let error = match call.too_new {
            true => Code::UnsupportedVersion.code(),
            false => NONE,
        };
        ApiVersionsResponse::default()
            .with_api_keys(served.collect())
            .with_error_code(error)
    }
}
