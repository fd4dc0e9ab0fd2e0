//! Who may do what: rules about principals and resources, in `acls.json` of the server's private
//! folder.
//!
//! ```text
//! mod.rs     the rules in their file, and as they are now    knows no network
//! rule.rs    one rule, its words and its bounds              knows no files
//! filter.rs  which rules are meant                           knows no files
//! judge.rs   what follows from rules                         knows no files
//! ```
//!
//! The model is that of Apache Kafka's ACLs. Principals, resources and operations are words of
//! this room's own: a door says in them what it is asked for. A command changes the file beside a
//! running server, which sees that soon; what the server changes itself holds at once. Calls that
//! wait for the disk say so: asynchronous callers use a thread for them.

pub mod filter;
pub mod judge;
#[cfg(test)]
mod judge_tests;
pub mod rule;

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::limits::{PERMISSIONS_FILE_MAX_BYTES, PERMISSIONS_MAX};
use crate::private_file::{PrivateFile, Stamp, Versioned};
use filter::Filter;
use judge::Book;
use rule::Rule;

/// The file's name in the private folder.
const FILE: &str = "acls.json";

/// Why rules are not as they were to be.
#[derive(Debug, thiserror::Error)]
pub enum PermissionError {
    /// It cannot be a rule.
    #[error("{0}")]
    Rule(String),
    /// There are too many.
    #[error(
        "there would be more than {PERMISSIONS_MAX} rules, or more than \
         {PERMISSIONS_FILE_MAX_BYTES} bytes of them; delete some, or use prefixes"
    )]
    TooMany,
    /// The file says nonsense.
    #[error("{path}: {why}; mend it, or bring back a copy of it")]
    Nonsense {
        /// Which file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The file was there, with rules in it, and is not any more.
    #[error("{0} is gone; bring back a copy of it, or begin anew with `tidemill acl add`")]
    Gone(String),
    /// The disk says no.
    #[error("rules cannot be read or written: {0}")]
    Disk(#[from] io::Error),
}

/// The file as it is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    rules: BTreeSet<Rule>,
}

impl Versioned for Written {
    const VERSION: u32 = 1;

    fn version(&self) -> u32 {
        self.version
    }
}

/// The rules at a moment.
#[derive(Debug, Default)]
pub struct Known {
    /// All of them; those about the same resources stand together.
    pub rules: BTreeSet<Rule>,
    /// What they mean.
    pub book: Arc<Book>,
}

/// The rules of one data folder.
#[derive(Debug)]
pub struct Permissions {
    file: PrivateFile,
    /// Who looks at the file, one at a time, and which state of it he saw last.
    looked: Mutex<Option<Option<Stamp>>>,
    /// `None` until they were read for the first time.
    known: RwLock<Option<Arc<Known>>>,
}

impl Permissions {
    /// Those whose file is in this folder, `private` of a data folder, if there are any. Nothing is
    /// read yet.
    #[must_use]
    pub fn new(private: impl Into<PathBuf>) -> Self {
        Self {
            file: PrivateFile::new(private, FILE, PERMISSIONS_FILE_MAX_BYTES),
            looked: Mutex::new(None),
            known: RwLock::new(None),
        }
    }

    /// Adds rules, and says how many were not there. Waits for the disk.
    ///
    /// # Errors
    /// [`PermissionError`]; then none was added.
    pub fn add(&self, rules: Vec<Rule>) -> Result<usize, PermissionError> {
        let rules = rules.into_iter().map(Rule::checked);
        let rules = rules.collect::<Result<Vec<_>, _>>()?;
        self.change(|have| {
            let added = rules.into_iter().filter(|rule| have.insert(rule.clone()));
            Ok(added.count())
        })
    }

    /// Deletes the rules that any of the filters takes. What each of them took is answered, a rule
    /// by the first one alone. Waits for the disk.
    ///
    /// # Errors
    /// [`PermissionError`]; then none was deleted.
    pub fn delete(&self, filters: &[Filter]) -> Result<Vec<Vec<Rule>>, PermissionError> {
        self.change(|have| {
            let take = |filter: &Filter| have.extract_if(.., |rule| filter.takes(rule)).collect();
            Ok(filters.iter().map(take).collect())
        })
    }

    /// The rules that a filter takes, sorted. Waits for the disk.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Rule>, PermissionError> {
        self.look()?;
        let known = self.known();
        let all = known.iter().flat_map(|known| &known.rules);
        Ok(all.filter(|rule| filter.takes(rule)).cloned().collect())
    }

    /// The rules as they were seen last; `None` before they were read.
    #[must_use]
    pub fn known(&self) -> Option<Arc<Known>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// Looks whether the file is another one, and reads it then. Waits for the disk.
    ///
    /// # Errors
    /// It cannot be read; the rules stay as they were seen last.
    pub fn look(&self) -> Result<(), PermissionError> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.file.stamp()?;
        if *looked == Some(stamp) {
            return Ok(());
        }
        // It may be another one already; then it is read again next time.
        let rules = self.rules_in(self.file.read()?.as_deref())?;
        let book = Arc::new(Book::new(&rules));
        let known = Arc::new(Known { rules, book });
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known);
        *looked = Some(stamp);
        Ok(())
    }

    /// Changes several at once, or none; what is answered is durable and holds.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut BTreeSet<Rule>) -> Result<T, PermissionError>,
    ) -> Result<T, PermissionError> {
        let answer = self.file.change(|bytes| {
            let had = self.rules_in(bytes.as_deref())?;
            let mut rules = had.clone();
            let answer = change(&mut rules)?;
            if rules == had {
                return Ok((None, answer));
            }
            let before = had.len();
            let many = rules.len() > PERMISSIONS_MAX;
            let more = rules.len() > before;
            let version = Written::VERSION;
            let text = Written { version, rules }.encode()?;
            if more && (many || text.len() > PERMISSIONS_FILE_MAX_BYTES) {
                return Err(PermissionError::TooMany);
            }
            Ok((Some(text), answer))
        })?;
        self.look()?;
        Ok(answer)
    }

    /// The rules in the file, if there is one. Rules that were seen do not end by its going away.
    fn rules_in(&self, bytes: Option<&[u8]>) -> Result<BTreeSet<Rule>, PermissionError> {
        match bytes {
            Some(bytes) => self.parse(bytes),
            None if self.known().is_some_and(|known| !known.rules.is_empty()) => Err(
                PermissionError::Gone(self.file.path().display().to_string()),
            ),
            None => Ok(BTreeSet::new()),
        }
    }

    fn parse(&self, bytes: &[u8]) -> Result<BTreeSet<Rule>, PermissionError> {
        let nonsense = |why: String| PermissionError::Nonsense {
            path: self.file.path().display().to_string(),
            why,
        };
        let written = Written::decode(bytes).map_err(nonsense)?;
        let rules = written.rules.into_iter().map(Rule::checked);
        let rules = rules.collect::<Result<_, _>>();
        rules.map_err(|why| nonsense(why.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::rule::{ANY, Effect, Kind, Match, Operation, Pattern};
    use super::*;

    fn permissions(folder: &tempfile::TempDir) -> Permissions {
        Permissions::new(folder.path().join("private"))
    }

    fn rule(topic: &str, operation: Operation) -> Rule {
        Rule {
            resource: Pattern {
                kind: Kind::Topic,
                name: topic.to_owned(),
                how: Match::Literal,
            },
            principal: "User:alice".to_owned(),
            host: ANY.to_owned(),
            operation,
            effect: Effect::Allow,
        }
    }

    fn of(topic: &str) -> Filter {
        Filter {
            name: Some(topic.to_owned()),
            ..Filter::default()
        }
    }

    #[test]
    fn rules_come_and_go_and_others_see_it() {
        let folder = tempfile::tempdir().unwrap();
        let (here, server) = (permissions(&folder), permissions(&folder));
        assert!(server.known().is_none());
        server.look().unwrap();
        assert!(server.known().unwrap().rules.is_empty());
        let (read, write) = (rule("a", Operation::Read), rule("a", Operation::Write));
        let other = rule("b", Operation::Read);
        let all = vec![write.clone(), other.clone(), read.clone()];
        assert_eq!(here.add(all.clone()).unwrap(), 3);
        assert_eq!(here.add(all).unwrap(), 0);
        // What the server has looked at before is not what it sees now.
        assert!(server.known().unwrap().rules.is_empty());
        server.look().unwrap();
        assert_eq!(server.known().unwrap().rules.len(), 3);
        let listed = server.list(&of("a")).unwrap();
        assert_eq!(listed, [read.clone(), write.clone()]);
        let deleted = server.delete(&[of("a"), Filter::default()]).unwrap();
        assert_eq!(deleted, [vec![read, write], vec![other]]);
        assert!(server.known().unwrap().rules.is_empty());
        assert!(here.list(&Filter::default()).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let permissions = permissions(&folder);
        let good = rule("a", Operation::Read);
        let bad = rule("", Operation::Read);
        let refused = permissions.add(vec![good, bad]);
        assert!(matches!(refused, Err(PermissionError::Rule(_))));
        assert!(permissions.list(&Filter::default()).unwrap().is_empty());
        let many = (0..=PERMISSIONS_MAX).map(|n| rule(&n.to_string(), Operation::Read));
        let refused = permissions.add(many.collect());
        assert!(matches!(refused, Err(PermissionError::TooMany)));
        assert!(permissions.list(&Filter::default()).unwrap().is_empty());
    }

    #[test]
    fn rules_do_not_end_by_their_files_going_away() {
        let folder = tempfile::tempdir().unwrap();
        let permissions = permissions(&folder);
        permissions.add(vec![rule("a", Operation::Read)]).unwrap();
        let path = folder.path().join("private/acls.json");
        let copy = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let gone = permissions.look().unwrap_err();
        assert!(matches!(&gone, PermissionError::Gone(_)), "{gone}");
        assert_eq!(permissions.known().unwrap().rules.len(), 1);
        let added = permissions.add(vec![rule("b", Operation::Read)]);
        assert!(matches!(added, Err(PermissionError::Gone(_))));
        // Whoever begins anew beside it does so on purpose.
        super::Permissions::new(folder.path().join("private"))
            .add(vec![rule("c", Operation::Read)])
            .unwrap();
        permissions.look().unwrap();
        assert_eq!(permissions.list(&of("c")).unwrap().len(), 1);
        let mut file = fs::File::create(&path).unwrap();
        std::io::Write::write_all(&mut file, &copy).unwrap();
        permissions.look().unwrap();
        assert_eq!(permissions.list(&of("a")).unwrap().len(), 1);
    }

    #[test]
    fn a_file_that_says_nonsense_is_named_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let permissions = permissions(&folder);
        permissions.add(vec![rule("a", Operation::Read)]).unwrap();
        let path = folder.path().join("private/acls.json");
        let good = fs::read_to_string(&path).unwrap();
        for nonsense in [
            "{".to_owned(),
            good.replace("\"version\": 1", "\"version\": 2"),
            good.replace("User:alice", "alice"),
            good.replace("\"read\"", "\"raed\""),
            good.replace("\"effect\"", "\"affect\""),
            good.replace("\"*\"", "\"everywhere\""),
        ] {
            assert_ne!(nonsense, good);
            fs::write(&path, &nonsense).unwrap();
            let refused = permissions.look().unwrap_err().to_string();
            assert!(refused.contains("acls.json"), "{refused}");
            // What held holds, and nothing is written over it.
            assert_eq!(permissions.known().unwrap().rules.len(), 1);
            assert!(permissions.add(vec![rule("b", Operation::Read)]).is_err());
            assert_eq!(fs::read_to_string(&path).unwrap(), nonsense);
            // Who has not read anything knows nothing.
            let fresh = Permissions::new(folder.path().join("private"));
            assert!(fresh.look().is_err() && fresh.known().is_none());
        }
    }
}
