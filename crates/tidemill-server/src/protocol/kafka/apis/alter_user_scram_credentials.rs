//! `AlterUserScramCredentials` (51), version 0: users are made, get other passwords, and go.
//!
//! A user without credentials is none. A credential is for one mechanism, as a client says it:
//! PLAIN goes by the one for SCRAM-SHA-256, or by the other where there is no such one.
//!
//! Deviations: where nobody has to log in and there are no permissions the answer is
//! `SECURITY_DISABLED`. What is asked of one user is done for him alone or not at all.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;

use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::alter_user_scram_credentials_response as response;
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest as Request, AlterUserScramCredentialsResponse as Response,
    ApiKey,
};
use kafka_protocol::protocol::StrBytes;

use super::super::access::{Kind, Needs, Operation};
use super::super::error::{Code, code_of};
use super::super::registry::{Api, Call};
use super::super::shape::Shape;
use super::super::shapes;
use super::describe_user_scram_credentials::number;
use crate::limits::USERS_MAX;
use crate::users::credential::{Credential, Scram};
use crate::users::{Kept, UserError, check_name, check_new_name};

/// See the module.
pub(in super::super) struct AlterUserScramCredentials;

/// What is to be kept of a user from now on for one mechanism.
type Change = (Scram, Option<Credential>);

/// What is asked of each user, in the order of their names' first appearance.
#[derive(Debug, Default)]
struct Asked {
    order: Vec<StrBytes>,
    of: HashMap<StrBytes, Result<Vec<Change>, Code>>,
}

impl Api for AlterUserScramCredentials {
    type Request = Request;
    type Response = Response;
    const KEY: ApiKey = ApiKey::AlterUserScramCredentials;
    const VERSIONS: [i16; 2] = [0, 0];
    const SHAPE: &'static Shape = &shapes::ALTER_USER_SCRAM_CREDENTIALS;
    const NEEDS: Needs = &[(Operation::Alter, Kind::Cluster)];

    async fn answer(call: Call, request: Request) -> Response {
        let mut asked = Asked::default();
        for ScramCredentialDeletion {
            name, mechanism, ..
        } in request.deletions
        {
            let change = mechanism_of(mechanism).map(|scram| (scram, None));
            asked.add(name, change);
        }
        for upsertion in request.upsertions {
            asked.add(upsertion.name.clone(), credential(&upsertion));
        }
        let may = call.access().cluster(Operation::Alter);
        let results = match call.session.users() {
            _ if may.is_err() => asked.all_refused(Code::ClusterAuthorizationFailed),
            None => asked.all_refused(Code::SecurityDisabled),
            Some(users) => {
                let names = asked.order.clone();
                let changed = tokio::task::spawn_blocking(move || {
                    users.change(|users| Ok::<_, UserError>(asked.done(users)))
                });
                match changed.await {
                    Ok(Ok(results)) => results,
                    failed => {
                        tracing::error!(?failed, "users cannot be changed");
                        let refused = |name| (name, Code::UnknownServerError.code());
                        names.into_iter().map(refused).collect()
                    }
                }
            }
        };
        let results = results.into_iter().map(|(name, code)| {
            response::AlterUserScramCredentialsResult::default()
                .with_user(name)
                .with_error_code(code)
        });
        Response::default().with_results(results.collect())
    }
}

impl Asked {
    fn add(&mut self, name: StrBytes, change: Result<Change, Code>) {
        if !self.of.contains_key(&name) {
            self.order.push(name.clone());
        }
        let named = check_name(&name).map_err(|_| Code::UnacceptableCredential);
        let all = self
            .of
            .entry(name)
            .or_insert_with(|| named.map(|()| Vec::new()));
        match (all.as_mut(), change) {
            (Ok(changes), Ok(change)) => changes.push(change),
            (Ok(_), Err(code)) => *all = Err(code),
            (Err(_), _) => {}
        }
    }

    fn all_refused(self, code: Code) -> Vec<(StrBytes, i16)> {
        let refused = |name| (name, code.code());
        self.order.into_iter().map(refused).collect()
    }

    /// Does what can be done.
    fn done(mut self, users: &mut Kept) -> Vec<(StrBytes, i16)> {
        let mut results = Vec::with_capacity(self.order.len());
        for name in self.order {
            let asked = self.of.remove(&name).unwrap_or(Ok(Vec::new()));
            let done = asked.and_then(|changes| change(users, &name, changes));
            results.push((name, code_of(&done)));
        }
        results
    }
}

fn change(users: &mut Kept, name: &str, changes: Vec<Change>) -> Result<(), Code> {
    let mut mechanisms = HashSet::new();
    if !changes.iter().all(|(scram, _)| mechanisms.insert(*scram)) {
        return Err(Code::DuplicateResource);
    }
    let known = users.get(name);
    if known.is_none() && changes.iter().any(|(_, credential)| credential.is_some()) {
        check_new_name(name).map_err(|_| Code::UnacceptableCredential)?;
    }
    if known.is_none() && users.len() >= USERS_MAX {
        return Err(Code::PolicyViolation);
    }
    let mut kept = known.cloned().unwrap_or_default();
    for (scram, credential) in changes {
        if credential.is_none() && kept.get(scram).is_none() {
            return Err(Code::ResourceNotFound);
        }
        kept.set(scram, credential);
    }
    // Who has none left is no user any more.
    users.insert(name.to_owned(), kept);
    Ok(())
}

fn mechanism_of(wanted: i8) -> Result<Scram, Code> {
    let mut all = Scram::ALL.into_iter();
    let found = all.find(|scram| number(*scram) == wanted);
    found.ok_or(Code::UnsupportedSaslMechanism)
}

/// The credential that a client made, without knowing its password.
fn credential(upsertion: &ScramCredentialUpsertion) -> Result<Change, Code> {
    let scram = mechanism_of(upsertion.mechanism)?;
    let iterations = u32::try_from(upsertion.iterations)
        .ok()
        .and_then(NonZeroU32::new);
    let iterations = iterations.ok_or(Code::UnacceptableCredential)?;
    let (salt, salted) = (upsertion.salt.to_vec(), &upsertion.salted_password);
    let credential = Credential::of_salted(scram, salt, iterations, salted);
    match credential.is_sound(scram) && salted.len() == scram.key_bytes() {
        true => Ok((scram, Some(credential))),
        false => Err(Code::UnacceptableCredential),
    }
}
