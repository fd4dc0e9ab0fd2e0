//! What the user service decides, and its tables. Works inside of a transaction that its caller
//! holds; knows no bus and no password.

use rusqlite::{Connection, OptionalExtension, params};

use super::{Recorded, UserOut};
use crate::database::WorkError;
use crate::dice::mix;
use crate::events::{
    Answer, Leaving, LoginUser, RegisterUser, Salt, User, UserLoggedIn, UserLoggedOut,
    UserRegistered, Verdict,
};
use crate::limits::{OWN_USER_ID_FIRST, SESSIONS_MAX, USER_NAME_MAX_BYTES};

/// Users with the hash of their password and its salt; digests of the tokens of those who are
/// logged in.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS users (
        user_id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        salt TEXT NOT NULL,
        hash TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS sessions (
        seq INTEGER PRIMARY KEY,
        user_id INTEGER NOT NULL,
        digest TEXT NOT NULL UNIQUE
    );
    CREATE INDEX IF NOT EXISTS sessions_by_user ON sessions (user_id);";

type Decided = Result<Recorded, WorkError>;

fn refused(verdict: Verdict, why: impl Into<String>) -> Decided {
    Ok(Recorded::answer(Answer::refused(verdict, why)))
}

fn done(event: UserOut, message: &str, user: User) -> Decided {
    Ok(Recorded {
        events: vec![event],
        answer: Some(Answer::done(message, user)),
    })
}

fn find(on: &Connection, user_id: i64) -> Result<Option<User>, WorkError> {
    let mut find = on.prepare_cached(
        "SELECT name, EXISTS (SELECT 1 FROM sessions WHERE user_id = ?1) FROM users
         WHERE user_id = ?1",
    )?;
    let user = find.query_row([user_id], |row| {
        Ok(User {
            user_id,
            name: row.get(0)?,
            logged_in: row.get(1)?,
        })
    });
    Ok(user.optional()?)
}

pub(super) fn show(on: &Connection, user_id: i64) -> Result<Answer<User>, WorkError> {
    Ok(match find(on, user_id)? {
        Some(user) => Answer::done("the user", user),
        None => Answer::refused(Verdict::Unknown, format!("there is no user {user_id}")),
    })
}

/// The salt of a name. A name that nobody has gets one all the same, the same each time while the
/// service runs: nobody learns from it which names there are.
pub(super) fn salt(on: &Connection, secret: u64, name: &str) -> Result<Salt, WorkError> {
    let mut find = on.prepare_cached("SELECT salt FROM users WHERE name = ?1")?;
    let known: Option<String> = find.query_row([name], |row| row.get(0)).optional()?;
    let made = || {
        let half = |seed: u64| {
            name.bytes()
                .fold(seed, |hash, byte| mix(hash ^ u64::from(byte)))
        };
        format!("{:016x}{:016x}", half(secret), half(mix(secret)))
    };
    Ok(Salt {
        salt: known.unwrap_or_else(made),
    })
}

pub(super) fn register(on: &Connection, request: RegisterUser) -> Decided {
    let RegisterUser {
        name, salt, hash, ..
    } = request;
    if name.trim().is_empty() || name.len() > USER_NAME_MAX_BYTES {
        let why = format!("a user's name has 1 to {USER_NAME_MAX_BYTES} bytes");
        return refused(Verdict::Invalid, why);
    }
    let mut taken = on.prepare_cached("SELECT 1 FROM users WHERE name = ?1")?;
    if taken.exists([&name])? {
        return refused(Verdict::Conflict, format!("the name {name} is taken"));
    }
    let mut newest = on.prepare_cached("SELECT max(user_id) FROM users")?;
    let newest: Option<i64> = newest.query_row([], |row| row.get(0))?;
    let user_id = newest.map_or(OWN_USER_ID_FIRST, |id| id + 1);
    on.prepare_cached("INSERT INTO users VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![user_id, name, salt, hash])?;
    let event = UserOut::Registered(UserRegistered {
        user_id,
        name: name.clone(),
    });
    let user = User {
        user_id,
        name,
        logged_in: false,
    };
    done(event, "the user is registered", user)
}

pub(super) fn login(on: &Connection, request: &LoginUser) -> Decided {
    let mut find = on.prepare_cached("SELECT user_id, hash FROM users WHERE name = ?1")?;
    let row: Option<(i64, String)> = find
        .query_row([&request.name], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let known = row.filter(|(_, hash)| is_same(hash, &request.hash));
    let Some((user_id, _)) = known else {
        return refused(Verdict::Denied, "the name or the password is wrong");
    };
    on.prepare_cached("INSERT OR IGNORE INTO sessions (user_id, digest) VALUES (?1, ?2)")?
        .execute(params![user_id, request.session])?;
    on.prepare_cached(
        "DELETE FROM sessions WHERE user_id = ?1 AND seq NOT IN
         (SELECT seq FROM sessions WHERE user_id = ?1 ORDER BY seq DESC LIMIT ?2)",
    )?
    .execute([user_id, SESSIONS_MAX])?;
    let user = User {
        user_id,
        name: request.name.clone(),
        logged_in: true,
    };
    let event = UserOut::LoggedIn(UserLoggedIn { user_id });
    done(event, "the user is logged in", user)
}

/// Compares two hashes in a time that does not tell how much of them is the same.
fn is_same(one: &str, other: &str) -> bool {
    let differ = |(a, b): (u8, u8)| a ^ b;
    let bits = one.bytes().zip(other.bytes()).map(differ);
    one.len() == other.len() && bits.fold(0, |all, bits| all | bits) == 0
}

/// Ends one session, or all of a user. Others learn of it when it was the last one.
pub(super) fn logout(on: &Connection, who: &Leaving) -> Decided {
    let user_id = match who {
        Leaving::User(user_id) => *user_id,
        Leaving::Session(digest) => {
            let mut find = on.prepare_cached("SELECT user_id FROM sessions WHERE digest = ?1")?;
            let found: Option<i64> = find.query_row([digest], |row| row.get(0)).optional()?;
            match found {
                Some(user_id) => user_id,
                None => return refused(Verdict::Denied, "nobody is logged in with this token"),
            }
        }
    };
    let Some(before) = find(on, user_id)? else {
        return refused(Verdict::Unknown, format!("there is no user {user_id}"));
    };
    if !before.logged_in {
        return refused(
            Verdict::Conflict,
            format!("user {user_id} is not logged in"),
        );
    }
    match who {
        Leaving::User(_) => on
            .prepare_cached("DELETE FROM sessions WHERE user_id = ?1")?
            .execute([user_id])?,
        Leaving::Session(digest) => on
            .prepare_cached("DELETE FROM sessions WHERE digest = ?1")?
            .execute([digest])?,
    };
    let Some(user) = find(on, user_id)? else {
        return Err(WorkError::Broken("no user where one was found".into()));
    };
    if user.logged_in {
        let answer = Answer::done("this session is ended; another one goes on", user);
        return Ok(Recorded::answer(answer));
    }
    let event = UserOut::LoggedOut(UserLoggedOut { user_id });
    done(event, "the user is logged out", user)
}
