//! Writes the implementation of `tidemill::Emission` for an enum of messages.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Data, DeriveInput, Error, Fields, Ident, Type, Variant};

use crate::located;

/// The implementation for `input`, or the first thing that is wrong with it.
pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream, Error> {
    let Data::Enum(data) = &input.data else {
        let why = "only an enum is one of several messages; for several at once return a tuple \
                   or a `Vec` in `Emit`";
        return Err(Error::new_spanned(&input.ident, why));
    };
    if let Some(parameter) = input.generics.params.first() {
        let why = "an enum of messages has no generic parameters";
        return Err(Error::new_spanned(parameter, why));
    }
    let variants = data
        .variants
        .iter()
        .map(|variant| Ok((&variant.ident, message_of(variant)?)))
        .collect::<Result<Vec<_>, Error>>()?;
    let outputs = variants.iter().map(|(_, ty)| outputs(ty));
    let arms = variants.iter().map(|(variant, ty)| arm(variant, ty));
    let name = &input.ident;
    Ok(quote! {
        #[automatically_derived]
        impl ::tidemill::Emission for #name {
            fn outputs(outputs: &mut ::tidemill::outcome::Outputs) {
                #(#outputs)*
            }

            fn emit(
                self,
                stage: &mut ::tidemill::outcome::Stage<'_>,
            ) -> ::core::result::Result<(), ::tidemill::Fail> {
                match self {
                    #(#arms)*
                }
            }
        }
    })
}

/// The type in a variant that holds exactly one.
fn message_of(variant: &Variant) -> Result<&Type, Error> {
    let mut fields = match &variant.fields {
        Fields::Unnamed(fields) => fields.unnamed.iter(),
        Fields::Named(_) | Fields::Unit => return Err(not_one(variant)),
    };
    match (fields.next(), fields.next()) {
        (Some(field), None) => Ok(&field.ty),
        _ => Err(not_one(variant)),
    }
}

fn not_one(variant: &Variant) -> Error {
    let name = &variant.ident;
    let why = format!("each variant holds one message, as in `{name}(OrderPaid)`");
    Error::new_spanned(variant, why)
}

fn outputs(ty: &Type) -> TokenStream {
    let span = located(ty);
    quote_spanned! {span=> <#ty as ::tidemill::Emission>::outputs(outputs); }
}

fn arm(variant: &Ident, ty: &Type) -> TokenStream {
    let span = located(ty);
    quote_spanned! {span=>
        Self::#variant(message) => <#ty as ::tidemill::Emission>::emit(message, stage),
    }
}
