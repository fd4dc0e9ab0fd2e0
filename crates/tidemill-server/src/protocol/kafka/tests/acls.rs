//! How clients of administration list, make and delete rules: what each filter takes, and what is
//! refused with which code.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::{
    ApiVersionsRequest, CreateAclsRequest, DeleteAclsRequest, DescribeAclsRequest,
};
use kafka_protocol::protocol::StrBytes;
use tidemill_broker::Broker;
use tokio::sync::watch;

use super::super::Door;
use super::super::access::follow;
use super::super::apis::acls::{CreateAcls, DeleteAcls, DescribeAcls};
use super::super::apis::api_versions::ApiVersions;
use super::super::apis::describe_user_scram_credentials::DescribeUserScramCredentials;
use super::super::error::Code;
use super::super::registry::Api;
use super::call;
use crate::config::{AclConfig, KafkaConfig};
use crate::limits::PERMISSIONS_LOOK_EVERY;
use crate::metrics::Metrics;
use crate::permissions::Permissions;
use crate::permissions::filter::Filter;
use crate::users::Users;

/// An open door without rules, where everybody is a super user.
fn door(folder: &tempfile::TempDir) -> (Arc<Door>, watch::Sender<bool>) {
    open_door(folder, "ANONYMOUS")
}

/// An open door without rules, and its super user.
fn open_door(folder: &tempfile::TempDir, root: &str) -> (Arc<Door>, watch::Sender<bool>) {
    let (close, closing) = watch::channel(false);
    let broker = Broker::in_memory();
    let pullers = Arc::new(crate::http::pull::Pullers::new(broker.bus()));
    let config = KafkaConfig {
        acls: Some(AclConfig {
            rules: folder.path().join("private"),
            open: true,
            super_users: BTreeSet::from([root.to_owned()]),
        }),
        ..KafkaConfig::default()
    };
    let door = Door::new(broker, config, Arc::new(Metrics::new()), pullers, closing);
    (Arc::new(door), close)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A topic's rule: by Kafka's numbers, reading is allowed.
fn creation(name: &str, pattern: i8) -> AclCreation {
    AclCreation::default()
        .with_resource_type(2)
        .with_resource_name(text(name))
        .with_resource_pattern_type(pattern)
        .with_principal(text("User:alice"))
        .with_host(text("*"))
        .with_operation(3)
        .with_permission_type(3)
}

async fn create(door: &Arc<Door>, creations: Vec<AclCreation>) -> Vec<i16> {
    let request = CreateAclsRequest::default().with_creations(creations);
    let told = CreateAcls::answer(call(door, 3), request).await;
    told.results.iter().map(|one| one.error_code).collect()
}

fn every() -> DescribeAclsRequest {
    DescribeAclsRequest::default()
        .with_resource_type_filter(1)
        .with_resource_name_filter(None)
        .with_pattern_type_filter(1)
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_operation(1)
        .with_permission_type(1)
}

/// The names and patterns of what is described.
async fn described(door: &Arc<Door>, request: DescribeAclsRequest) -> Vec<(String, i8)> {
    let told = DescribeAcls::answer(call(door, 3), request).await.response;
    assert_eq!(told.error_code, 0, "{told:?}");
    for resource in &told.resources {
        let acl = &resource.acls[0];
        let told = (acl.principal.as_str(), acl.host.as_str());
        assert_eq!(told, ("User:alice", "*"));
        assert_eq!((acl.operation, acl.permission_type), (3, 3));
    }
    let resources = told.resources.into_iter();
    let names = resources.map(|one| (one.resource_name.to_string(), one.pattern_type));
    names.collect()
}

#[tokio::test]
async fn filters_take_what_kafkas_take() {
    let folder = tempfile::tempdir().unwrap();
    let (door, _close) = door(&folder);
    let all = [("*", 3), ("ord", 4), ("orders", 3), ("other", 3)];
    let creations = all.map(|(name, pattern)| creation(name, pattern));
    let made = create(&door, creations.to_vec()).await;
    assert_eq!(made, [0; 4]);
    // Once more is no mistake.
    assert_eq!(create(&door, vec![creation("*", 3)]).await, [0]);
    let named = |name, pattern| {
        let request = every().with_pattern_type_filter(pattern);
        request.with_resource_name_filter(Some(text(name)))
    };
    let all = all.map(|(name, pattern)| (name.to_owned(), pattern));
    assert_eq!(described(&door, every()).await, all);
    for (name, pattern, taken) in [
        ("orders", 1, &all[2..3]),
        ("orders", 3, &all[2..3]),
        ("orders", 4, &[]),
        ("ord", 4, &all[1..2]),
        ("orders", 2, &all[..3]),
        ("nothing", 2, &all[..1]),
    ] {
        let told = described(&door, named(name, pattern)).await;
        assert_eq!(told, taken, "{name} {pattern}");
    }
    let group = every().with_resource_type_filter(3);
    assert_eq!(described(&door, group).await, []);
    let writes = every().with_operation(4);
    assert_eq!(described(&door, writes).await, []);
    let filter = DeleteAclsFilter::default()
        .with_resource_type_filter(2)
        .with_resource_name_filter(Some(text("orders")))
        .with_pattern_type_filter(2)
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_operation(1)
        .with_permission_type(1);
    let nonsense = filter.clone().with_operation(99);
    let request = DeleteAclsRequest::default().with_filters(vec![nonsense, filter]);
    let told = DeleteAcls::answer(call(&door, 3), request).await.response;
    let [refused, done] = &told.filter_results[..] else {
        panic!("{told:?}");
    };
    assert_eq!(refused.error_code, Code::InvalidRequest.code());
    let deleted = done.matching_acls.iter();
    let deleted = deleted.map(|one| (one.resource_name.to_string(), one.pattern_type));
    assert_eq!(deleted.collect::<Vec<_>>(), &all[..3]);
    assert_eq!(described(&door, every()).await, &all[3..]);
}

#[tokio::test]
async fn what_can_be_no_rule_is_refused_and_the_others_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let (door, _close) = door(&folder);
    let good = creation("a", 3);
    let wrong = [
        good.clone().with_resource_type(1),
        good.clone().with_resource_type(99),
        good.clone().with_resource_type(4),
        good.clone().with_resource_name(text("")),
        good.clone().with_resource_pattern_type(1),
        good.clone().with_resource_pattern_type(2),
        good.clone().with_principal(text("alice")),
        good.clone().with_host(text("example.org")),
        good.clone().with_operation(1),
        good.clone().with_operation(0),
        good.clone().with_permission_type(1),
    ];
    let mut all = wrong.to_vec();
    all.push(good);
    let codes = create(&door, all).await;
    let (last, others) = codes.split_last().unwrap();
    assert_eq!(*last, 0);
    let invalid = Code::InvalidRequest.code();
    assert!(others.iter().all(|code| *code == invalid), "{others:?}");
    assert_eq!(described(&door, every()).await, [("a".to_owned(), 3)]);
    let told = DescribeAcls::answer(call(&door, 3), every().with_operation(99)).await;
    assert_eq!(told.response.error_code, invalid);
}

#[tokio::test]
async fn where_there_are_permissions_users_are_kept_before_one_has_to_log_in() {
    use kafka_protocol::messages::DescribeUserScramCredentialsRequest;
    let folder = tempfile::tempdir().unwrap();
    let (door, _close) = door(&folder);
    let told = async |door: &Arc<Door>| {
        let request = DescribeUserScramCredentialsRequest::default();
        let told = DescribeUserScramCredentials::answer(call(door, 0), request).await;
        let users = told.results.iter().map(|one| one.user.to_string());
        (told.error_code, users.collect::<Vec<_>>())
    };
    assert_eq!(told(&door).await, (0, vec![]));
    let users = Users::new(folder.path().join("private"));
    users.add("alice", "one").unwrap();
    assert_eq!(told(&door).await, (0, vec!["alice".to_owned()]));
    let (plain, _close) = super::door(Broker::in_memory());
    assert_eq!(told(&plain).await.0, Code::SecurityDisabled.code());
}

#[tokio::test]
async fn who_has_not_logged_in_is_told_which_users_there_are_only_where_that_was_allowed() {
    use kafka_protocol::messages::DescribeUserScramCredentialsRequest as Request;
    use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
    let folder = tempfile::tempdir().unwrap();
    let users = Users::new(folder.path().join("private"));
    users.add("alice", "one").unwrap();
    let told = async |named: Option<&[&str]>| {
        let (door, _close) = open_door(&folder, "root");
        let user = |name: &&str| UserName::default().with_name(text(name));
        let users = named.map(|names| names.iter().map(user).collect());
        let request = Request::default().with_users(users);
        let told = DescribeUserScramCredentials::answer(call(&door, 0), request).await;
        let users = told.results.iter();
        let users = users.map(|one| (one.user.to_string(), one.error_code));
        (told.error_code, users.collect::<Vec<_>>())
    };
    let refused = Code::ClusterAuthorizationFailed.code();
    assert_eq!(told(None).await, (refused, vec![]));
    assert_eq!(told(Some(&[])).await, (refused, vec![]));
    let (alice, bob) = ("alice".to_owned(), "bob".to_owned());
    let unknown = Code::ResourceNotFound.code();
    let both = vec![(alice.clone(), 0), (bob, unknown)];
    assert_eq!(told(Some(&["alice", "bob"])).await, (0, both));
    // A rule that allows it is somebody's word: the cluster, and Describe.
    let (door, _close) = door(&folder);
    let rule = creation("kafka-cluster", 3)
        .with_resource_type(4)
        .with_operation(8)
        .with_principal(text("User:*"));
    assert_eq!(create(&door, vec![rule]).await, [0]);
    assert_eq!(told(None).await, (0, vec![(alice, 0)]));
}

#[tokio::test]
async fn without_permissions_they_say_so() {
    let (door, _close) = super::door(Broker::in_memory());
    let disabled = Code::SecurityDisabled.code();
    assert_eq!(create(&door, vec![creation("a", 3)]).await, [disabled]);
    let told = DescribeAcls::answer(call(&door, 1), every()).await.response;
    assert_eq!(told.error_code, disabled);
    let filters = vec![DeleteAclsFilter::default()];
    let request = DeleteAclsRequest::default().with_filters(filters);
    let told = DeleteAcls::answer(call(&door, 3), request).await.response;
    assert_eq!(told.filter_results[0].error_code, disabled);
    let versions = ApiVersions::answer(call(&door, 3), ApiVersionsRequest::default()).await;
    let told = versions.api_keys.iter().filter(|one| one.api_key == 29);
    assert_eq!(told.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_command_changes_beside_the_server_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (door, close) = door(&folder);
    let following = tokio::spawn(follow(Arc::clone(&door)));
    assert_eq!(create(&door, vec![creation("a", 3)]).await, [0]);
    let command = Permissions::new(folder.path().join("private"));
    command.delete(&[Filter::default()]).unwrap();
    while !described(&door, every()).await.is_empty() {
        tokio::time::sleep(PERMISSIONS_LOOK_EVERY).await;
    }
    close.send_replace(true);
    following.await.unwrap();
}
