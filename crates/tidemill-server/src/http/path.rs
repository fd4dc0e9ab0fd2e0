//! The named part of a path, percent-decoded; what cannot be decoded is a problem document like
//! every other error.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use super::problem::{Kind, Problem};

/// The one named part of a path, such as the topic's name.
#[derive(Debug)]
pub(crate) struct Named(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name)),
            Err(error) => {
                let detail = format!("the name in the path cannot be read: {error}");
                Err(Problem::new(Kind::InvalidName, detail))
            }
        }
    }
}
