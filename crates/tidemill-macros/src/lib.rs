//! `#[derive(Message)]`: what ties a Rust type to an event type.
//!
//! This crate may not know anything of the workspace: it writes paths into `::tidemill`.

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

mod attributes;
mod message;

/// Makes a type the data of one event type.
///
/// The type also needs serde's `Serialize` and `Deserialize` and schemars' `JsonSchema`; the data
/// is JSON, as serde writes it.
///
/// ```ignore
/// #[derive(Message, Serialize, Deserialize, JsonSchema)]
/// #[message(type = "order_paid", topic = "orders", key = "order_id")]
/// struct OrderPaid {
///     order_id: u64,
/// }
/// ```
///
/// | in `#[message(...)]` | meaning |
/// |---|---|
/// | `type = "..."` | required: the CloudEvents `type` |
/// | `topic = "..."` | required: the topic it is published to |
/// | `key = "field"` | the field whose text is the event's key; an `Option` of `None` gives none |
/// | `source = "..."` | the CloudEvents `source` when the publisher names none |
/// | `crate = "path"` | where `tidemill` is found, if not at `::tidemill` |
#[proc_macro_derive(Message, attributes(message))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    message::expand(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
