//! How a handler fails: a class that decides what happens next, and the error that says why.

use std::fmt;
use std::time::Duration;

use crate::message::BoxError;

/// What kind of failure it was; the failure policy decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailClass {
    /// May go away by itself; tried again. Every error that `?` turned into a [`Fail`].
    Transient,
    /// Stays as it is; the event becomes a dead letter at once.
    Permanent,
    /// The handler took too long; tried again.
    Timeout,
    /// The handler panicked; tried again.
    Panic,
    /// The event's data or attributes are not what the handler takes; a dead letter at once.
    Undecodable,
    /// A limit turned the delivery away before the handler ran; tried again, not counted.
    Overloaded,
}

impl FailClass {
    /// The class of an error that came through layers: that of the [`Fail`] in it; tower's timeout
    /// is a timeout, its load shedding an overload, everything else transient.
    #[must_use]
    pub fn of(error: &BoxError) -> Self {
        if let Some(fail) = error.downcast_ref::<FailError>() {
            fail.0.class
        } else if error.is::<tower::timeout::error::Elapsed>() {
            Self::Timeout
        } else if error.is::<tower::load_shed::error::Overloaded>() {
            Self::Overloaded
        } else {
            Self::Transient
        }
    }

    /// The class in a word, as a dead letter carries it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Transient => "error",
            Self::Permanent => "rejected",
            Self::Timeout => "timeout",
            Self::Panic => "panic",
            Self::Undecodable => "undecodable",
            Self::Overloaded => "overloaded",
        }
    }
}

impl fmt::Display for FailClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

/// A handler's failure. `?` makes a transient one of every error.
///
/// It is no `std::error::Error` itself, as `?` could not tell it from the others then; see
/// [`FailError`] for the form that passes through tower layers.
///
/// ```
/// use tidemill::Fail;
///
/// async fn handler() -> Result<(), Fail> {
///     let limit: u32 = "12".parse()?; // an error here is tried again
///     if limit > 100 {
///         return Err(Fail::permanent("the limit is above 100")); // a dead letter at once
///     }
///     Ok(())
/// }
/// ```
pub struct Fail {
    class: FailClass,
    after: Option<Duration>,
    source: BoxError,
}

impl Fail {
    /// A failure of the class `class` because of `source`: an error or a text.
    pub fn new(class: FailClass, source: impl Into<BoxError>) -> Self {
        Self {
            class,
            after: None,
            source: source.into(),
        }
    }

    /// May go away by itself: tried again.
    pub fn transient(source: impl Into<BoxError>) -> Self {
        Self::new(FailClass::Transient, source)
    }

    /// Stays as it is: a dead letter at once.
    pub fn permanent(source: impl Into<BoxError>) -> Self {
        Self::new(FailClass::Permanent, source)
    }

    /// The event is not what the handler takes: a dead letter at once.
    pub fn undecodable(source: impl Into<BoxError>) -> Self {
        Self::new(FailClass::Undecodable, source)
    }

    /// Asks for this wait before the next try, instead of the handler's retry policy.
    #[must_use]
    pub fn after(mut self, after: Duration) -> Self {
        self.after = Some(after);
        self
    }

    /// Its class.
    #[must_use]
    pub fn class(&self) -> FailClass {
        self.class
    }

    /// The wait it asks for.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.after
    }

    /// The error behind it.
    #[must_use]
    pub fn source(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.source
    }

    /// The error that a layer gave up with, as a failure: a [`Fail`] that a layer passed on is
    /// itself again, any other error gets its class from [`FailClass::of`].
    #[must_use]
    pub fn from_layer(error: BoxError) -> Self {
        match error.downcast::<FailError>() {
            Ok(fail) => fail.0,
            Err(error) => Self::new(FailClass::of(&error), error),
        }
    }

    /// The error and what caused it, in one line of at most `max_bytes`.
    #[must_use]
    pub fn text(&self, max_bytes: usize) -> String {
        let mut text = self.source.to_string();
        let mut cause = self.source.source();
        while let Some(error) = cause {
            if text.len() > max_bytes {
                break;
            }
            let more = error.to_string();
            if !text.ends_with(&more) {
                text.push_str(": ");
                text.push_str(&more);
            }
            cause = error.source();
        }
        let mut text: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        text.truncate(text.floor_char_boundary(max_bytes));
        text
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Fail {
    fn from(error: E) -> Self {
        let error: BoxError = Box::new(error);
        match error.downcast::<FailError>() {
            Ok(fail) => fail.0,
            Err(error) => Self::transient(error),
        }
    }
}

impl From<Fail> for BoxError {
    fn from(fail: Fail) -> Self {
        Box::new(FailError(fail))
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.source)
    }
}

impl fmt::Debug for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fail")
            .field("class", &self.class)
            .field("source", &self.source)
            .finish()
    }
}

/// A [`Fail`] on its way through tower layers, as the [`BoxError`] that they pass on. A layer
/// that wants to know the class downcasts to it.
pub struct FailError(pub Fail);

impl fmt::Display for FailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for FailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::error::Error for FailError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.source()
    }
}
