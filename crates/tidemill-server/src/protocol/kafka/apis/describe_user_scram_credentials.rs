//! `DescribeUserScramCredentials` (50), version 0: which users there are, and how they may log in.
//!
//! Deviations: where nobody has to log in and there are no permissions there are no users, and the
//! answer is `SECURITY_DISABLED`. Who has not logged in, and is allowed to see the cluster by no
//! rule but because none is about it, is told of users that he names, and not which there are.

use std::collections::HashSet;

use kafka_protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult as OfUser,
};
use kafka_protocol::messages::{
    ApiKey, DescribeUserScramCredentialsRequest as Request,
    DescribeUserScramCredentialsResponse as Response,
};
use kafka_protocol::protocol::StrBytes;

use super::super::access::{Kind, Needs, Operation};
use super::super::error::Code;
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use crate::users::Credentials;
use crate::users::credential::Scram;

/// See the module.
pub(in super::super) struct DescribeUserScramCredentials;

/// How Kafka numbers the mechanisms.
pub(super) fn number(scram: Scram) -> i8 {
    match scram {
        Scram::Sha256 => 1,
        Scram::Sha512 => 2,
    }
}

impl Api for DescribeUserScramCredentials {
    type Request = Request;
    type Response = Response;
    const KEY: ApiKey = ApiKey::DescribeUserScramCredentials;
    const VERSIONS: [i16; 2] = [0, 0];
    const SHAPE: &'static Shape = &shapes::DESCRIBE_USER_SCRAM_CREDENTIALS;
    const NEEDS: Needs = &[(Operation::Describe, Kind::Cluster)];

    async fn answer(call: Call, request: Request) -> Response {
        let refused = |code: Code, why: &'static str| {
            Response::default()
                .with_error_code(code.code())
                .with_error_message(Some(StrBytes::from_static_str(why)))
        };
        if let Err(code) = call.access().cluster(Operation::Describe) {
            return refused(code, "users are told to those who may describe the cluster");
        }
        let Some(users) = call.session.users() else {
            return refused(Code::SecurityDisabled, "nobody has to log in here");
        };
        let asked = request.users.filter(|users| !users.is_empty());
        let is_known = || {
            call.session.user().is_some() || call.access().is_granted_cluster(Operation::Describe)
        };
        if asked.is_none() && !is_known() {
            let why = "log in to be told all users, or have a rule allow it, or name some";
            return refused(Code::ClusterAuthorizationFailed, why);
        }
        let read = tokio::task::spawn_blocking(move || users.current());
        let users = match read.await {
            Ok(Ok(users)) => users,
            Ok(Err(error)) => {
                tracing::error!(%error, "users cannot be told");
                return refused(Code::UnknownServerError, "the users cannot be read");
            }
            Err(_) => return refused(Code::UnknownServerError, "the users cannot be read"),
        };
        let results = match asked {
            None => users
                .iter()
                .map(|(name, kept)| told(StrBytes::from_string(name.clone()), kept))
                .collect(),
            Some(asked) => {
                let mut seen = HashSet::new();
                let one = |name: StrBytes| match users.get(name.as_str()) {
                    _ if !seen.insert(name.clone()) => failed(name, Code::DuplicateResource),
                    Some(kept) => told(name, kept),
                    None => failed(name, Code::ResourceNotFound),
                };
                asked.into_iter().map(|user| user.name).map(one).collect()
            }
        };
        Response::default().with_results(results)
    }
}

fn told(name: StrBytes, kept: &Credentials) -> OfUser {
    let infos = kept.all().map(|(scram, kept)| {
        CredentialInfo::default()
            .with_mechanism(number(scram))
            .with_iterations(i32::try_from(kept.iterations.get()).unwrap_or(i32::MAX))
    });
    OfUser::default()
        .with_user(name)
        .with_credential_infos(infos.collect())
}

fn failed(name: StrBytes, code: Code) -> OfUser {
    OfUser::default()
        .with_user(name)
        .with_error_code(code.code())
}
