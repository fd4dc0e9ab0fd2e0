//! Guides that belong to no one type. The others stand at [`handler`](mod@crate::handler),
//! [`extract`](crate::extract), [`outcome`](crate::outcome) and [`layer`](crate::layer).

#[doc = include_str!("docs/errors.md")]
pub mod errors {}

#[doc = include_str!("docs/testing.md")]
pub mod testing {}

#[doc = include_str!("docs/serving.md")]
pub mod serving {}
