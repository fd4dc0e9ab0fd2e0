//! `tidemill user`: who may log in over the Kafka protocol, in a file of the data folder that a
//! running server reads too.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tidemill::broker::PRIVATE_DIR;
use tidemill_server::permissions::Permissions;
use tidemill_server::permissions::filter::Filter;
use tidemill_server::permissions::rule::{ANONYMOUS, ANY, principal};
use tidemill_server::users::{UserError, Users, check_new_name};

use crate::failure::Failure;
use crate::folder::may_hold_log;
use crate::listing::{Listing, print_json_lines};
use crate::output::{all_the_same, remark, say};
use crate::settings::DATA;
use crate::{password, shell};

/// Add, list and delete users who log in over the Kafka protocol, and change their passwords
///
/// They count where the server has --kafka-sasl. Its data folder has them, whether a server runs
/// or not; a running one sees a change when somebody logs in next. Who is logged in stays so until
/// his connection ends.
#[derive(Subcommand)]
#[command(after_help = "Examples:\n  \
    tidemill user add alice\n  \
    tidemill user add bob --password-stdin < bobs-password\n  \
    tidemill user list --json\n  \
    tidemill user password alice\n  \
    tidemill user delete bob")]
pub(crate) enum User {
    Add(Add),
    List(List),
    Delete(Delete),
    Password(Password),
}

/// Add a user
///
/// The password is asked for on the terminal. What is kept of it are the salted keys of SCRAM,
/// from which it cannot be computed.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill user add alice\n  \
    tidemill user add bob --password-stdin --data /var/lib/tidemill < bobs-password")]
pub(crate) struct Add {
    /// The user's name
    name: String,
    #[command(flatten)]
    typed: Typed,
    #[command(flatten)]
    folder: Folder,
}

/// List all users
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill user list --json")]
pub(crate) struct List {
    /// Print a line of JSON for each user
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    folder: Folder,
}

/// Delete a user
///
/// Rules about him stay unless --with-rules is given, as with Apache Kafka: they count again for
/// whoever gets the name.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill user delete bob\n  \
    tidemill user delete bob --with-rules")]
pub(crate) struct Delete {
    /// The user's name
    name: String,
    /// Delete the rules of `tidemill acl` about him, too
    #[arg(long)]
    with_rules: bool,
    #[command(flatten)]
    folder: Folder,
}

/// Give a user another password
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill user password alice\n  \
    tidemill user password bob --password-stdin < bobs-password")]
pub(crate) struct Password {
    /// The user's name
    name: String,
    #[command(flatten)]
    typed: Typed,
    #[command(flatten)]
    folder: Folder,
}

/// Where the password comes from.
#[derive(Args)]
pub(crate) struct Typed {
    /// Read the password from standard input, one line, instead of asking for it
    #[arg(long)]
    password_stdin: bool,
}

impl Typed {
    fn get(&self) -> Result<String, Failure> {
        match self.password_stdin {
            true => password::piped(),
            false => password::asked(),
        }
    }
}

/// Where the users are, and the rules about them.
#[derive(Args)]
pub(crate) struct Folder {
    /// The data folder
    #[arg(long, env = "TIDEMILL_DATA", value_name = "DIR", default_value = DATA)]
    data: PathBuf,
}

impl Folder {
    /// Its folder for what is private.
    pub(super) fn private(&self) -> Result<PathBuf, Failure> {
        may_hold_log(&self.data)?;
        Ok(self.data.join(PRIVATE_DIR))
    }

    fn users(&self) -> Result<Users, Failure> {
        self.private().map(Users::new)
    }

    /// Says so where a principal is a user that is not there (yet).
    pub(super) fn note_unknown(&self, of: &str) -> Result<(), Failure> {
        let Some(name) = of.strip_prefix("User:") else {
            return Ok(());
        };
        let users = self.users()?.list().map_err(failed)?;
        if [ANY, ANONYMOUS].contains(&name) || users.iter().any(|user| user.name == name) {
            return Ok(());
        }
        let options = ["--data".to_owned(), self.data.display().to_string()];
        let command = shell::tidemill("user add", Some(name), &options);
        remark(format_args!(
            "note: there is no user {name} yet; `{command}` adds one"
        ));
        Ok(())
    }
}

impl Delete {
    /// Deletes the rules about who was deleted, or says that they stay.
    fn rules(&self) -> Result<(), Failure> {
        let principal = principal(&self.name);
        let filter = Filter {
            principal: Some(principal.clone()),
            ..Filter::default()
        };
        let permissions = Permissions::new(self.folder.private()?);
        let unknown = |error| {
            Failure::new(format!(
                "{} is deleted, and the rules about {principal} are not known: {error}",
                self.name
            ))
        };
        if self.with_rules {
            let deleted = permissions.delete(&[filter]).map_err(unknown)?;
            let text = counted(deleted.iter().map(Vec::len).sum());
            let text = format!("deleted {text} about {principal}");
            return all_the_same(say(&text), &text);
        }
        let stay = permissions.list(&filter).map_err(unknown)?.len();
        if stay > 0 {
            let data = self.folder.data.display().to_string();
            let options = [
                "--principal".to_owned(),
                principal.clone(),
                "--data".to_owned(),
                data,
            ];
            let command = shell::tidemill("acl delete", None, &options);
            remark(format_args!(
                "note: {} about {principal} left, which count for whoever gets the name; \
                 `{command}` deletes them",
                counted(stay)
            ));
        }
        Ok(())
    }
}

fn counted(rules: usize) -> String {
    match rules {
        1 => "1 rule".to_owned(),
        more => format!("{more} rules"),
    }
}

impl User {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Add(add) => {
                let users = add.folder.users()?;
                // Nobody types a password for a name that nobody can have.
                check_new_name(&add.name).map_err(failed)?;
                users.add(&add.name, &add.typed.get()?).map_err(failed)?;
                done("added", &add.name)
            }
            Self::List(list) => {
                let mut users = list.folder.users()?.list().map_err(failed)?;
                for user in &mut users {
                    // Its server computes the same keys of a password that it is told.
                    user.mechanisms.insert(0, "PLAIN");
                }
                if list.json {
                    return print_json_lines(&users);
                }
                let mut listing = Listing::new(&["user", "mechanisms"]);
                for user in users {
                    let mechanisms = user.mechanisms.join(",");
                    listing.row(&[user.name, mechanisms]);
                }
                listing.print()
            }
            Self::Delete(delete) => {
                let users = delete.folder.users()?;
                users.delete(&delete.name).map_err(failed)?;
                done("deleted", &delete.name)?;
                delete.rules()
            }
            Self::Password(change) => {
                let users = change.folder.users()?;
                let typed = change.typed.get()?;
                users.set_password(&change.name, &typed).map_err(failed)?;
                done("changed the password of", &change.name)
            }
        }
    }
}

fn done(what: &str, name: &str) -> Result<(), Failure> {
    let text = format!("{what} {name}");
    all_the_same(say(&text), &text)
}

fn failed(error: UserError) -> Failure {
    match error {
        UserError::Name(_) | UserError::Reserved(_) | UserError::Password => Failure::usage(error),
        error => Failure::new(error),
    }
}
