//! Reads `#[message(...)]` and checks each value where it stands, so that a wrong one is
//! underlined in the editor.

use proc_macro2::Span;
use syn::{DeriveInput, Error, LitStr, Path};

/// The arguments of `#[message(...)]`, each with the literal it came from.
pub(crate) struct Attributes {
    pub(crate) ty: LitStr,
    pub(crate) topic: LitStr,
    pub(crate) key: Option<LitStr>,
    pub(crate) source: Option<LitStr>,
    pub(crate) krate: Path,
}

const EXAMPLE: &str = "#[message(type = \"order_paid\", topic = \"orders\", key = \"order_id\")]";

/// Reads the attributes of `input`.
pub(crate) fn read(input: &DeriveInput) -> Result<Attributes, Error> {
    let mut ty = None;
    let mut topic = None;
    let mut key = None;
    let mut source = None;
    let mut krate = None;
    for attribute in input.attrs.iter().filter(|a| a.path().is_ident("message")) {
        attribute.parse_nested_meta(|meta| {
            let slot = match meta.path.get_ident().map(ToString::to_string).as_deref() {
                Some("type") => &mut ty,
                Some("topic") => &mut topic,
                Some("key") => &mut key,
                Some("source") => &mut source,
                Some("crate") => &mut krate,
                _ => {
                    let known = "unknown argument: `type`, `topic`, `key`, `source` and `crate` \
                                 are known";
                    return Err(meta.error(known));
                }
            };
            let value: LitStr = meta.value()?.parse()?;
            if slot.replace(value).is_some() {
                return Err(meta.error("given twice: keep one of them"));
            }
            Ok(())
        })?;
    }
    let ty = ty.ok_or_else(|| missing(input, "type", "what happened, as in \"order_paid\""))?;
    let topic = topic.ok_or_else(|| missing(input, "topic", "where it is published"))?;
    check(&ty, "an event type", text_allowed)?;
    check(&topic, "a topic", topic_allowed)?;
    if let Some(source) = &source {
        check(source, "a source", source_allowed)?;
    }
    let krate = match krate {
        Some(path) => path.parse()?,
        None => syn::parse_str("::tidemill")?,
    };
    Ok(Attributes {
        ty,
        topic,
        key,
        source,
        krate,
    })
}

fn missing(input: &DeriveInput, what: &str, meaning: &str) -> Error {
    let span = match input.attrs.iter().find(|a| a.path().is_ident("message")) {
        Some(attribute) => syn::spanned::Spanned::span(attribute.path()),
        None => Span::call_site(),
    };
    let text = format!(
        "`#[derive(Message)]` needs `{what} = \"...\"` ({meaning}); for example:\n{EXAMPLE}"
    );
    Error::new(span, text)
}

fn check(
    literal: &LitStr,
    what: &str,
    rule: fn(&str) -> Result<(), &'static str>,
) -> Result<(), Error> {
    rule(&literal.value()).map_err(|why| Error::new(literal.span(), format!("{what} {why}")))
}

fn text_allowed(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("may not be empty");
    }
    if text.len() > 4096 || text.chars().any(char::is_control) {
        return Err("has at most 4096 bytes and no control characters");
    }
    if text.contains('*') {
        return Err("has no `*`: patterns go to `Router::on_pattern`");
    }
    Ok(())
}

fn topic_allowed(text: &str) -> Result<(), &'static str> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if text.is_empty() || text.len() > 249 || matches!(text, "." | "..") {
        return Err("has 1 to 249 characters and is neither `.` nor `..`");
    }
    if !text.bytes().all(legal) {
        return Err("has only the characters a-z A-Z 0-9 . _ -");
    }
    Ok(())
}

fn source_allowed(text: &str) -> Result<(), &'static str> {
    text_allowed(text)?;
    if text.contains([' ', '"', '<', '>', '\\', '^', '`', '{', '|', '}']) {
        return Err("is a URI reference: percent-encode blanks and \" < > \\ ^ ` { | }");
    }
    Ok(())
}
