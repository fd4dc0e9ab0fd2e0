//! What a handler may return, and what becomes of it: an [`Outcome`] and the events staged with
//! it, which the bus keeps in one commit.
//!
//! This room may not know how handlers are found or called. (Its implementations are not
//! recommended in a compiler's message: the trait's note names them in better order.)
//!
#![doc = include_str!("../docs/outcomes.md")]

use schemars::JsonSchema;
use serde::Serialize;
use tidemill_core::{Commit, Effects, Outcome};

mod emit;
mod fail;
mod outputs;
mod stage;

pub use emit::{Emission, Emit, Reply};
pub use fail::{Fail, FailClass, FailError};
pub use outputs::{OutputInfo, OutputKind, Outputs};
pub use stage::Stage;

/// What a handler may return.
///
/// | returned | means |
/// |---|---|
/// | `()` | done |
/// | [`Emit<M>`] | done, and this event is published with it |
/// | `Emit<(A, B)>`, `Emit<Vec<M>>`, `Emit<Option<M>>` | done, with several events or none |
/// | `Emit<E>` with [`#[derive(Emission)]`](macro@crate::Emission) | done, with one of several |
/// | [`Reply<T>`] | done, and this is the answer to the request |
/// | `(Emit<M>, Reply<T>)` | both |
/// | `Option<T>` | `T`, or done |
/// | `Result<T, E>` | `T`, or a failure; `E` is [`Fail`] or any error |
/// | [`Outcome`], [`Effects`], [`Commit`] | exactly that |
#[diagnostic::on_unimplemented(
    message = "a handler cannot return `{Self}`",
    label = "not an outcome",
    note = "return `()`, `Emit<M>` with `M: Message`, `Reply<T>`, `(Emit<M>, Reply<T>)`, \
            `Outcome`, or a `Result` of one of these with `Fail` or any error"
)]
pub trait IntoOutcome {
    /// Tells what may be published or answered, for [`crate::Router::describe`].
    fn outputs(outputs: &mut Outputs);

    /// Stages what is to be published and says how the attempt ended.
    ///
    /// # Errors
    /// A [`Fail`], when the handler failed or an output could not be written. Nothing that was
    /// staged is kept then.
    fn into_outcome(self, stage: &mut Stage<'_>) -> Result<Outcome, Fail>;
}

#[diagnostic::do_not_recommend]
impl IntoOutcome for () {
    fn outputs(_: &mut Outputs) {}

    fn into_outcome(self, _: &mut Stage<'_>) -> Result<Outcome, Fail> {
        Ok(Outcome::Ack)
    }
}

#[diagnostic::do_not_recommend]
impl<M: Emission> IntoOutcome for Emit<M> {
    fn outputs(outputs: &mut Outputs) {
        M::outputs(outputs);
    }

    fn into_outcome(self, stage: &mut Stage<'_>) -> Result<Outcome, Fail> {
        self.0.emit(stage)?;
        Ok(Outcome::Ack)
    }
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + JsonSchema> IntoOutcome for Reply<T> {
    fn outputs(outputs: &mut Outputs) {
        outputs.reply::<T>();
    }

    fn into_outcome(self, stage: &mut Stage<'_>) -> Result<Outcome, Fail> {
        stage.reply(&self.0)?;
        Ok(Outcome::Ack)
    }
}

/// Both; the first that is not an acknowledgement decides.
#[diagnostic::do_not_recommend]
impl<A: IntoOutcome, B: IntoOutcome> IntoOutcome for (A, B) {
    fn outputs(outputs: &mut Outputs) {
        A::outputs(outputs);
        B::outputs(outputs);
    }

    fn into_outcome(self, stage: &mut Stage<'_>) -> Result<Outcome, Fail> {
        let first = self.0.into_outcome(stage)?;
        let second = self.1.into_outcome(stage)?;
        Ok(match first {
            Outcome::Ack => second,
            other => other,
        })
    }
}

#[diagnostic::do_not_recommend]
impl<T: IntoOutcome> IntoOutcome for Option<T> {
    fn outputs(outputs: &mut Outputs) {
        T::outputs(outputs);
    }

    fn into_outcome(self, stage: &mut Stage<'_>) -> Result<Outcome, Fail> {
        self.map_or(Ok(Outcome::Ack), |some| some.into_outcome(stage))
    }
}

#[diagnostic::do_not_recommend]
impl<T: IntoOutcome, E: Into<Fail>> IntoOutcome for Result<T, E> {
    fn outputs(outputs: &mut Outputs) {
        T::outputs(outputs);
    }

    fn into_outcome(self, stage: &mut Stage<'_>) -> Result<Outcome, Fail> {
        self.map_err(Into::into)?.into_outcome(stage)
    }
}

#[diagnostic::do_not_recommend]
impl IntoOutcome for Outcome {
    fn outputs(_: &mut Outputs) {}

    fn into_outcome(self, _: &mut Stage<'_>) -> Result<Outcome, Fail> {
        Ok(self)
    }
}

/// The events and the answer as they are, and done.
#[diagnostic::do_not_recommend]
impl IntoOutcome for Effects {
    fn outputs(_: &mut Outputs) {}

    fn into_outcome(self, stage: &mut Stage<'_>) -> Result<Outcome, Fail> {
        stage.add(self);
        Ok(Outcome::Ack)
    }
}

#[diagnostic::do_not_recommend]
impl IntoOutcome for Commit {
    fn outputs(_: &mut Outputs) {}

    fn into_outcome(self, stage: &mut Stage<'_>) -> Result<Outcome, Fail> {
        stage.add(self.effects);
        Ok(self.outcome)
    }
}
