//! Shows that every check of the conformance suite can fail: on a bus that gets one thing wrong,
//! it says so, and for the right reason.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use tidemill_broker::Broker;
use tidemill_core::Bus;
use tidemill_testkit::conformance::mutant::{Mutant, Mutation};
use tidemill_testkit::conformance::{CHECKS, Features, Instance};

/// The check, what is wrong with the bus, and a part of what the check must say.
const CASES: &[(&str, Mutation, &str)] = &[
    (
        "positions_ascend_and_lead_to_the_events",
        Mutation::ReversesBatches,
        "and found",
    ),
    (
        "events_come_back_verbatim",
        Mutation::ChangesData,
        "and got",
    ),
    (
        "an_empty_publish_is_nothing",
        Mutation::FillsEmptyPublishes,
        "nothing was published",
    ),
    (
        "too_large_is_refused_whole",
        Mutation::SwallowsTooLarge,
        "was answered Ok",
    ),
    (
        "fetch_reads_by_offset_within_its_bounds",
        Mutation::FetchesTooFar,
        "were asked for",
    ),
    (
        "fetch_reads_by_offset_within_its_bounds",
        Mutation::IgnoresBounds,
        "were asked for",
    ),
    (
        "fetch_waits_for_the_first_event",
        Mutation::NeverWaits,
        "wait",
    ),
    (
        "fetch_says_what_is_wrong",
        Mutation::HidesFetchErrors,
        "was answered Ok",
    ),
    (
        "topics_are_listed_with_their_bounds",
        Mutation::ListsTooMuch,
        "listed",
    ),
    (
        "a_watch_tells_of_every_new_end",
        Mutation::WatchesTooFar,
        "is the last event",
    ),
    (
        "every_group_gets_everything",
        Mutation::LosesEvents,
        "a group got",
    ),
    (
        "every_group_gets_everything",
        Mutation::DoublesEvents,
        "came again",
    ),
    (
        "every_group_gets_everything",
        Mutation::MergesGroups,
        "came",
    ),
    ("members_share", Mutation::SplitsGroups, "to two members"),
    ("members_share", Mutation::LosesEvents, "of 60 events came"),
    (
        "a_group_goes_on_where_it_was",
        Mutation::ForgetsSettlements,
        "came again",
    ),
    (
        "a_group_goes_on_where_it_was",
        Mutation::SplitsGroups,
        "went on with",
    ),
    (
        "a_new_group_starts_at_the_end",
        Mutation::IgnoresStart,
        "that starts at the end got",
    ),
    (
        "a_new_group_starts_at_an_offset",
        Mutation::IgnoresStart,
        "that starts at",
    ),
    (
        "one_of_a_key_in_flight_while_others_go_on",
        Mutation::IgnoresOrder,
        "in flight",
    ),
    (
        "one_of_a_key_in_flight_while_others_go_on",
        Mutation::OneAtATime,
        "of 3 deliveries",
    ),
    (
        "one_of_a_partition_in_flight",
        Mutation::IgnoresOrder,
        "two of one partition",
    ),
    (
        "without_order_one_key_fills_the_credit",
        Mutation::OneAtATime,
        "of 8 deliveries",
    ),
    (
        "a_dropped_settlement_comes_again",
        Mutation::KeepsDropped,
        "nothing came",
    ),
    (
        "a_dropped_settlement_comes_again",
        Mutation::ForgetsAttempts,
        "was due",
    ),
    (
        "a_dropped_member_gives_back",
        Mutation::ForgetsAttempts,
        "was due",
    ),
    (
        "a_dropped_member_gives_back",
        Mutation::SplitsGroups,
        "was due",
    ),
    (
        "a_stale_settlement_is_refused_whole",
        Mutation::AcceptsStale,
        "was answered Ok",
    ),
    (
        "a_stale_settlement_is_refused_whole",
        Mutation::SplitsCommits,
        "left events behind",
    ),
    ("a_retry_waits_and_counts", Mutation::RetriesAtOnce, "came"),
    (
        "a_retry_waits_and_counts",
        Mutation::ForgetsAttempts,
        "was due",
    ),
    (
        "a_dead_letter_is_kept_and_settled",
        Mutation::BuriesDeadLetters,
        "nothing came",
    ),
    (
        "returned_events_come_with_the_settlement",
        Mutation::DropsEffects,
        "positions",
    ),
    (
        "returned_events_come_with_the_settlement",
        Mutation::ForgetsSettlements,
        "positions",
    ),
    (
        "a_refused_commit_leaves_the_right_to_settle",
        Mutation::SpendsTheRight,
        "second try",
    ),
    (
        "a_refused_effect_refuses_the_commit",
        Mutation::SplitsCommits,
        "left events behind",
    ),
    (
        "pull_takes_at_most_its_credit",
        Mutation::GivesTooMuch,
        "gave",
    ),
    (
        "a_cancelled_pull_took_nothing",
        Mutation::TakesBeforeCancel,
        "cancelled pull",
    ),
    (
        "a_request_gets_the_handlers_reply",
        Mutation::EchoesRequests,
        "was answered with",
    ),
    (
        "a_request_times_out",
        Mutation::WaitsForEver,
        "nothing came",
    ),
    (
        "a_dead_lettered_request_says_so",
        Mutation::HidesDeadLetters,
        "was answered",
    ),
];

const EVENT_MAX_BYTES: usize = 64 * 1024;

async fn instance(mutation: Mutation, patience: Duration) -> Instance {
    let broker = Broker::builder()
        .in_memory(64 * 1024 * 1024)
        .event_max_bytes(EVENT_MAX_BYTES)
        .open()
        .await
        .unwrap();
    let mutant = Mutant::new(broker.bus(), mutation);
    let mut instance = Instance::new(Bus::new(mutant), Features::all(Some(EVENT_MAX_BYTES)));
    instance.patience = patience;
    instance.keeping(broker)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_check_fails_on_a_bus_that_breaks_its_rule() {
    let mut wrong = Vec::new();
    for (name, mutation, words) in CASES {
        let check = CHECKS.iter().find(|check| check.name == *name).unwrap();
        let patience = Duration::from_millis(1500);
        match check.run(&instance(*mutation, patience).await).await {
            Err(violation) if violation.0.contains(words) => {}
            other => wrong.push(format!("{name} on {mutation:?}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_check_passes_on_the_same_bus_without_a_mutation() {
    for check in CHECKS {
        let instance = instance(Mutation::None, Duration::from_secs(20)).await;
        assert!(check.applies_to(&instance.features), "{}", check.name);
        let result = check.run(&instance).await;
        assert_eq!(result, Ok(()), "{}", check.name);
    }
}

#[test]
fn every_check_has_a_bus_that_fails_it() {
    for check in CHECKS {
        let covered = CASES.iter().any(|(name, ..)| *name == check.name);
        assert!(covered, "no mutation shows that {} can fail", check.name);
    }
}
