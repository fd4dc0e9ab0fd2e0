//! `#[derive(Message)]`: what ties a Rust type to an event type; `#[derive(Emission)]`: one of
//! several messages; and `#[handler]`, with which the compiler says what is wrong with a handler.
//!
//! This crate may not know anything of the workspace: it writes paths into `::tidemill`.

use proc_macro::TokenStream;
use syn::{DeriveInput, ItemFn, parse_macro_input};

mod attributes;
mod emission;
mod handler;
mod message;

/// Where `place` is in the source, for errors; but with the names of the macro's own output, so
/// that a derive inside of a `macro_rules!` finds them.
fn located(place: &impl syn::spanned::Spanned) -> proc_macro2::Span {
    proc_macro2::Span::call_site().located_at(place.span())
}

/// The type itself, without the invisible group that a `macro_rules!` puts around it.
fn bare(mut ty: &syn::Type) -> &syn::Type {
    while let syn::Type::Group(group) = ty {
        ty = &group.elem;
    }
    ty
}

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

/// Makes an enum one of several messages, for a handler that publishes now this and now that: each
/// variant holds one type that is itself a message (or another emission).
///
/// ```ignore
/// #[derive(Emission)]
/// enum Decided {
///     Paid(OrderPaid),
///     Refused(PaymentRefused),
/// }
///
/// async fn charge(Data(order): Data<OrderCreated>) -> Emit<Decided> { ... }
/// ```
#[proc_macro_derive(Emission)]
pub fn derive_emission(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    emission::expand(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Lets the compiler say exactly what is wrong with a handler. Changes nothing: the function
/// stays as it is, and works without it too.
///
/// A mistake in a handler is otherwise reported where it is added to a router, and there only as
/// "is not a handler". With `#[handler]` each argument, the return value and the future are
/// checked where they stand. Extractors that need a certain state are checked with
/// `#[handler(state = Shop)]`; without it the type in `State<...>` is taken as the state.
///
/// ```ignore
/// #[tidemill::handler]
/// async fn charge(State(shop): State<Shop>, Data(order): Data<OrderCreated>) -> Result<(), Fail> {
///     Ok(())
/// }
/// ```
#[proc_macro_attribute]
pub fn handler(arguments: TokenStream, input: TokenStream) -> TokenStream {
    let arguments = parse_macro_input!(arguments as handler::Arguments);
    let original = proc_macro2::TokenStream::from(input.clone());
    let function = parse_macro_input!(input as ItemFn);
    let checks =
        handler::checks(&function, &arguments).unwrap_or_else(syn::Error::into_compile_error);
    quote::quote! { #original #checks }.into()
}
