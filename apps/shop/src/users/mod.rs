//! The user service: who registered, and who is logged in. Knows of passwords only their hashes,
//! which the door makes before it asks; of sessions only digests of their tokens. May not know
//! what users buy.

mod desk;

use tidemill::{Data, Fail, Handler as _, Reply, Router, State};

use crate::database::{DatabaseError, Place};
use crate::events::{
    Answer, GetSalt, GetUser, LoginUser, LogoutUser, RegisterUser, Salt, User, UserLoggedIn,
    UserLoggedOut, UserRegistered,
};
use crate::inbox::Input;
use crate::service::{self, Handled, Service, emitted, patient};

/// The name of its group and of its database.
pub const NAME: &str = "users";

emitted! {
    UserOut {
        Registered(UserRegistered),
        LoggedIn(UserLoggedIn),
        LoggedOut(UserLoggedOut),
    }
}

type Recorded = service::Recorded<UserOut, Answer<User>>;
type Out<L> = Handled<UserOut, L, Answer<User>>;

/// The service. Clones share its database.
#[derive(Clone)]
pub struct Users {
    service: Service,
    /// Makes the salts of names that nobody has, so that they look like those of the others.
    secret: u64,
}

impl Users {
    /// Opens its database. Blocks on the disk.
    ///
    /// # Errors
    /// [`DatabaseError::Open`].
    pub fn open(place: &Place) -> Result<Self, DatabaseError> {
        let random = getrandom::u64().map_err(|error| DatabaseError::Open {
            name: NAME.to_owned(),
            why: format!("the system gives no random numbers: {error}"),
        });
        Ok(Self {
            service: Service::open(place, NAME, desk::SCHEMA)?,
            secret: random?,
        })
    }

    /// Its database and its counts.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Its handlers, to be served as the group [`NAME`].
    pub fn router(&self) -> Router {
        Router::new()
            .source(service::source(NAME))
            .on(register.id("register").retry(patient()))
            .on(login.id("login").retry(patient()))
            .on(logout.id("logout").retry(patient()))
            .on(salt.id("salt"))
            .on(get.id("get"))
            .with_state(self.clone())
    }
}

async fn register(
    State(users): State<Users>,
    input: Input,
    Data(request): Data<RegisterUser>,
) -> Out<(UserRegistered,)> {
    let work = move |on: &_| desk::register(on, request);
    users.service.once(input, work).await
}

async fn login(
    State(users): State<Users>,
    input: Input,
    Data(request): Data<LoginUser>,
) -> Out<(UserLoggedIn,)> {
    let work = move |on: &_| desk::login(on, &request);
    users.service.once(input, work).await
}

async fn logout(
    State(users): State<Users>,
    input: Input,
    Data(request): Data<LogoutUser>,
) -> Out<(UserLoggedOut,)> {
    let work = move |on: &_| desk::logout(on, &request.who);
    users.service.once(input, work).await
}

// Questions change nothing, so they need no inbox.

async fn salt(State(users): State<Users>, Data(asked): Data<GetSalt>) -> Result<Reply<Salt>, Fail> {
    let secret = users.secret;
    let found = move |on: &_| desk::salt(on, secret, &asked.name);
    Ok(Reply(users.service.read(found).await?))
}

async fn get(
    State(users): State<Users>,
    Data(asked): Data<GetUser>,
) -> Result<Reply<Answer<User>>, Fail> {
    let found = move |on: &_| desk::show(on, asked.user_id);
    Ok(Reply(users.service.read(found).await?))
}
