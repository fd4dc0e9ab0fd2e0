//! `DescribeAcls` (29), `CreateAcls` (30) and `DeleteAcls` (31), versions 1 to 3: the rules about
//! who may do what.
//!
//! Deviations: without permissions (`--kafka-acls off`) the answer is `SECURITY_DISABLED`, as that
//! of Apache Kafka without an authorizer. Words that nobody knows are answered with
//! `INVALID_REQUEST`, where Kafka ends the connection. A host is an IP address or `*`. A rule that
//! several filters take is told with the first. Those of a request are added or deleted together,
//! but for those that cannot be.

use std::sync::Arc;

use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_acls_response::AclCreationResult;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::delete_acls_response::{
    DeleteAclsFilterResult, DeleteAclsMatchingAcl,
};
use kafka_protocol::messages::describe_acls_response::{AclDescription, DescribeAclsResource};
use kafka_protocol::messages::{
    ApiKey, CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse,
    DescribeAclsRequest, DescribeAclsResponse,
};
use kafka_protocol::protocol::StrBytes;
use tidemill_core::budget::{Class, Share};
use tokio::time::Instant;

use super::super::access::{Guard, Kind, Needs, Operation, number};
use super::super::convert;
use super::super::error::{Code, NONE, Refused};
use super::super::registry::{Api, Call, Held, grown};
use super::super::shape::Shape;
use super::super::shapes;
use crate::limits::{KAFKA_PARTITION_BYTES, MEMORY_WAIT, PERMISSION_FILTERS_MAX};
use crate::permissions::filter::{Filter, Named};
use crate::permissions::rule::{Effect, Match, Pattern, Rule};
use crate::permissions::{PermissionError, Permissions};

/// Kafka's number for what is left open in a filter.
const ANY: i8 = 1;
/// And for resources that a name falls under.
const MATCH: i8 = 2;

fn kind_number(kind: Kind) -> i8 {
    match kind {
        Kind::Topic => 2,
        Kind::Group => 3,
        Kind::Cluster => 4,
        Kind::TransactionalId => 5,
        Kind::DelegationToken => 6,
        Kind::User => 7,
    }
}

fn match_number(how: Match) -> i8 {
    match how {
        Match::Literal => 3,
        Match::Prefixed => 4,
    }
}

fn effect_number(effect: Effect) -> i8 {
    match effect {
        Effect::Deny => 2,
        Effect::Allow => 3,
    }
}

/// The one of these that has a number.
///
/// # Errors
/// None has it.
fn of<T: Copy>(every: &[T], number: fn(T) -> i8, wanted: i8, what: &str) -> Result<T, Refused> {
    let mut every = every.iter().copied();
    let found = every.find(|one| number(*one) == wanted);
    let why = || format!("{wanted} is the number of no {what}");
    found.ok_or_else(|| Refused::new(Code::InvalidRequest, why()))
}

/// As [`of`], or all of them.
fn any_of<T: Copy>(
    every: &[T],
    number: fn(T) -> i8,
    wanted: i8,
    what: &str,
) -> Result<Option<T>, Refused> {
    match wanted {
        ANY => Ok(None),
        wanted => of(every, number, wanted, what).map(Some),
    }
}

/// The rule that is to be made.
fn rule(asked: &AclCreation) -> Result<Rule, Refused> {
    let how = asked.resource_pattern_type;
    let rule = Rule {
        resource: Pattern {
            kind: of(Kind::EVERY, kind_number, asked.resource_type, "resource")?,
            name: asked.resource_name.to_string(),
            how: of(Match::EVERY, match_number, how, "pattern of names")?,
        },
        principal: asked.principal.to_string(),
        host: asked.host.to_string(),
        operation: of(Operation::EVERY, number, asked.operation, "operation")?,
        effect: of(
            Effect::EVERY,
            effect_number,
            asked.permission_type,
            "permission",
        )?,
    };
    let checked = rule.checked();
    checked.map_err(|why| Refused::new(Code::InvalidRequest, why))
}

/// The filter that is meant.
fn filter(asked: &DeleteAclsFilter) -> Result<Filter, Refused> {
    let text = |text: &Option<StrBytes>| text.as_ref().map(ToString::to_string);
    let named = match asked.pattern_type_filter {
        ANY => Named::Any,
        MATCH => Named::Matching,
        how => Named::As(of(Match::EVERY, match_number, how, "pattern of names")?),
    };
    let kind = asked.resource_type_filter;
    let (operation, effect) = (asked.operation, asked.permission_type);
    let filter = Filter {
        kind: any_of(Kind::EVERY, kind_number, kind, "resource")?,
        name: text(&asked.resource_name_filter),
        named,
        principal: text(&asked.principal_filter),
        host: text(&asked.host_filter),
        operation: any_of(Operation::EVERY, number, operation, "operation")?,
        effect: any_of(Effect::EVERY, effect_number, effect, "permission")?,
    };
    Ok(filter.checked())
}

/// The rules, for who may do this with the server.
///
/// # Errors
/// There are none, or he may not.
fn guarded(call: &Call, operation: Operation) -> Result<Arc<Guard>, Refused> {
    let Some(guard) = &call.door.guard else {
        let why = "there are no ACLs; the server takes them with --kafka-acls open or closed";
        return Err(Refused::new(Code::SecurityDisabled, why));
    };
    call.access().cluster(operation)?;
    Ok(Arc::clone(guard))
}

/// Changes rules on a thread that may wait for the disk.
async fn change<T: Send + 'static>(
    guard: &Guard,
    change: impl FnOnce(&Permissions) -> Result<T, PermissionError> + Send + 'static,
) -> Result<T, Refused> {
    let rules = Arc::clone(&guard.rules);
    let changed = tokio::task::spawn_blocking(move || change(&rules)).await;
    let unknown = || Refused::new(Code::UnknownServerError, "the ACLs cannot be changed");
    changed
        .map_err(|_| unknown())?
        .map_err(|error| match error {
            PermissionError::Rule(_) => Refused::new(Code::InvalidRequest, error),
            PermissionError::TooMany => Refused::new(Code::PolicyViolation, error),
            PermissionError::Nonsense { .. }
            | PermissionError::Gone(_)
            | PermissionError::Disk(_) => {
                tracing::error!(%error, "ACLs cannot be changed");
                unknown()
            }
        })
}

/// Memory for what is told of a rule.
fn bytes(rule: &Rule) -> usize {
    KAFKA_PARTITION_BYTES + rule.principal.len() + rule.resource.name.len()
}

/// What is refused, as a code and a text.
fn told(refused: Refused) -> (i16, Option<StrBytes>) {
    let why = refused.why.map(StrBytes::from_string);
    (refused.code.code(), why)
}

/// See the module.
pub(in super::super) struct DescribeAcls;

impl Api for DescribeAcls {
    type Request = DescribeAclsRequest;
    type Response = Held<DescribeAclsResponse>;
    const KEY: ApiKey = ApiKey::DescribeAcls;
    const VERSIONS: [i16; 2] = [1, 3];
    const SHAPE: &'static Shape = &shapes::DESCRIBE_ACLS;
    const NEEDS: Needs = &[(Operation::Describe, Kind::Cluster)];

    async fn answer(call: Call, asked: DescribeAclsRequest) -> Held<DescribeAclsResponse> {
        let mut share = call.door.memory.empty(Class::Answers);
        let response = match describe(&call, &asked, &mut share).await {
            Ok(resources) => DescribeAclsResponse::default().with_resources(resources),
            Err(refused) => {
                let (code, why) = told(refused);
                DescribeAclsResponse::default()
                    .with_error_code(code)
                    .with_error_message(why)
            }
        };
        Held { response, share }
    }
}

async fn describe(
    call: &Call,
    asked: &DescribeAclsRequest,
    share: &mut Share,
) -> Result<Vec<DescribeAclsResource>, Refused> {
    let guard = guarded(call, Operation::Describe)?;
    let filter = filter(
        &DeleteAclsFilter::default()
            .with_resource_type_filter(asked.resource_type_filter)
            .with_resource_name_filter(asked.resource_name_filter.clone())
            .with_pattern_type_filter(asked.pattern_type_filter)
            .with_principal_filter(asked.principal_filter.clone())
            .with_host_filter(asked.host_filter.clone())
            .with_operation(asked.operation)
            .with_permission_type(asked.permission_type),
    )?;
    let why = || Refused::new(Code::UnknownServerError, "the ACLs cannot be read");
    let known = guard.rules.known().ok_or_else(why)?;
    let until = Instant::now() + MEMORY_WAIT;
    let mut resources = Vec::<DescribeAclsResource>::new();
    let mut last = None::<&Pattern>;
    for rule in known.rules.iter().filter(|rule| filter.takes(rule)) {
        if !grown(share, bytes(rule), until).await {
            let why = "there is no memory for so many ACLs now; ask again, or for fewer";
            return Err(Refused::new(Code::CoordinatorLoadInProgress, why));
        }
        // Those about the same resources stand together.
        if last != Some(&rule.resource) {
            resources.push(
                DescribeAclsResource::default()
                    .with_resource_type(kind_number(rule.resource.kind))
                    .with_resource_name(convert::text(&rule.resource.name))
                    .with_pattern_type(match_number(rule.resource.how)),
            );
            last = Some(&rule.resource);
        }
        if let Some(resource) = resources.last_mut() {
            resource.acls.push(
                AclDescription::default()
                    .with_principal(convert::text(&rule.principal))
                    .with_host(convert::text(&rule.host))
                    .with_operation(number(rule.operation))
                    .with_permission_type(effect_number(rule.effect)),
            );
        }
    }
    Ok(resources)
}

/// See the module.
pub(in super::super) struct CreateAcls;

impl Api for CreateAcls {
    type Request = CreateAclsRequest;
    type Response = CreateAclsResponse;
    const KEY: ApiKey = ApiKey::CreateAcls;
    const VERSIONS: [i16; 2] = [1, 3];
    const SHAPE: &'static Shape = &shapes::CREATE_ACLS;
    const NEEDS: Needs = &[(Operation::Alter, Kind::Cluster)];

    async fn answer(call: Call, asked: CreateAclsRequest) -> CreateAclsResponse {
        let rules: Vec<_> = asked.creations.iter().map(rule).collect();
        let good = rules.iter().filter_map(|rule| rule.as_ref().ok().cloned());
        let (code, why) = match create(&call, good.collect()).await {
            Ok(()) => (NONE, None),
            Err(refused) => told(refused),
        };
        let alone = |code: i16| code == NONE || code == Code::PolicyViolation.code();
        let results = rules.into_iter().map(|rule| {
            let (code, why) = match rule {
                Err(refused) if alone(code) => told(refused),
                _ => (code, why.clone()),
            };
            AclCreationResult::default()
                .with_error_code(code)
                .with_error_message(why)
        });
        CreateAclsResponse::default().with_results(results.collect())
    }
}

async fn create(call: &Call, rules: Vec<Rule>) -> Result<(), Refused> {
    let guard = guarded(call, Operation::Alter)?;
    change(&guard, move |permissions| {
        permissions.add(rules).map(|_| ())
    })
    .await
}

/// See the module.
pub(in super::super) struct DeleteAcls;

impl Api for DeleteAcls {
    type Request = DeleteAclsRequest;
    type Response = Held<DeleteAclsResponse>;
    const KEY: ApiKey = ApiKey::DeleteAcls;
    const VERSIONS: [i16; 2] = [1, 3];
    const SHAPE: &'static Shape = &shapes::DELETE_ACLS;
    const NEEDS: Needs = &[(Operation::Alter, Kind::Cluster)];

    async fn answer(call: Call, asked: DeleteAclsRequest) -> Held<DeleteAclsResponse> {
        let mut share = call.door.memory.empty(Class::Answers);
        let filters: Vec<_> = asked.filters.iter().map(filter).collect();
        let good = filters.iter().filter_map(|one| one.as_ref().ok().cloned());
        let (mut taken, all) = match delete(&call, good.collect()).await {
            Ok(taken) => (taken.into_iter(), None),
            Err(refused) => (Vec::new().into_iter(), Some(told(refused))),
        };
        let results = filters.into_iter().map(|filter| {
            let refused = match (&all, filter) {
                (Some(refused), _) => refused.clone(),
                (None, Err(refused)) => told(refused),
                (None, Ok(_)) => {
                    let rules = taken.next().unwrap_or_default();
                    // They are in memory, and gone already.
                    share.grow_anyway(rules.iter().map(bytes).sum());
                    let rules = rules.iter().map(deleted).collect();
                    return DeleteAclsFilterResult::default().with_matching_acls(rules);
                }
            };
            DeleteAclsFilterResult::default()
                .with_error_code(refused.0)
                .with_error_message(refused.1)
        });
        let results = results.collect();
        let response = DeleteAclsResponse::default().with_filter_results(results);
        Held { response, share }
    }
}

async fn delete(call: &Call, filters: Vec<Filter>) -> Result<Vec<Vec<Rule>>, Refused> {
    let guard = guarded(call, Operation::Alter)?;
    if filters.len() > PERMISSION_FILTERS_MAX {
        let why = format!("a request has at most {PERMISSION_FILTERS_MAX} filters");
        return Err(Refused::new(Code::InvalidRequest, why));
    }
    change(&guard, move |permissions| permissions.delete(&filters)).await
}

fn deleted(rule: &Rule) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl::default()
        .with_resource_type(kind_number(rule.resource.kind))
        .with_resource_name(convert::text(&rule.resource.name))
        .with_pattern_type(match_number(rule.resource.how))
        .with_principal(convert::text(&rule.principal))
        .with_host(convert::text(&rule.host))
        .with_operation(number(rule.operation))
        .with_permission_type(effect_number(rule.effect))
}
