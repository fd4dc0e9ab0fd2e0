//! What sessions promise: whatever clients and partitions do, who keeps one knows what one knows
//! that asks for everything each time; and whose session stays where there is little room.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const NAMES: [&str; 3] = ["a", "b", "c"];

fn owner(name: &str) -> Owner {
    Owner {
        principal: format!("User:{name}"),
        client_id: None,
    }
}

fn key(topic: usize, index: i32) -> Key {
    let topic = Named::Name(NAMES[topic % NAMES.len()].into());
    Key { topic, index }
}

fn small(slots: usize, partitions_max: usize) -> Sessions {
    Sessions {
        slots,
        partitions_max,
        ..Sessions::new(&Budget::default())
    }
}

fn asked(session: i32, epoch: i32, wanted: Vec<Wanted>) -> Asked {
    Asked {
        session,
        epoch,
        by_id: false,
        wanted,
        forgotten: Vec::new(),
    }
}

fn partitions(count: i32) -> Vec<Wanted> {
    let all = (0..count).map(|index| Wanted::new(key(0, index), 0, 1));
    all.collect()
}

const QUIET: Bounds = Bounds {
    earliest: 0,
    stable_end: 5,
    high_watermark: 5,
};

fn told(wanted: Wanted, bounds: Bounds, records: bool) -> Told {
    Told {
        wanted,
        bounds,
        failed: false,
        records,
    }
}

fn quiet(wanted: Vec<Wanted>) -> Vec<Told> {
    let all = wanted.into_iter().map(|one| told(one, QUIET, false));
    all.collect()
}

/// Begins a session of so many partitions; 0 where there is no room.
fn open(sessions: &mut Sessions, now: Instant, who: &str, count: i32, number: i32) -> i32 {
    let (round, wanted) = sessions
        .begin(now, &owner(who), asked(0, FIRST, partitions(count)))
        .unwrap();
    let answer = sessions.end(now, round, quiet(wanted), || number).unwrap();
    assert_eq!(answer.news, vec![true; usize::try_from(count).unwrap()]);
    answer.session
}

/// Goes on with nothing new.
fn go_on(sessions: &mut Sessions, now: Instant, who: &str, at: (i32, i32)) -> Result<usize, Code> {
    let begun = sessions.begin(now, &owner(who), asked(at.0, at.1, Vec::new()));
    let (round, wanted) = begun?;
    let answer = sessions.end(now, round, quiet(wanted), || unreachable!())?;
    assert_eq!(answer.session, at.0);
    Ok(answer.news.iter().filter(|news| **news).count())
}

#[test]
fn who_is_not_the_owner_finds_no_session_and_ends_none() {
    let mut sessions = small(9, 99);
    let now = Instant::now();
    assert_eq!(open(&mut sessions, now, "ann", 3, 7), 7);
    let none = Err(Code::FetchSessionIdNotFound);
    assert_eq!(go_on(&mut sessions, now, "bob", (7, 1)), none);
    let ends = asked(7, LAST, Vec::new());
    sessions.begin(now, &owner("bob"), ends).unwrap();
    let program = Owner {
        client_id: Some(StrBytes::from_static_str("other")),
        ..owner("ann")
    };
    let other = sessions.begin(now, &program, asked(7, 1, Vec::new()));
    assert_eq!(other.unwrap_err(), Code::FetchSessionIdNotFound);
    assert_eq!(go_on(&mut sessions, now, "ann", (7, 1)), Ok(0));
    let ends = asked(7, LAST, Vec::new());
    sessions.begin(now, &owner("ann"), ends).unwrap();
    assert_eq!((sessions.len(), sessions.partitions()), (0, 0));
}

#[test]
fn a_session_goes_on_in_its_epoch_alone_and_as_it_named_topics_before() {
    let mut sessions = small(9, 99);
    let now = Instant::now();
    open(&mut sessions, now, "ann", 3, 7);
    let wrong = Err(Code::InvalidFetchSessionEpoch);
    for epoch in [2, i32::MAX, -2] {
        assert_eq!(go_on(&mut sessions, now, "ann", (7, epoch)), wrong);
    }
    assert_eq!(go_on(&mut sessions, now, "ann", (7, 1)), Ok(0));
    assert_eq!(go_on(&mut sessions, now, "ann", (7, 1)), wrong, "again");
    let mut by_id = asked(7, 2, Vec::new());
    by_id.by_id = true;
    let refused = sessions.begin(now, &owner("ann"), by_id).unwrap_err();
    assert_eq!(refused, Code::FetchSessionTopicIdError);
    sessions.table().by_number.get_mut(&7).unwrap().epoch = i32::MAX;
    assert_eq!(go_on(&mut sessions, now, "ann", (7, i32::MAX)), Ok(0));
    assert_eq!(go_on(&mut sessions, now, "ann", (7, 1)), Ok(0), "behind it");
}

#[test]
fn a_session_has_one_round_under_way_and_none_when_it_is_gone() {
    let mut sessions = small(9, 99);
    let now = Instant::now();
    open(&mut sessions, now, "ann", 3, 7);
    let begin = |sessions: &mut Sessions, epoch| {
        let asked = asked(7, epoch, Vec::new());
        sessions.begin(now, &owner("ann"), asked).unwrap()
    };
    let (slow, wanted) = begin(&mut sessions, 1);
    let quick = |sessions: &mut Sessions| go_on(sessions, now, "ann", (7, 2));
    let wrong = Err(Code::InvalidFetchSessionEpoch);
    assert_eq!(quick(&mut sessions), wrong, "it is under way");
    let answer = sessions.end(now, slow, quiet(wanted), || 1);
    assert_eq!(answer.unwrap().session, 7);
    assert_eq!(quick(&mut sessions), Ok(0), "it is over");
    let (broken, _) = begin(&mut sessions, 3);
    drop(broken);
    assert_eq!(
        go_on(&mut sessions, now, "ann", (7, 4)),
        Ok(0),
        "nobody waits"
    );
    let (slow, wanted) = begin(&mut sessions, 5);
    sessions.table().remove(7);
    let answer = sessions.end(now, slow, quiet(wanted), || 1);
    assert_eq!(answer, Err(Code::FetchSessionIdNotFound));
    open(&mut sessions, now, "ann", 3, 7);
    let (slow, wanted) = begin(&mut sessions, 1);
    sessions.table().remove(7);
    open(&mut sessions, now, "ann", 3, 7);
    let answer = sessions.end(now, slow, quiet(wanted), || 1);
    assert_eq!(answer, Err(Code::InvalidFetchSessionEpoch), "a new one");
}

#[test]
fn what_its_owner_is_called_counts_and_what_it_has_is_known_before_it_goes_on() {
    let sessions = small(9, 99);
    let now = Instant::now();
    let long = |n: u8| Owner {
        client_id: Some(StrBytes::from_string("x".repeat(30_000) + &n.to_string())),
        ..owner("ann")
    };
    for n in 1..=3 {
        let begins = asked(0, FIRST, partitions(2));
        let (round, wanted) = sessions.begin(now, &long(n), begins).unwrap();
        let answer = sessions.end(now, round, quiet(wanted), || n.into());
        assert_eq!(answer.unwrap().session, i32::from(n));
    }
    check(&sessions);
    assert!(sessions.memory.used(Class::Requests) > 90_000);
    let more = |epoch| asked(1, epoch, partitions(1));
    let one = key(0, 0).bytes();
    let all = sessions.table().by_number[&1].share.bytes();
    assert_eq!(sessions.bytes(&long(1), &more(1)), all + one);
    assert_eq!(sessions.bytes(&long(2), &more(1)), one, "another's");
    assert_eq!(sessions.bytes(&long(1), &more(FIRST)), one, "it begins");
}

#[test]
fn a_session_that_forgets_everything_is_over() {
    let mut sessions = small(9, 99);
    let now = Instant::now();
    open(&mut sessions, now, "ann", 2, 7);
    let mut request = asked(7, 1, Vec::new());
    request.forgotten = vec![key(0, 0), key(0, 1), key(2, 9)];
    let (round, wanted) = sessions.begin(now, &owner("ann"), request).unwrap();
    assert!(wanted.is_empty());
    let answer = sessions.end(now, round, Vec::new(), || 1).unwrap();
    assert_eq!((answer.session, sessions.partitions()), (0, 0));
    assert_eq!(sessions.memory.used(Class::Requests), 0);
}

#[test]
fn who_gave_records_is_read_last_the_next_time() {
    let mut sessions = small(9, 99);
    let now = Instant::now();
    open(&mut sessions, now, "ann", 3, 7);
    let mut orders = Vec::new();
    for epoch in 1..5 {
        let request = asked(7, epoch, Vec::new());
        let (round, wanted) = sessions.begin(now, &owner("ann"), request).unwrap();
        orders.push(wanted.iter().map(|one| one.key.index).collect::<Vec<_>>());
        let first = |(n, one)| told(one, QUIET, n == 0);
        let read = wanted.into_iter().enumerate().map(first).collect();
        let answer = sessions.end(now, round, read, || 1).unwrap();
        assert_eq!(answer.news, [true, false, false]);
    }
    assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
}

#[test]
fn where_places_are_taken_the_unused_and_then_the_smaller_make_way() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut sessions = small(2, 99);
    assert_eq!(open(&mut sessions, start, "ann", 3, 1), 1);
    assert_eq!(open(&mut sessions, start, "bob", 5, 2), 2);
    assert_eq!(open(&mut sessions, at(60), "eve", 9, 3), 0, "both are new");
    assert_eq!(go_on(&mut sessions, at(100), "ann", (1, 1)), Ok(0));
    assert_eq!(go_on(&mut sessions, at(100), "bob", (2, 1)), Ok(0));
    assert_eq!(open(&mut sessions, at(121), "eve", 3, 3), 0, "no larger");
    assert_eq!(open(&mut sessions, at(121), "eve", 4, 3), 3, "the smallest");
    let gone = Err(Code::FetchSessionIdNotFound);
    assert_eq!(go_on(&mut sessions, at(122), "ann", (1, 2)), gone);
    assert_eq!(go_on(&mut sessions, at(122), "bob", (2, 2)), Ok(0));
    // Not used since, and small or not.
    assert_eq!(go_on(&mut sessions, at(240), "bob", (2, 3)), Ok(0));
    assert_eq!(open(&mut sessions, at(242), "ann", 1, 4), 4);
    assert_eq!(go_on(&mut sessions, at(242), "eve", (3, 1)), gone);
    assert_eq!(sessions.take_evicted(), 2);
}

#[test]
fn where_there_is_no_room_for_partitions_or_memory_there_is_no_session() {
    let start = Instant::now();
    let mut sessions = small(9, 10);
    assert_eq!(open(&mut sessions, start, "ann", 6, 1), 1);
    assert_eq!(open(&mut sessions, start, "bob", 5, 2), 0);
    assert_eq!(open(&mut sessions, start, "bob", 4, 2), 2);
    let more = asked(2, 1, partitions(5));
    let refused = sessions.begin(start, &owner("bob"), more).unwrap_err();
    assert_eq!(refused, Code::FetchSessionIdNotFound, "over the bound");
    assert_eq!(sessions.partitions(), 6);
    let later = start + KAFKA_FETCH_SESSION_KEEP + Duration::from_secs(1);
    assert_eq!(open(&mut sessions, later, "bob", 9, 2), 2, "ann's is old");
    assert_eq!((sessions.len(), sessions.partitions()), (1, 9));
    let memory = sessions.memory.clone();
    let all = memory.free(Class::Requests);
    let share = memory.take(Class::Requests, all).unwrap();
    assert_eq!(open(&mut sessions, later, "ann", 1, 1), 0, "no memory");
    drop(share);
    assert_eq!(open(&mut sessions, later, "ann", 1, 1), 1);
}

/// Takes its choices from bytes, then zeros.
struct Choices(std::vec::IntoIter<u8>);

impl Choices {
    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.0.next().unwrap_or(0)) % bound
    }

    fn rarely(&mut self) -> bool {
        self.below(8) == 7
    }
}

/// What there is, and how much of it.
type World = BTreeMap<(usize, i32), Option<Bounds>>;

fn change(world: &mut World, by: &mut Choices) {
    for _ in 0..by.below(4) {
        let place = (by.below(NAMES.len()), i32::try_from(by.below(4)).unwrap());
        let there = world.entry(place).or_default();
        match (there, by.below(6)) {
            (there, 0) => *there = None,
            (there @ None, _) => *there = Some(QUIET),
            (Some(there), 1) => there.earliest = there.stable_end.min(there.earliest + 1),
            (Some(there), 2) => there.stable_end = there.high_watermark,
            (Some(there), _) => there.high_watermark += 1,
        }
    }
}

/// A client as clients are.
#[derive(Default)]
struct Client {
    name: String,
    /// What it wants, and from where on.
    wants: BTreeMap<(usize, i32), i64>,
    /// What the session was told of that.
    sent: BTreeMap<(usize, i32), i64>,
    knows: BTreeMap<(usize, i32), Bounds>,
    session: (i32, i32),
}

impl Client {
    fn change(&mut self, by: &mut Choices) {
        for _ in 0..by.below(4) {
            let place = (by.below(NAMES.len()), i32::try_from(by.below(4)).unwrap());
            match by.below(3) {
                0 => drop(self.wants.remove(&place)),
                _ => drop(self.wants.insert(place, 0)),
            }
        }
    }

    fn ask(&mut self, by: &mut Choices) -> Asked {
        if self.session.0 == 0 || by.rarely() {
            self.sent.clear();
            self.session.1 = FIRST;
        }
        let wants = self.wants.iter();
        let new = wants.filter(|(place, from)| self.sent.get(place) != Some(from));
        let wanted = new.map(|(place, from)| Wanted::new(key(place.0, place.1), *from, 1));
        let mut request = asked(self.session.0, self.session.1, wanted.collect());
        let sent = self.sent.keys();
        let gone = sent.filter(|place| !self.wants.contains_key(place));
        request.forgotten = gone.map(|place| key(place.0, place.1)).collect();
        self.sent.clone_from(&self.wants);
        self.knows.retain(|place, _| self.wants.contains_key(place));
        request
    }

    /// As clients do it: everything is asked for again.
    fn refused(&mut self) {
        self.session.1 = FIRST;
        self.sent.clear();
    }

    fn hear(&mut self, number: i32) {
        let next = match self.session.1 {
            _ if number == 0 => FIRST,
            epoch => next_epoch(epoch),
        };
        self.session = (number, next);
    }
}

fn place(key: &Key) -> (usize, i32) {
    let Named::Name(name) = &key.topic else {
        panic!("it was asked for by its name");
    };
    let topic = NAMES.iter().position(|known| **known == **name);
    (topic.unwrap(), key.index)
}

/// One fetch of a client; afterwards it knows what a fetch of everything would have told it.
fn fetch(
    sessions: &mut Sessions,
    world: &World,
    client: &mut Client,
    now: Instant,
    by: &mut Choices,
) {
    let who = owner(&client.name);
    let mut request = client.ask(by);
    let goes_on = request.epoch != FIRST;
    if goes_on && by.rarely() {
        request.epoch += 1;
    }
    let Ok((round, wanted)) = sessions.begin(now, &who, request) else {
        assert!(goes_on, "a fetch of everything is never refused");
        return client.refused();
    };
    let all = wanted.iter().map(|one| (place(&one.key), one.offset));
    let all: BTreeMap<_, _> = all.collect();
    assert_eq!((&all, all.len()), (&client.wants, wanted.len()));
    let mut room = by.below(4);
    let mut read = Vec::new();
    for one in wanted {
        let there = world.get(&place(&one.key)).copied().flatten();
        let more = there.is_some_and(|there| one.offset < there.stable_end) && room > 0;
        room -= usize::from(more);
        read.push(Told {
            wanted: one,
            bounds: there.unwrap_or(QUIET),
            failed: there.is_none(),
            records: more,
        });
    }
    let places: Vec<_> = read.iter().map(|told| place(&told.wanted.key)).collect();
    let given: Vec<_> = read.iter().map(|told| told.records).collect();
    let mut number = i32::try_from(by.below(200)).unwrap();
    let numbers = || {
        number += 1;
        number
    };
    let answer = sessions.end(now, round, read, numbers).unwrap();
    client.hear(answer.session);
    for ((place, news), records) in places.iter().zip(answer.news).zip(given) {
        let there = world.get(place).copied().flatten();
        let new = there.is_none() || records || client.knows.get(place) != there.as_ref();
        assert_eq!(news, new || !goes_on, "{place:?}");
        match there {
            None => drop(client.knows.remove(place)),
            Some(there) => drop(client.knows.insert(*place, there)),
        }
        if records {
            *client.wants.get_mut(place).unwrap() += 1;
        }
    }
}

fn check(sessions: &Sessions) {
    let table = sessions.table();
    let all = table.by_number.values();
    assert!(table.by_number.len() <= sessions.slots);
    assert!(table.partitions <= sessions.partitions_max);
    let partitions = all.clone().map(|session| session.len);
    assert_eq!(partitions.sum::<usize>(), table.partitions);
    let bytes = |session: &Session| {
        let parts = locked(&session.parts);
        let keys = parts.places.keys();
        assert_eq!(parts.places.len(), parts.order.len());
        assert_eq!(parts.places.len(), session.len);
        keys.map(Key::bytes).sum::<usize>() + session.owner.bytes()
    };
    let bytes: usize = all.map(bytes).sum();
    assert_eq!(sessions.memory.used(Class::Requests), bytes);
}

/// The partitions of a large session are gone through, for as long as this thread likes: whoever
/// waited for that would wait for ever.
#[test]
fn a_session_whose_partitions_are_gone_through_holds_up_nobody() {
    let start = Instant::now();
    let mut sessions = small(3, 20_000);
    assert_eq!(open(&mut sessions, start, "ann", 10_000, 1), 1);
    let parts = Arc::clone(&sessions.table().by_number[&1].parts);
    let walk = locked(&parts);
    assert_eq!(walk.order.len(), 10_000);
    assert_eq!(open(&mut sessions, start, "bob", 10, 2), 2);
    for epoch in 1..5 {
        assert_eq!(go_on(&mut sessions, start, "bob", (2, epoch)), Ok(0));
    }
    assert_eq!(open(&mut sessions, start, "eve", 9_990, 3), 3);
    let request = asked(1, 1, Vec::new());
    assert!(sessions.bytes(&owner("ann"), &request) > 10_000);
    assert_eq!((sessions.len(), sessions.partitions()), (3, 20_000));
    // It makes way for others, and gives its memory back, all the same.
    let later = start + KAFKA_FETCH_SESSION_KEEP + Duration::from_secs(1);
    assert_eq!(go_on(&mut sessions, later, "bob", (2, 5)), Ok(0));
    assert_eq!(go_on(&mut sessions, later, "eve", (3, 1)), Ok(0));
    let before = sessions.memory.used(Class::Requests);
    assert_eq!(open(&mut sessions, later, "bob", 10, 4), 4);
    assert_eq!((sessions.len(), sessions.partitions()), (3, 10_010));
    assert!(sessions.memory.used(Class::Requests) < before);
    drop(walk);
    check(&sessions);
}

/// Rounds of one session from many threads, with others that begin and end: each partition is
/// counted once, and nothing of a session that is gone is left.
#[test]
fn many_threads_leave_nothing_behind_and_no_round_goes_on_twice() {
    let sessions = small(4, 500);
    let now = Instant::now();
    let open = |who: &str, number| {
        let begins = asked(0, FIRST, partitions(100));
        let (round, wanted) = sessions.begin(now, &owner(who), begins).unwrap();
        sessions.end(now, round, quiet(wanted), || number).unwrap()
    };
    assert_eq!(open("ann", 1).session, 1);
    let rounds = std::sync::atomic::AtomicI32::new(0);
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let (sessions, rounds, open) = (&sessions, &rounds, &open);
            threads.spawn(move || {
                let who = format!("user {thread}");
                for turn in 0..10_000 {
                    let done = rounds.load(std::sync::atomic::Ordering::SeqCst);
                    if turn >= 200 && done > 100 {
                        break;
                    }
                    let epoch = done + 1;
                    let mut request = asked(1, epoch, partitions(turn % 150));
                    request.forgotten = (100..150).map(|index| key(0, index)).collect();
                    if let Ok((round, wanted)) = sessions.begin(now, &owner("ann"), request) {
                        assert_eq!(wanted.len(), 100);
                        assert!(sessions.end(now, round, quiet(wanted), || 9).is_ok());
                        rounds.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    }
                    let number = open(&who, thread * 10_000 + turn + 2).session;
                    let ends = asked(number, LAST, Vec::new());
                    sessions.begin(now, &owner(&who), ends).unwrap();
                }
            });
        }
    });
    assert!(rounds.into_inner() > 100);
    assert_eq!((sessions.len(), sessions.partitions()), (1, 100));
    check(&sessions);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_happens_who_keeps_a_session_knows_what_everything_would_tell(
        bytes in vec(any::<u8>(), 200..4000),
    ) {
        let mut by = Choices(bytes.into_iter());
        let mut sessions = small(3, 20);
        let mut world = World::new();
        let mut clients: Vec<Client> = Vec::new();
        clients.resize_with(5, Client::default);
        for (n, client) in clients.iter_mut().enumerate() {
            client.name = n.to_string();
        }
        let mut now = Instant::now();
        while by.0.len() > 0 {
            change(&mut world, &mut by);
            let which = by.below(clients.len());
            clients[which].change(&mut by);
            now += Duration::from_secs(by.below(40) as u64);
            fetch(&mut sessions, &world, &mut clients[which], now, &mut by);
            check(&sessions);
        }
        for client in &clients {
            let ends = asked(client.session.0, LAST, Vec::new());
            sessions.begin(now, &owner(&client.name), ends).unwrap();
        }
        prop_assert_eq!((sessions.len(), sessions.partitions()), (0, 0));
        prop_assert_eq!(sessions.memory.used(Class::Requests), 0);
    }
}
