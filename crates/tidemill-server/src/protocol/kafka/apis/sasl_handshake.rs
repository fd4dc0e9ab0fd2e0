//! `SaslHandshake` (17), versions 0 to 1: a client names how it logs in. After version 0 its
//! tokens come as they are, after version 1 in [`SaslAuthenticate`](super::sasl_authenticate).
//!
//! Deviations: PLAIN is not among the mechanisms where the password could be read on its way.

use kafka_protocol::messages::{ApiKey, SaslHandshakeRequest, SaslHandshakeResponse};
use kafka_protocol::protocol::StrBytes;

use super::super::access::Needs;
use super::super::error::{Code, NONE};
use super::super::registry::{Api, Call};
use super::super::sasl::Refused;
use super::super::shape::Shape;
use super::super::shapes;

/// See the module.
pub(in super::super) struct SaslHandshake;

impl Api for SaslHandshake {
    type Request = SaslHandshakeRequest;
    type Response = SaslHandshakeResponse;
    const KEY: ApiKey = ApiKey::SaslHandshake;
    const VERSIONS: [i16; 2] = [0, 1];
    const SHAPE: &'static Shape = &shapes::SASL_HANDSHAKE;
    const NEEDS: Needs = &[];
    const BEFORE_LOGIN: bool = true;

    async fn answer(call: Call, request: SaslHandshakeRequest) -> SaslHandshakeResponse {
        let code = match call.session.choose(&request.mechanism, call.version == 0) {
            Ok(()) => NONE,
            Err(Refused::Mechanism) => Code::UnsupportedSaslMechanism.code(),
            Err(Refused::State | Refused::Credentials) => Code::IllegalSaslState.code(),
        };
        let mechanisms = call.session.mechanisms().into_iter();
        let names = mechanisms.map(|mechanism| StrBytes::from_static_str(mechanism.name()));
        SaslHandshakeResponse::default()
            .with_error_code(code)
            .with_mechanisms(names.collect())
    }
}
