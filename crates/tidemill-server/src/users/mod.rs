//! Who may log in: names, and what is kept of their passwords, in `users.json` of the server's
//! private folder.
//!
//! ```text
//! mod.rs         names and their credentials, in a file     knows no network
//! credential.rs  what is kept of a password                 knows no names
//! text.rs        bytes as text
//! ```
//!
//! A command changes the file beside a running server, which sees the change when somebody logs in
//! next. Passwords are taken as the bytes of their text, as Apache Kafka does: nothing is
//! normalized (no SASLprep), as its clients normalize nothing. Every call waits for the disk or
//! for the processor: asynchronous callers use a thread for it.

pub(crate) mod credential;
pub(crate) mod text;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::limits::{PASSWORD_MAX_BYTES, USER_NAME_MAX_BYTES, USERS_FILE_MAX_BYTES, USERS_MAX};
use crate::permissions::rule;
use crate::private_file::{PrivateFile, Stamp, Versioned};
use credential::{Credential, Scram};

/// The file's name in the private folder.
const FILE: &str = "users.json";

/// The users of one data folder.
#[derive(Debug)]
pub struct Users {
    file: PrivateFile,
    /// What was read last.
    read: Mutex<Option<(Stamp, Arc<Kept>)>>,
}

/// Why users are not as they were to be.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The name cannot be one.
    #[error(
        "{0:?} is no name of a user; use 1 to {USER_NAME_MAX_BYTES} bytes of text without control \
         characters, and without white space at its ends"
    )]
    Name(String),
    /// The name means something else in rules.
    #[error(
        "{0:?} is no name of one user: in rules * is everybody, ANONYMOUS is who did not log in, \
         and User: stands before every name; use another"
    )]
    Reserved(String),
    /// The password cannot be one.
    #[error("a password has 1 to {PASSWORD_MAX_BYTES} bytes, without control characters")]
    Password,
    /// There is such a user.
    #[error("there is a user {0:?} already; `tidemill user password` changes a password")]
    Exists(String),
    /// There is no such user.
    #[error("there is no user {0:?}; `tidemill user list` shows those that there are")]
    Unknown(String),
    /// There are too many.
    #[error("there are {USERS_MAX} users already; delete one")]
    TooMany,
    /// The file says nonsense.
    #[error("{path}: {why}; mend it, or remove it and add the users again")]
    Nonsense {
        /// Which file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The disk says no.
    #[error("users cannot be read or written: {0}")]
    Disk(#[from] io::Error),
}

/// A user as others may see him.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserInfo {
    /// The name.
    pub name: String,
    /// The ways to log in beside PLAIN, by their registered names.
    pub mechanisms: Vec<&'static str>,
}

/// The file as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    users: Kept,
}

impl Versioned for Written {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.version
    }
}

/// All of them, by their names.
pub(crate) type Kept = BTreeMap<String, Credentials>;

/// What is kept of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scram_sha_256: Option<Credential>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scram_sha_512: Option<Credential>,
}

impl Credentials {
    /// Of one password, for all ways.
    fn new(password: &str) -> Result<Self, UserError> {
        let fits = (1..=PASSWORD_MAX_BYTES).contains(&password.len());
        if !fits || password.chars().any(char::is_control) {
            return Err(UserError::Password);
        }
        let of = |scram| Some(Credential::new(scram, password.as_bytes()));
        Ok(Self {
            scram_sha_256: of(Scram::Sha256),
            scram_sha_512: of(Scram::Sha512),
        })
    }

    /// For one of the ways.
    pub(crate) fn get(&self, scram: Scram) -> Option<&Credential> {
        match scram {
            Scram::Sha256 => self.scram_sha_256.as_ref(),
            Scram::Sha512 => self.scram_sha_512.as_ref(),
        }
    }

    /// Sets or takes away what is kept for one of the ways.
    pub(crate) fn set(&mut self, scram: Scram, credential: Option<Credential>) {
        match scram {
            Scram::Sha256 => self.scram_sha_256 = credential,
            Scram::Sha512 => self.scram_sha_512 = credential,
        }
    }

    /// Those that are kept.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Scram, &Credential)> {
        let kept = |scram| self.get(scram).map(|credential| (scram, credential));
        Scram::ALL.into_iter().filter_map(kept)
    }

    /// The one that a password which is sent as it is goes by.
    pub(crate) fn plain(&self) -> Option<(Scram, &Credential)> {
        self.all().next()
    }

    fn is_sound(&self) -> bool {
        self.all().all(|(scram, kept)| kept.is_sound(scram))
    }
}

/// A name that a user can have.
///
/// # Errors
/// [`UserError::Name`].
pub(crate) fn check_name(name: &str) -> Result<(), UserError> {
    let fits = (1..=USER_NAME_MAX_BYTES).contains(&name.len());
    match fits && !name.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(UserError::Name(name.chars().take(64).collect())),
    }
}

/// A name that a new user can have. Those that are there keep theirs.
///
/// # Errors
/// [`UserError::Name`], also where white space is at its ends, which nobody sees, and
/// [`UserError::Reserved`].
pub fn check_new_name(name: &str) -> Result<(), UserError> {
    check_name(name)?;
    if name.trim() != name {
        return Err(UserError::Name(name.chars().take(64).collect()));
    }
    let reserved = name == rule::ANY || name == rule::ANONYMOUS || name.starts_with(rule::USER);
    match reserved {
        true => Err(UserError::Reserved(name.chars().take(64).collect())),
        false => Ok(()),
    }
}

impl Users {
    /// Those whose file is in this folder, `private` of a data folder, if there are any.
    #[must_use]
    pub fn new(private: impl Into<PathBuf>) -> Self {
        Self {
            file: PrivateFile::new(private, FILE, USERS_FILE_MAX_BYTES),
            read: Mutex::new(None),
        }
    }

    /// Adds one who is not there.
    ///
    /// # Errors
    /// [`UserError`]; then he is not there.
    pub fn add(&self, name: &str, password: &str) -> Result<(), UserError> {
        check_new_name(name)?;
        let credentials = Credentials::new(password)?;
        self.change(|users| match users.contains_key(name) {
            true => Err(UserError::Exists(name.to_owned())),
            false => {
                users.insert(name.to_owned(), credentials);
                Ok(())
            }
        })
    }

    /// Gives one another password.
    ///
    /// # Errors
    /// [`UserError`]; then he keeps the one that he has.
    pub fn set_password(&self, name: &str, password: &str) -> Result<(), UserError> {
        let credentials = Credentials::new(password)?;
        self.change(|users| match users.get_mut(name) {
            None => Err(UserError::Unknown(name.to_owned())),
            Some(user) => {
                *user = credentials;
                Ok(())
            }
        })
    }

    /// Removes one. Who is logged in stays so until his connections end.
    ///
    /// # Errors
    /// [`UserError`]; then he stays.
    pub fn delete(&self, name: &str) -> Result<(), UserError> {
        self.change(|users| match users.remove(name) {
            None => Err(UserError::Unknown(name.to_owned())),
            Some(_) => Ok(()),
        })
    }

    /// All of them, by their names.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn list(&self) -> Result<Vec<UserInfo>, UserError> {
        let users = self.current()?;
        let user = |(name, kept): (&String, &Credentials)| UserInfo {
            name: name.clone(),
            mechanisms: kept.all().map(|(scram, _)| scram.name()).collect(),
        };
        Ok(users.iter().map(user).collect())
    }

    /// Changes several at once, or none.
    pub(crate) fn change<T>(
        &self,
        change: impl FnOnce(&mut Kept) -> Result<T, UserError>,
    ) -> Result<T, UserError> {
        self.file.change(|bytes| {
            let mut users = match bytes {
                Some(bytes) => self.parse(&bytes)?,
                None => Kept::new(),
            };
            let before = users.len();
            let answer = change(&mut users)?;
            // Who has no way to log in is none.
            users.retain(|_, kept| *kept != Credentials::default());
            if users.len() > USERS_MAX && users.len() > before {
                return Err(UserError::TooMany);
            }
            let version = Written::VERSION;
            let text = Written { version, users }.encode()?;
            Ok((Some(text), answer))
        })
    }

    /// The users as they are now.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn current(&self) -> Result<Arc<Kept>, UserError> {
        let Some(stamp) = self.file.stamp()? else {
            return Ok(Arc::default());
        };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, users)) = &*read
            && *at == stamp
        {
            return Ok(Arc::clone(users));
        }
        // It may be another one already; then it is read again next time.
        let users = match self.file.read()? {
            Some(bytes) => Arc::new(self.parse(&bytes)?),
            None => Arc::default(),
        };
        *read = Some((stamp, Arc::clone(&users)));
        Ok(users)
    }

    fn parse(&self, bytes: &[u8]) -> Result<Kept, UserError> {
        let nonsense = |why: String| UserError::Nonsense {
            path: self.file.path().display().to_string(),
            why,
        };
        let written = Written::decode(bytes).map_err(nonsense)?;
        for (name, kept) in &written.users {
            if check_name(name).is_err() || !kept.is_sound() {
                return Err(nonsense(format!("the user {name:?} is out of bounds")));
            }
        }
        Ok(written.users)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(folder: &tempfile::TempDir) -> Users {
        Users::new(folder.path().join("private"))
    }

    fn names(users: &Users) -> Vec<String> {
        let all = users.list().unwrap();
        all.into_iter().map(|user| user.name).collect()
    }

    #[test]
    fn users_come_get_another_password_and_go_and_others_see_it() {
        let folder = tempfile::tempdir().unwrap();
        let (here, server) = (users(&folder), users(&folder));
        assert!(names(&server).is_empty());
        here.add("bob", "one").unwrap();
        here.add("ålice, the=1st", "two").unwrap();
        assert_eq!(names(&server), ["bob", "ålice, the=1st"]);
        let listed = server.list().unwrap();
        assert_eq!(listed[0].mechanisms, ["SCRAM-SHA-256", "SCRAM-SHA-512"]);
        let knows = |password: &str| {
            let all = server.current().unwrap();
            let (scram, kept) = all["bob"].plain().unwrap();
            kept.is_of(scram, password.as_bytes())
        };
        assert!(knows("one") && !knows("two"));
        here.set_password("bob", "three").unwrap();
        assert!(knows("three") && !knows("one"));
        here.delete("bob").unwrap();
        assert_eq!(names(&server), ["ålice, the=1st"]);
        // Nothing of a password is in the file.
        let text = std::fs::read_to_string(folder.path().join("private/users.json")).unwrap();
        assert!(!text.contains("two"));
    }

    #[test]
    fn what_cannot_be_is_refused_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let users = users(&folder);
        users.add("bob", "one").unwrap();
        let long = "x".repeat(USER_NAME_MAX_BYTES + 1);
        for name in ["", "a\0b", "a\nb", long.as_str()] {
            assert!(matches!(users.add(name, "one"), Err(UserError::Name(_))));
        }
        for name in ["*", "ANONYMOUS", "User:eve"] {
            assert!(matches!(
                users.add(name, "one"),
                Err(UserError::Reserved(_))
            ));
        }
        let long = "x".repeat(PASSWORD_MAX_BYTES + 1);
        for password in ["", "a\0b", "one\r", long.as_str()] {
            let refused = users.add("eve", password);
            assert!(matches!(refused, Err(UserError::Password)), "{password:?}");
        }
        assert!(matches!(users.add("bob", "two"), Err(UserError::Exists(_))));
        assert!(matches!(users.delete("eve"), Err(UserError::Unknown(_))));
        let unknown = users.set_password("eve", "two");
        assert!(matches!(unknown, Err(UserError::Unknown(_))));
        let (scram, kept) = users.current().unwrap()["bob"]
            .plain()
            .map(|(s, k)| (s, k.clone()))
            .unwrap();
        assert!(kept.is_of(scram, b"one"));
        assert_eq!(names(&users), ["bob"]);
    }

    #[test]
    fn who_has_a_reserved_name_from_before_keeps_it_until_he_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let users = users(&folder);
        users.add("bob", "one").unwrap();
        let path = folder.path().join("private/users.json");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"bob\"", "\"*\"")).unwrap();
        assert_eq!(names(&users), ["*"]);
        users.set_password("*", "two").unwrap();
        users.delete("*").unwrap();
        assert!(names(&users).is_empty());
    }

    #[test]
    fn a_file_that_says_nonsense_is_named_and_lets_nobody_in() {
        let folder = tempfile::tempdir().unwrap();
        let users = users(&folder);
        users.add("bob", "one").unwrap();
        let path = folder.path().join("private/users.json");
        let good = std::fs::read_to_string(&path).unwrap();
        for nonsense in [
            "{".to_owned(),
            good.replace("\"version\": 1", "\"version\": 2"),
            good.replace("8192", "1"),
            good.replace("8192", "99999999"),
            good.replace("bob", ""),
            good.replace("\"salt\": \"", "\"salt\": \"?"),
        ] {
            assert_ne!(nonsense, good);
            std::fs::write(&path, &nonsense).unwrap();
            let refused = users.current().unwrap_err().to_string();
            assert!(refused.contains("users.json"), "{refused}");
            // Nothing is written over it.
            assert!(users.add("eve", "two").is_err());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), nonsense);
        }
    }
}
