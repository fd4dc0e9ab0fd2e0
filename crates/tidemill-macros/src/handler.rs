//! Writes code that does nothing but make the compiler check a handler piece by piece.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::{Error, FnArg, GenericArgument, ItemFn, PathArguments, ReturnType, Token, Type};

use crate::{bare, located};

const MOST_ARGUMENTS: usize = 8;

/// `state = Type`, or nothing.
pub(crate) struct Arguments {
    state: Option<Type>,
}

impl Parse for Arguments {
    fn parse(input: ParseStream<'_>) -> Result<Self, Error> {
        if input.is_empty() {
            return Ok(Self { state: None });
        }
        let name: syn::Ident = input.parse()?;
        if name != "state" {
            return Err(Error::new(name.span(), "only `state = Type` is known"));
        }
        input.parse::<Token![=]>()?;
        let state = Some(input.parse()?);
        Ok(Self { state })
    }
}

/// The checks for `function`.
pub(crate) fn checks(function: &ItemFn, arguments: &Arguments) -> Result<TokenStream, Error> {
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        let why = "a handler is an `async fn`: add `async`";
        return Err(Error::new_spanned(signature.fn_token, why));
    }
    if let Some(parameter) = signature.generics.params.first() {
        let why = "`#[handler]` cannot check a generic function; remove it from this one";
        return Err(Error::new_spanned(parameter, why));
    }
    if signature.inputs.len() > MOST_ARGUMENTS {
        let why = "a handler has at most 8 arguments: put several into one extractor of your own";
        return Err(Error::new_spanned(&signature.inputs, why));
    }
    let types = types(function)?;
    let state = match &arguments.state {
        Some(state) => quote! { #state },
        None => match types.iter().find_map(|ty| state_of(ty)) {
            Some(state) => quote! { #state },
            None => quote! { () },
        },
    };
    let arguments = types.iter().enumerate().map(|(index, ty)| {
        let last = index + 1 == types.len();
        argument(index, ty, last, &state)
    });
    let output = output(&signature.output);
    let future = future(function, &types);
    Ok(quote! {
        #[doc(hidden)]
        #[allow(dead_code, unreachable_code, clippy::diverging_sub_expression)]
        const _: () = {
            #(#arguments)*
            #output
            #future
        };
    })
}

fn types(function: &ItemFn) -> Result<Vec<&Type>, Error> {
    let inputs = function.sig.inputs.iter();
    inputs
        .map(|argument| match argument {
            FnArg::Typed(argument) => Ok(&*argument.ty),
            FnArg::Receiver(receiver) => {
                let why = "`#[handler]` checks functions, not methods with `self`";
                Err(Error::new_spanned(receiver, why))
            }
        })
        .collect()
}

/// The `S` of `State<S>`.
fn state_of(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = bare(ty) else {
        return None;
    };
    let last = path.path.segments.last()?;
    if last.ident != "State" {
        return None;
    }
    let PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

fn argument(index: usize, ty: &Type, last: bool, state: &TokenStream) -> TokenStream {
    let span = located(ty);
    let name = format_ident!("argument_{index}", span = span);
    if last {
        return quote_spanned! {span=>
            fn #name<M>()
            where
                #ty: ::tidemill::FromEvent<#state, M> + ::core::marker::Send,
            {
            }
            fn last_argument() {
                #name()
            }
        };
    }
    quote_spanned! {span=>
        fn #name()
        where
            #ty: ::tidemill::FromEventParts<#state> + ::core::marker::Send,
        {
        }
    }
}

/// Nothing for `impl Trait`, which can be named nowhere else.
fn output(output: &ReturnType) -> TokenStream {
    let ReturnType::Type(_, ty) = output else {
        return TokenStream::new();
    };
    if matches!(&**ty, Type::ImplTrait(_)) {
        return TokenStream::new();
    }
    let span = located(ty);
    quote_spanned! {span=>
        fn output()
        where
            #ty: ::tidemill::IntoOutcome + ::core::marker::Send,
        {
        }
    }
}

fn future(function: &ItemFn, types: &[&Type]) -> TokenStream {
    let name = &function.sig.ident;
    let values = types.iter().map(|_| quote! { value() });
    let span = located(name);
    let call = quote_spanned! {span=> send(#name(#(#values),*)) };
    quote! {
        fn value<T>() -> T {
            loop {}
        }
        fn send<F: ::core::future::Future + ::core::marker::Send>(_: F) {}
        fn future() {
            #call
        }
    }
}
