//! `tidemill user`: who may log in over the Kafka protocol, in a file of the data folder that a
//! running server reads too.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tidemill::broker::PRIVATE_DIR;
use tidemill_server::users::{UserError, Users};

use crate::failure::Failure;
use crate::folder::may_hold_log;
use crate::listing::{Listing, print_json_lines};
use crate::output::{all_the_same, say};
use crate::password;
use crate::settings::DATA;

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
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill user delete bob")]
pub(crate) struct Delete {
    /// The user's name
    name: String,
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
}

impl User {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Add(add) => {
                let users = add.folder.users()?;
                users.add(&add.name, &add.typed.get()?).map_err(failed)?;
                done("added", &add.name)
            }
            Self::List(list) => {
                let users = list.folder.users()?.list().map_err(failed)?;
                if list.json {
                    return print_json_lines(&users);
                }
                let mut listing = Listing::new(&["user", "mechanisms"]);
                for user in users {
                    let name = user.name.clone();
                    listing.row(&[name, format!("PLAIN,{}", user.mechanisms.join(","))]);
                }
                listing.print()
            }
            Self::Delete(delete) => {
                let users = delete.folder.users()?;
                users.delete(&delete.name).map_err(failed)?;
                done("deleted", &delete.name)
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
        UserError::Name(_) | UserError::Password => Failure::usage(error),
        error => Failure::new(error),
    }
}
