//! Writes the implementation of `tidemill::Message`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt as _;
use syn::{Data, DeriveInput, Error, Field, Fields, LitStr, Member, Type};

use crate::attributes::{self, Attributes};
use crate::{bare, located};

/// The implementation for `input`, or the first thing that is wrong with it.
pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream, Error> {
    let attributes = attributes::read(input)?;
    if let Some(parameter) = input.generics.params.first() {
        let why = "a message has no generic parameters: its schema belongs to one event type; \
                   derive `Message` for a type of its own";
        return Err(Error::new_spanned(parameter, why));
    }
    if let Data::Union(union) = &input.data {
        let why = "a message is a struct or an enum";
        return Err(Error::new_spanned(union.union_token, why));
    }
    let key = match &attributes.key {
        Some(key) => key_body(input, key, &attributes)?,
        None => quote! { ::core::option::Option::None },
    };
    Ok(implementation(input, &attributes, &key))
}

fn implementation(input: &DeriveInput, attributes: &Attributes, key: &TokenStream) -> TokenStream {
    let Attributes {
        ty,
        topic,
        source,
        krate,
        ..
    } = attributes;
    let name = &input.ident;
    let source = source.as_ref().map(|source| {
        quote! {
            const SOURCE: ::core::option::Option<&'static str> =
                ::core::option::Option::Some(#source);
        }
    });
    // Spans of the type's name: a missing derive is then reported at the type.
    let span = located(name);
    let encode = quote_spanned! {span=> #krate::__private::encode_json::<#name>(self) };
    let decode = quote_spanned! {span=> #krate::__private::decode_json::<#name>(data) };
    let schema = quote_spanned! {span=> #krate::__private::schema_of::<#name>() };
    quote! {
        #[automatically_derived]
        impl #krate::Message for #name {
            const TYPE: &'static str = #ty;
            const TOPIC: &'static str = #topic;
            #source

            fn key(&self)
                -> ::core::option::Option<#krate::__private::Cow<'_, str>>
            {
                #key
            }

            fn encode(&self)
                -> ::core::result::Result<#krate::__private::Bytes, #krate::CodecError>
            {
                #encode
            }

            fn decode(data: &[u8]) -> ::core::result::Result<Self, #krate::CodecError> {
                #decode
            }

            fn schema() -> #krate::__private::Schema {
                #schema
            }
        }
    }
}

/// The body of `key()`: the text of the named field.
fn key_body(
    input: &DeriveInput,
    key: &LitStr,
    attributes: &Attributes,
) -> Result<TokenStream, Error> {
    let Data::Struct(data) = &input.data else {
        let why = "only a struct can name a field as its key; implement `Message` by hand for \
                   an enum with a key";
        return Err(Error::new(key.span(), why));
    };
    let Some((member, field)) = find(&data.fields, &key.value()) else {
        return Err(Error::new(key.span(), unknown_field(&data.fields, key)));
    };
    let krate = &attributes.krate;
    // The field's own span, so that a type without `Display` is reported there.
    let span = located(&field.ty);
    Ok(if is_option(&field.ty) {
        quote_spanned! {span=>
            self.#member.as_ref().map(|key| #krate::__private::key_text(key))
        }
    } else {
        quote_spanned! {span=>
            ::core::option::Option::Some(#krate::__private::key_text(&self.#member))
        }
    })
}

fn find<'a>(fields: &'a Fields, name: &str) -> Option<(Member, &'a Field)> {
    fields.iter().enumerate().find_map(|(index, field)| {
        let member = match &field.ident {
            Some(ident) if ident.unraw() == name => Member::Named(ident.clone()),
            None if name == index.to_string() => Member::Unnamed(index.into()),
            _ => return None,
        };
        Some((member, field))
    })
}

fn unknown_field(fields: &Fields, key: &LitStr) -> String {
    let names: Vec<String> = fields
        .iter()
        .enumerate()
        .map(|(index, field)| match &field.ident {
            Some(ident) => format!("`{ident}`"),
            None => format!("`{index}`"),
        })
        .collect();
    if names.is_empty() {
        return "this type has no field that could be the key".to_owned();
    }
    format!(
        "there is no field `{}`; the fields are {}",
        key.value(),
        names.join(", ")
    )
}

fn is_option(ty: &Type) -> bool {
    let Type::Path(path) = bare(ty) else {
        return false;
    };
    path.path
        .segments
        .last()
        .is_some_and(|segment| segment.ident == "Option")
}
