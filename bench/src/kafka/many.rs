//! Very many connections: idle ones, members of one group, and clients that do not read what they
//! asked for.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::Fallible;
use crate::wire::{Connection, In, Out};

const GROUP: &str = "crowd";
const REBALANCE_IN_PROGRESS: i16 = 27;
/// How long a server may take to have its place for groups.
const PATIENCE: Duration = Duration::from_secs(60);

/// So many connections that have said hello and say nothing more.
pub(crate) fn idle(address: SocketAddr, connections: usize) -> Fallible<Vec<Connection>> {
    let mut all = Vec::new();
    for _ in 0..connections {
        let mut connection = Connection::new(address)?;
        connection.hello()?;
        all.push(connection);
    }
    Ok(all)
}

/// So many clients that ask for a topic's records from its beginning, up to so many bytes each, and
/// read no answer.
pub(crate) fn slow(
    address: SocketAddr,
    topic: &str,
    clients: usize,
    bytes: i32,
) -> Fallible<Vec<Connection>> {
    let mut all = idle(address, clients)?;
    for connection in &mut all {
        connection.fetch(topic, 0, bytes)?;
    }
    Ok(all)
}

/// A member of the group.
struct Member {
    connection: Connection,
    id: String,
    generation: i32,
    /// Whom the group has, for its leader.
    all: Vec<Vec<u8>>,
}

impl Member {
    fn join(&mut self) -> Fallible<()> {
        let head = Out::default()
            .text(GROUP)
            .i32(60_000)
            .i32(120_000)
            .text(&self.id);
        let body = head.text("consumer").i32(1).text("range").bytes(b"");
        self.connection.send(11, 2, &body)
    }

    fn joined(&mut self) -> Fallible<()> {
        let answer = self.connection.receive()?;
        let mut answer = In(&answer);
        answer.i32()?;
        let error = answer.i16()?;
        self.generation = answer.i32()?;
        let (_protocol, _leader) = (answer.text()?, answer.text()?);
        self.id = String::from_utf8(answer.text()?.to_vec())?;
        self.all.clear();
        for _ in 0..answer.i32()? {
            self.all.push(answer.text()?.to_vec());
            answer.bytes()?;
        }
        match error {
            0 => Ok(()),
            code => Err(format!("JoinGroup is answered with error {code}").into()),
        }
    }

    /// Waits until it is told that the group is made again.
    fn hears_of_it(&mut self) -> Fallible<()> {
        let begun = Instant::now();
        let beat = Out::default()
            .text(GROUP)
            .i32(self.generation)
            .text(&self.id);
        while begun.elapsed() < PATIENCE {
            let answer = self.connection.ask(12, 1, &beat)?;
            let mut answer = In(&answer);
            answer.i32()?;
            match answer.i16()? {
                REBALANCE_IN_PROGRESS => return Ok(()),
                0 => {}
                code => return Err(format!("Heartbeat is answered with error {code}").into()),
            }
        }
        Err("the group is not made again for one more member".into())
    }

    fn sync(&mut self) -> Fallible<()> {
        let head = Out::default()
            .text(GROUP)
            .i32(self.generation)
            .text(&self.id);
        let mut body = head.i32(self.all.len() as i32);
        for id in &self.all {
            body = body.text(std::str::from_utf8(id)?).bytes(&[0; 32]);
        }
        self.connection.send(14, 1, &body)
    }

    fn synced(&mut self) -> Fallible<()> {
        let answer = self.connection.receive()?;
        let mut answer = In(&answer);
        answer.i32()?;
        match answer.i16()? {
            0 => Ok(()),
            code => Err(format!("SyncGroup is answered with error {code}").into()),
        }
    }
}

/// All of them join, and get what is theirs; answers how long it took.
fn rebalance(members: &mut [Member]) -> Fallible<Duration> {
    let begun = Instant::now();
    for member in &mut *members {
        member.join()?;
    }
    settle(members)?;
    Ok(begun.elapsed())
}

/// Those who have asked to join get what is theirs.
fn settle(members: &mut [Member]) -> Fallible<()> {
    for member in &mut *members {
        member.joined()?;
    }
    for member in &mut *members {
        member.sync()?;
    }
    for member in &mut *members {
        member.synced()?;
    }
    Ok(())
}

/// So many members make a group, and make it again with one more: how long each took.
pub(crate) fn group(address: SocketAddr, members: usize) -> Fallible<[Duration; 2]> {
    let mut first = Connection::new(address)?;
    let begun = Instant::now();
    loop {
        let answer = first.ask(10, 0, &Out::default().text(GROUP))?;
        match In(&answer).i16()? {
            0 => break,
            code if begun.elapsed() > PATIENCE => {
                return Err(format!("FindCoordinator is answered with error {code}").into());
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
    let mut all = Vec::new();
    for _ in 0..members {
        all.push(member(address)?);
    }
    let made = rebalance(&mut all)?;
    let mut more = member(address)?;
    more.join()?;
    let begun = Instant::now();
    if let Some(first) = all.first_mut() {
        first.hears_of_it()?;
    }
    for member in &mut all {
        member.join()?;
    }
    all.push(more);
    settle(&mut all)?;
    Ok([made, begun.elapsed()])
}

fn member(address: SocketAddr) -> Fallible<Member> {
    Ok(Member {
        connection: Connection::new(address)?,
        id: String::new(),
        generation: -1,
        all: Vec::new(),
    })
}
