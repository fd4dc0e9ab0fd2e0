//! Users: `/users/...`. Makes hashes of passwords and digests of tokens, so that no event holds
//! either. Knows the events that ask the user service, and no service.

use std::time::Instant;

use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;

use super::answer::{self, Refusal};
use super::secret::{digest, new_salt, new_token};
use super::{Answer, Body, Door, Id, OUTCOME_WAIT, read};
use crate::events::{
    Answer as Given, GetSalt, GetUser, Leaving, LoginUser, LogoutUser, RegisterUser, Salt, User,
    UserFollowed, Verdict,
};
use crate::limits::PASSWORD_BYTES;

#[derive(Deserialize)]
struct Credentials {
    name: Option<String>,
    username: Option<String>,
    password: String,
}

impl Credentials {
    fn name(&mut self) -> Result<String, Refusal> {
        let name = self.name.take().or(self.username.take());
        name.ok_or_else(|| Refusal::wrong("the body is wrong: missing field `name`"))
    }
}

pub(super) async fn register(door: Door, body: Body) -> Answer {
    let mut new: Credentials = read(body)?;
    let name = new.name()?;
    if !PASSWORD_BYTES.contains(&new.password.len()) {
        let (least, most) = (PASSWORD_BYTES.start(), PASSWORD_BYTES.end());
        let why = format!("a password has {least} to {most} bytes");
        return Err(Refusal::wrong(why));
    }
    let salt = new_salt()?;
    let hash = door.hasher.hash(new.password, salt.clone()).await?;
    let given = door.change(&RegisterUser { name, salt, hash }).await?;
    Ok(answer::user(given, StatusCode::CREATED, None))
}

pub(super) async fn login(door: Door, body: Body) -> Answer {
    let mut known: Credentials = read(body)?;
    let name = known.name()?;
    if known.password.len() > *PASSWORD_BYTES.end() {
        let why = "the name or the password is wrong";
        return Err(Refusal::new(StatusCode::UNAUTHORIZED, why));
    }
    let Salt { salt } = door.ask(&GetSalt { name: name.clone() }).await?;
    let hash = door.hasher.hash(known.password, salt).await?;
    let token = new_token()?;
    let request = LoginUser {
        name,
        hash,
        session: digest(&token),
    };
    let given: Given<User> = door.ask(&request).await?;
    let token = (given.verdict == Verdict::Done).then_some(token);
    let code = door.when_followed(&given).await;
    Ok(answer::user(given, code, token))
}

impl Door {
    /// Waits until the order service knows who is logged in; where that takes too long, the answer
    /// is 202.
    async fn when_followed(&self, given: &Given<User>) -> StatusCode {
        let (Verdict::Done, Some(user)) = (given.verdict, &given.about) else {
            return StatusCode::OK;
        };
        let question = UserFollowed {
            user_id: user.user_id,
        };
        let until = Instant::now() + OUTCOME_WAIT;
        match self.has_followed(question, until).await {
            true => StatusCode::OK,
            false => StatusCode::ACCEPTED,
        }
    }
}

#[derive(Deserialize)]
struct Leaver {
    token: Option<String>,
    user_id: Option<i64>,
}

pub(super) async fn logout(door: Door, headers: HeaderMap, body: Body) -> Answer {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .map(|token| Leaving::Session(digest(token.trim())));
    let who = match bearer {
        Some(who) => who,
        None => match read(body)? {
            Leaver {
                token: Some(token), ..
            } => Leaving::Session(digest(&token)),
            Leaver {
                user_id: Some(id), ..
            } => Leaving::User(id),
            _ => return Err(Refusal::wrong("say who: a token, or a user_id")),
        },
    };
    let given = door.change(&LogoutUser { who }).await?;
    let code = door.when_followed(&given).await;
    Ok(answer::user(given, code, None))
}

pub(super) async fn show(door: Door, Id(user_id): Id) -> Answer {
    let given = door.ask(&GetUser { user_id }).await?;
    Ok(answer::user(given, StatusCode::OK, None))
}
