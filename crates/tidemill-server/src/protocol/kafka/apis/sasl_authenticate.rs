//! `SaslAuthenticate` (36), versions 0 to 2: one token of a login, and the answer to it.
//!
//! Deviations: a login does not end by itself, so its lifetime is always 0; who likes logs in
//! again as the same user. What was wrong, the name or the password, is not told.

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, SaslAuthenticateRequest, SaslAuthenticateResponse};
use kafka_protocol::protocol::StrBytes;

use super::super::access::Needs;
use super::super::error::Code;
use super::super::registry::{Api, Call};
use super::super::sasl::Refused;
use super::super::shape::Shape;
use super::super::shapes;

/// See the module.
pub(in super::super) struct SaslAuthenticate;

impl Api for SaslAuthenticate {
    type Request = SaslAuthenticateRequest;
    type Response = SaslAuthenticateResponse;
    const KEY: ApiKey = ApiKey::SaslAuthenticate;
    const VERSIONS: [i16; 2] = [0, 2];
    const SHAPE: &'static Shape = &shapes::SASL_AUTHENTICATE;
    const NEEDS: Needs = &[];
    const BEFORE_LOGIN: bool = true;

    async fn answer(call: Call, request: SaslAuthenticateRequest) -> SaslAuthenticateResponse {
        let response = SaslAuthenticateResponse::default();
        let (code, why) = match call.session.token(&request.auth_bytes).await {
            Ok(answer) => return response.with_auth_bytes(Bytes::from(answer)),
            Err(Refused::Credentials) => (
                Code::SaslAuthenticationFailed,
                "the user is unknown, or the password is wrong",
            ),
            Err(Refused::State | Refused::Mechanism) => (
                Code::IllegalSaslState,
                "a mechanism is to be named in a SaslHandshake before",
            ),
        };
        response
            .with_error_code(code.code())
            .with_error_message(Some(StrBytes::from_static_str(why)))
    }
}
