//! `/`, a page for people: files that need no other place, with a policy that lets a browser load
//! nothing from anywhere else and run nothing that an event brought along.
//!
//! The page knows the server by its public API alone, and this file may not know that.

use std::hash::Hasher as _;
use std::sync::{Arc, LazyLock};

use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};

use super::doors::Methods;
use super::openapi::Operation;
use super::openapi::types::AnyText;
use super::problem::{Kind, Problem};
use crate::app::App;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

struct File {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

macro_rules! files {
    ($($name:literal: $content_type:expr),* $(,)?) => {
        [$(File {
            name: $name,
            content_type: $content_type,
            text: include_str!(concat!("page/", $name)),
        }),*]
    };
}

const FILES: [File; 13] = files! {
    "index.html": HTML,
    "style.css": STYLE,
    "icon.svg": IMAGE,
    "main.js": SCRIPT,
    "api.js": SCRIPT,
    "dom.js": SCRIPT,
    "overview.js": SCRIPT,
    "tables.js": SCRIPT,
    "live.js": SCRIPT,
    "publish.js": SCRIPT,
    "handlers.js": SCRIPT,
    "clients.js": SCRIPT,
    "graph.js": SCRIPT,
};

/// Changes with every change of any file, so that no browser mixes two versions.
static TAG: LazyLock<String> = LazyLock::new(|| {
    #[allow(
        deprecated,
        reason = "the same in every process of a build, unlike random keys"
    )]
    let mut hasher = std::hash::SipHasher::new();
    FILES
        .iter()
        .for_each(|file| hasher.write(file.text.as_bytes()));
    format!("\"{:016x}\"", hasher.finish())
});

/// The methods of `/`.
pub(crate) fn methods() -> Methods {
    let whole = Operation::new("page", "A page for people");
    let whole = whole.answers_as::<AnyText>(200, "text/html", "The page");
    Methods::new().get(page, whole)
}

/// What the page is made of, at `/page/{name}`: nothing that programs would ask for, so it is in no
/// document.
pub(crate) fn parts() -> MethodRouter<Arc<App>> {
    get(part).fallback(|| std::future::ready(Problem::method("GET")))
}

/// The page.
async fn page(headers: HeaderMap) -> Result<Response, Problem> {
    file("index.html", &headers)
}

async fn part(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    file(&name, &headers)
}

fn file(name: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let found = FILES.iter().find(|file| file.name == name);
    let found = found.ok_or_else(|| {
        let detail = "the page has no such file; open / for the page";
        Problem::new(Kind::NotFound, detail)
    })?;
    let common = [
        (ETAG, TAG.as_str()),
        // Kept, and asked for again each time.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    let known = headers.get_all(IF_NONE_MATCH).iter();
    let mut known = known.filter_map(|value| value.to_str().ok());
    if known.any(|tags| tags.split(',').any(|tag| is_tag(tag.trim()))) {
        return Ok((StatusCode::NOT_MODIFIED, common).into_response());
    }
    Ok((common, [(CONTENT_TYPE, found.content_type)], found.text).into_response())
}

fn is_tag(tag: &str) -> bool {
    tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == TAG.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_names_nothing_outside() {
        let bytes: usize = FILES.iter().map(|file| file.text.len()).sum();
        assert!(bytes < 100_000, "{bytes}");
        for file in &FILES {
            let places = file.text.match_indices("http");
            for (at, _) in places {
                let place = &file.text[at..file.text.len().min(at + 40)];
                let ours = ["http://127.0.0.1:7575", "http://www.w3.org/", "https://"];
                let outside =
                    place.contains("://") && !ours[..2].iter().any(|o| place.starts_with(o));
                assert!(!outside, "{}: {place}", file.name);
            }
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!file.text.contains(word), "{} has {word}", file.name);
            }
        }
    }

    #[test]
    fn every_file_that_a_file_names_is_there() {
        for file in &FILES {
            let imports = file.text.split("from \"./").skip(1);
            let linked = file.text.split("\"/page/").skip(1);
            for rest in imports.chain(linked) {
                let name = rest.split('"').next().unwrap();
                assert!(
                    FILES.iter().any(|file| file.name == name),
                    "{}: {name}",
                    file.name
                );
            }
        }
    }
}
