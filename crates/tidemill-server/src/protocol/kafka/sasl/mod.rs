//! Who is at the other end of a connection, and how he logs in: PLAIN, SCRAM-SHA-256 and
//! SCRAM-SHA-512.
//!
//! ```text
//! mod.rs    one connection's login, whatever carries it     knows no sockets
//! scram.rs  the messages of SCRAM                           knows no users
//! gate.rs   holds those back who try passwords              knows no protocol
//! ```
//!
//! A client names a mechanism (`SaslHandshake`) and sends tokens: in `SaslAuthenticate` requests,
//! or after version 0 of the handshake as they are. A failure is answered late and ends the
//! connection. Who is logged in may do so again, as the same user (KIP-368).

mod gate;
mod scram;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::{Instant, sleep_until};

use super::Door;
use super::access::{Access, Guard};
use super::connection::Ends;
use crate::config::SaslConfig;
use crate::error::ServeError;
use crate::permissions::judge::Who;
use crate::private_file::PrivateFile;
use crate::users::credential::{Scram, random};
use crate::users::text::encode;
use crate::users::{Users, check_name};

use gate::Gate;
pub(super) use gate::Place;
use scram::{Challenge, ClientFirst, Wrong};

/// The name of who has not logged in.
pub(super) const ANONYMOUS: &str = "User:ANONYMOUS";

/// What the door knows about logging in, where one has to.
#[derive(Debug)]
pub(in super::super) struct Sasl {
    pub(super) users: Arc<Users>,
    gate: Gate,
    /// A password may travel where others can read it.
    cleartext: bool,
}

/// How somebody logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    Plain,
    Scram(Scram),
}

impl Mechanism {
    const ALL: [Self; 3] = [
        Self::Plain,
        Self::Scram(Scram::Sha256),
        Self::Scram(Scram::Sha512),
    ];

    /// Its registered name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(scram) => scram.name(),
        }
    }
}

/// One connection's login.
#[derive(Debug)]
pub(super) struct Session {
    ends: Ends,
    tls: bool,
    /// `None` where nobody has to log in.
    sasl: Option<Arc<Sasl>>,
    guard: Option<Arc<Guard>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Who has logged in, and how.
    user: Option<(Arc<str>, Mechanism)>,
    /// Who it is for the permissions.
    who: Arc<Who>,
    exchange: Exchange,
    /// Given back when he is in.
    place: Option<Place>,
}

#[derive(Debug, Default)]
enum Exchange {
    #[default]
    None,
    /// A mechanism was named; tokens come as they are where it is `raw`.
    Begun { mechanism: Mechanism, raw: bool },
    /// A client of SCRAM has to show that it knows the password.
    Asked {
        challenge: Box<Challenge>,
        raw: bool,
    },
    /// It is over, and so is the connection.
    Failed,
}

/// Why a login does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The mechanism is not there, or not on this connection.
    Mechanism,
    /// It is no moment for this.
    State,
    /// The user, the password or the message is wrong; which is not said.
    Credentials,
}

impl Sasl {
    /// Looks whether the users can be read, and says where there are none.
    ///
    /// # Errors
    /// They cannot.
    pub(super) fn readable(config: &SaslConfig) -> Result<(), ServeError> {
        let users = Users::new(&config.users).current();
        let users = users.map_err(|error| ServeError::Users(error.to_string()))?;
        if users.is_empty() {
            tracing::warn!(
                "no client of Kafka can log in yet: add users with `tidemill user add NAME`"
            );
        }
        Ok(())
    }

    pub(super) fn new(config: &SaslConfig) -> Self {
        Self {
            users: Arc::new(Users::new(&config.users)),
            gate: Gate::new(secret(&config.users).unwrap_or_else(|error| {
                tracing::warn!(
                    %error,
                    "the salts of names that nobody has change with the next start of the server"
                );
                random()
            })),
            cleartext: config.cleartext,
        }
    }

    /// Takes a place among those that log in, as [`Gate::enter`].
    pub(super) async fn enter(&self, ends: Ends) -> Option<Place> {
        self.gate.enter(ends.peer.ip()).await
    }
}

impl Session {
    /// Of a connection, which may have had to wait for its place.
    pub(super) fn new(door: &Door, ends: Ends, tls: bool, place: Option<Place>) -> Self {
        Self {
            ends,
            tls,
            sasl: door.sasl.clone(),
            guard: door.guard.clone(),
            state: Mutex::new(State {
                user: None,
                who: Arc::new(Who::new(ANONYMOUS, ends.peer.ip())),
                exchange: Exchange::None,
                place,
            }),
        }
    }

    /// Where the client is, and how it came.
    pub(super) fn ends(&self) -> Ends {
        self.ends
    }

    /// The users, where somebody who may see them asks: there are some where one has to log in, and
    /// where there are permissions, which are about them.
    pub(super) fn users(&self) -> Option<Arc<Users>> {
        let own = self.sasl.as_ref().map(|sasl| &sasl.users);
        let named = self.guard.as_ref().map(|guard| &guard.users);
        own.or(named).map(Arc::clone)
    }

    /// Whether all keys are served.
    pub(super) fn is_in(&self) -> bool {
        self.sasl.is_none() || self.state().user.is_some()
    }

    /// Whether no token is awaited, so that requests may come one after the other.
    pub(super) fn is_settled(&self) -> bool {
        self.is_in() && matches!(self.state().exchange, Exchange::None)
    }

    /// Whether what comes next is a token without a request around it.
    pub(super) fn awaits_token(&self) -> bool {
        let raw = |exchange: &Exchange| match exchange {
            Exchange::Begun { raw, .. } | Exchange::Asked { raw, .. } => *raw,
            Exchange::None | Exchange::Failed => false,
        };
        raw(&self.state().exchange)
    }

    /// Whether the connection ends after what is answered now.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.state().exchange, Exchange::Failed)
    }

    /// What he may do now.
    pub(super) fn access(&self) -> Access {
        match &self.guard {
            None => Access::EVERYTHING,
            Some(guard) => Access::of(guard, Arc::clone(&self.state().who)),
        }
    }

    /// Who it is, as Kafka names a principal.
    pub(super) fn principal(&self) -> String {
        match &self.state().user {
            Some((name, _)) => format!("User:{name}"),
            None => ANONYMOUS.to_owned(),
        }
    }

    /// Who has logged in, where somebody has.
    pub(super) fn user(&self) -> Option<Arc<str>> {
        let state = self.state();
        state.user.as_ref().map(|(name, _)| Arc::clone(name))
    }

    /// The mechanisms that this connection may use: PLAIN only where nobody can read the
    /// password, or that was allowed.
    pub(super) fn mechanisms(&self) -> Vec<Mechanism> {
        let Some(sasl) = &self.sasl else {
            return Vec::new();
        };
        let Ends { peer, local } = self.ends;
        let here = |address: std::net::IpAddr| address.to_canonical().is_loopback();
        let safe = self.tls || sasl.cleartext || (here(peer.ip()) && here(local.ip()));
        let mut all = Mechanism::ALL.to_vec();
        all.retain(|mechanism| safe || *mechanism != Mechanism::Plain);
        all
    }

    /// Begins with a mechanism.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) fn choose(&self, name: &str, raw: bool) -> Result<(), Refused> {
        if self.sasl.is_none() {
            return Err(Refused::State);
        }
        let mut all = self.mechanisms().into_iter();
        let named = all.find(|mechanism| mechanism.name() == name);
        let mut state = self.state();
        // Who logs in again comes in requests, as other requests may come too.
        if !matches!(state.exchange, Exchange::None) || (raw && state.user.is_some()) {
            return Err(Refused::State);
        }
        let again = state.user.as_ref().map(|(_, mechanism)| *mechanism);
        let Some(mechanism) = named.filter(|named| again.is_none_or(|again| again == *named))
        else {
            // Another one may be tried, unless somebody else is to be logged in already.
            return Err(Refused::Mechanism);
        };
        state.exchange = Exchange::Begun { mechanism, raw };
        Ok(())
    }

    /// Takes a token and gives the answer to it. A failure is answered late, and is the last
    /// that the connection does.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) async fn token(&self, token: &[u8]) -> Result<Vec<u8>, Refused> {
        let Some(sasl) = self.sasl.clone() else {
            return Err(Refused::State);
        };
        let tried = Instant::now();
        let exchange = std::mem::take(&mut self.state().exchange);
        let (user, stepped) = match exchange {
            Exchange::None | Exchange::Failed => {
                self.state().exchange = exchange;
                return Err(Refused::State);
            }
            Exchange::Begun { mechanism, raw } => match mechanism {
                Mechanism::Plain => self.plain(&sasl, token).await,
                Mechanism::Scram(scram) => self.first(&sasl, scram, raw, token).await,
            },
            Exchange::Asked { challenge, raw: _ } => self.last(&challenge, token),
        };
        match stepped {
            Ok(answer) => Ok(answer),
            Err(Wrong) => {
                self.state().exchange = Exchange::Failed;
                self.fail(&sasl, &user, tried).await;
                Err(Refused::Credentials)
            }
        }
    }

    async fn plain(&self, sasl: &Sasl, token: &[u8]) -> (String, Result<Vec<u8>, Wrong>) {
        let Ok((user, password)) = plain(token) else {
            return (String::new(), Err(Wrong));
        };
        let kept = find(sasl, &user, |kept| {
            kept.plain().map(|(scram, kept)| (scram, kept.clone()))
        });
        let kept = kept.await;
        let exists = kept.is_some();
        // Who does not exist costs as much time, so that nobody finds out who does.
        let (scram, kept) = kept.unwrap_or_else(|| {
            let scram = Scram::Sha256;
            (scram, sasl.gate.nobodys(scram, &user))
        });
        let right = sasl.gate.is_right(user.clone(), scram, kept, password);
        let is_right = right.await && exists;
        let entered = match is_right {
            true => self.enter(&user, Mechanism::Plain).map(|()| Vec::new()),
            false => Err(Wrong),
        };
        (user, entered)
    }

    async fn first(
        &self,
        sasl: &Sasl,
        scram: Scram,
        raw: bool,
        token: &[u8],
    ) -> (String, Result<Vec<u8>, Wrong>) {
        let Ok(first) = ClientFirst::read(token) else {
            return (String::new(), Err(Wrong));
        };
        let user = first.user.clone();
        let kept = find(sasl, &user, move |kept| kept.get(scram).cloned()).await;
        // Who does not exist is asked as well, so that nobody finds out who does.
        let kept = kept.unwrap_or_else(|| sasl.gate.nobodys(scram, &user));
        let challenge = Challenge::new(scram, first, kept, &encode(&random::<18>()));
        let text = challenge.text().as_bytes().to_vec();
        let challenge = Box::new(challenge);
        self.state().exchange = Exchange::Asked { challenge, raw };
        (user, Ok(text))
    }

    fn last(&self, challenge: &Challenge, token: &[u8]) -> (String, Result<Vec<u8>, Wrong>) {
        let user = challenge.user().to_owned();
        let proved = challenge.proved(token).and_then(|shown| {
            self.enter(&user, Mechanism::Scram(challenge.scram()))?;
            Ok(shown.into_bytes())
        });
        (user, proved)
    }

    /// Lets a user in who has shown who he is; somebody else cannot take his place.
    fn enter(&self, name: &str, mechanism: Mechanism) -> Result<(), Wrong> {
        let mut state = self.state();
        if let Some((user, _)) = &state.user
            && **user != *name
        {
            return Err(Wrong);
        }
        state.user = Some((name.into(), mechanism));
        let who = Who::new(format!("User:{name}"), self.ends.peer.ip());
        state.who = Arc::new(who);
        state.place = None;
        drop(state);
        let (principal, mechanism) = (self.principal(), mechanism.name());
        let peer = self.ends.peer;
        tracing::debug!(%principal, mechanism, %peer, "a client of Kafka has logged in");
        Ok(())
    }

    /// Says and counts that somebody is not let in, and lets time pass: what it took to find out
    /// is part of it.
    async fn fail(&self, sasl: &Sasl, user: &str, tried: Instant) {
        let peer = self.ends.peer;
        let (delay, few) = sasl.gate.failed(peer.ip());
        let user = user.escape_debug().to_string();
        match few {
            true => tracing::warn!(%peer, user, "a client of Kafka could not log in"),
            false => tracing::debug!(%peer, user, "a client of Kafka could not log in"),
        }
        sleep_until(tried + delay).await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What signs the salts of names that nobody has. It is made once, so that who asks before and
/// after a restart sees the same.
fn secret(private: &Path) -> io::Result<[u8; 32]> {
    let file = PrivateFile::new(private, "login-secret", 32);
    let whole = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).ok();
    if let Some(kept) = file.read()?.as_deref().and_then(whole) {
        return Ok(kept);
    }
    file.change(|kept| match kept.as_deref().and_then(whole) {
        Some(kept) => Ok((None, kept)),
        None => {
            let new = random();
            Ok((Some(new.to_vec()), new))
        }
    })
}

/// Looks a user up, as he is now.
async fn find<T: Send + 'static>(
    sasl: &Sasl,
    name: &str,
    of: impl FnOnce(&crate::users::Credentials) -> Option<T> + Send + 'static,
) -> Option<T> {
    let (users, name) = (Arc::clone(&sasl.users), name.to_owned());
    let found = tokio::task::spawn_blocking(move || match users.current() {
        Ok(users) => users.get(&name).and_then(of),
        Err(error) => {
            tracing::error!(%error, "nobody can log in to the Kafka door");
            None
        }
    });
    found.await.ok().flatten()
}

/// Reads a token of PLAIN (RFC 4616): perhaps whom to be, who one is, the password.
fn plain(token: &[u8]) -> Result<(String, Vec<u8>), Wrong> {
    let text = std::str::from_utf8(token).map_err(|_| Wrong)?;
    let mut parts = text.split('\0');
    let mut part = || parts.next().ok_or(Wrong);
    let (other, user, password) = (part()?, part()?, part()?);
    let whom = other.is_empty() || other == user;
    let fits = check_name(user).is_ok() && !password.is_empty();
    match whom && fits && parts.next().is_none() {
        true => Ok((user.to_owned(), password.as_bytes().to_vec())),
        false => Err(Wrong),
    }
}
