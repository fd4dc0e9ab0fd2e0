//! The wrappers that handlers return: [`Emit`] publishes, [`Reply`] answers.

use tidemill_core::EventId;

use super::{Fail, Outputs, Stage};
use crate::message::{Message, Outgoing};

/// Publishes events together with the settlement of the event that was handled: both become
/// durable in one commit, or neither.
///
/// Ids not given by [`Emit::with_id`] or [`Outgoing::id`] follow from the handled event's, so an
/// event handled twice gives the same ids twice. `correlationid`, `causationid` and
/// `traceparent` are set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emit<E>(pub E);

impl<M: Message> Emit<Outgoing<M>> {
    /// Publishes `message` under the event id `id`.
    pub fn with_id(id: EventId, message: M) -> Self {
        Self(Outgoing::new(message).id(id))
    }
}

/// Answers the request that was handled, once the commit is durable. Where nobody waits for an
/// answer it is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<T>(pub T);

/// What [`Emit`] can hold: a [`Message`], an [`Outgoing`] one, or tuples of up to four, `Vec`,
/// `Option` and arrays of these, or an enum of these with
/// [`#[derive(Emission)]`](macro@crate::Emission).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be emitted: it is not a message",
    label = "not a message",
    note = "`Emit` takes a type with `#[derive(Message)]`, a tuple, `Vec` or `Option` of such, or \
            an enum of such with `#[derive(Emission)]`"
)]
pub trait Emission {
    /// Tells what may be published.
    fn outputs(outputs: &mut Outputs);

    /// Stages the events.
    ///
    /// # Errors
    /// A permanent [`Fail`] when an event cannot be written.
    fn emit(self, stage: &mut Stage<'_>) -> Result<(), Fail>;
}

impl<M: Message> Emission for M {
    fn outputs(outputs: &mut Outputs) {
        outputs.event::<M>();
    }

    fn emit(self, stage: &mut Stage<'_>) -> Result<(), Fail> {
        stage.emit(Outgoing::new(self))
    }
}

impl<M: Message> Emission for Outgoing<M> {
    fn outputs(outputs: &mut Outputs) {
        outputs.event::<M>();
    }

    fn emit(self, stage: &mut Stage<'_>) -> Result<(), Fail> {
        stage.emit(self)
    }
}

impl<E: Emission> Emission for Option<E> {
    fn outputs(outputs: &mut Outputs) {
        E::outputs(outputs);
    }

    fn emit(self, stage: &mut Stage<'_>) -> Result<(), Fail> {
        self.map_or(Ok(()), |some| some.emit(stage))
    }
}

impl<E: Emission> Emission for Vec<E> {
    fn outputs(outputs: &mut Outputs) {
        E::outputs(outputs);
    }

    fn emit(self, stage: &mut Stage<'_>) -> Result<(), Fail> {
        self.into_iter().try_for_each(|one| one.emit(stage))
    }
}

impl<E: Emission, const N: usize> Emission for [E; N] {
    fn outputs(outputs: &mut Outputs) {
        E::outputs(outputs);
    }

    fn emit(self, stage: &mut Stage<'_>) -> Result<(), Fail> {
        self.into_iter().try_for_each(|one| one.emit(stage))
    }
}

macro_rules! tuple {
    ($($name:ident)+) => {
        impl<$($name: Emission),+> Emission for ($($name,)+) {
            fn outputs(outputs: &mut Outputs) {
                $($name::outputs(outputs);)+
            }

            #[allow(non_snake_case)]
            fn emit(self, stage: &mut Stage<'_>) -> Result<(), Fail> {
                let ($($name,)+) = self;
                $($name.emit(stage)?;)+
                Ok(())
            }
        }
    };
}

tuple!(A B);
tuple!(A B C);
tuple!(A B C D);
