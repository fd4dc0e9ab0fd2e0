//! The application's own state in handlers.

use std::convert::Infallible;

use tidemill_core::Delivery;

use super::FromEventParts;

/// The state given to [`Router::with_state`](crate::Router::with_state), or a part of it.
/// Cloned for each call, so it is an `Arc` or a handle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State<T>(pub T);

/// How a part is made of the whole state, so that a handler asks for what it needs only.
///
/// ```
/// use tidemill::FromRef;
///
/// #[derive(Clone)]
/// struct Mailer;
/// #[derive(Clone)]
/// struct Shop {
///     mailer: Mailer,
/// }
///
/// impl FromRef<Shop> for Mailer {
///     fn from_ref(shop: &Shop) -> Mailer {
///         shop.mailer.clone()
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "the router's state `{T}` gives no `{Self}`",
    label = "this state is missing",
    note = "give it with `Router::with_state(...)`, or implement `FromRef<{T}>` for `{Self}`"
)]
pub trait FromRef<T> {
    /// Makes the part.
    fn from_ref(whole: &T) -> Self;
}

impl<T: Clone> FromRef<T> for T {
    fn from_ref(whole: &T) -> T {
        whole.clone()
    }
}

#[diagnostic::do_not_recommend]
impl<S: Sync, T: FromRef<S>> FromEventParts<S> for State<T> {
    type Rejection = Infallible;

    async fn from_event_parts(_: &Delivery, state: &S) -> Result<Self, Infallible> {
        Ok(State(T::from_ref(state)))
    }
}
