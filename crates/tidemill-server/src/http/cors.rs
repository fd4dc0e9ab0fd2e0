//! Which web pages of other machines may use the doors (the Fetch standard's CORS protocol,
//! fetch.spec.whatwg.org). None, unless the server is told so.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::http::{HeaderValue, Method, Uri};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::request_id::REQUEST_ID;
use crate::limits::CORS_MAX_AGE;

/// Pages that may use the doors: those of some origins, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// None for all.
    origins: Option<Arc<[String]>>,
}

impl Cors {
    /// Whether pages of this origin may.
    pub(crate) fn allows(&self, origin: &HeaderValue) -> bool {
        let Some(origins) = &self.origins else {
            return true;
        };
        origins
            .iter()
            .any(|allowed| allowed.as_bytes() == origin.as_bytes())
    }

    /// What answers browsers that ask first, and marks answers as meant for these pages.
    pub(crate) fn layer(&self) -> CorsLayer {
        let cors = self.clone();
        let origin = match &self.origins {
            None => AllowOrigin::any(),
            Some(_) => AllowOrigin::predicate(move |origin, _| cors.allows(origin)),
        };
        CorsLayer::new()
            .allow_origin(origin)
            .allow_methods([
                Method::GET,
                Method::HEAD,
                Method::POST,
                Method::PATCH,
                Method::DELETE,
            ])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([REQUEST_ID, RETRY_AFTER, LOCATION])
            // A page of the internet asks for a server on its own machine or network.
            .allow_private_network(true)
            .max_age(CORS_MAX_AGE)
    }
}

impl FromStr for Cors {
    type Err = String;

    /// `*`, or origins with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            return Ok(Self { origins: None });
        }
        let origins: Result<Vec<String>, String> = text.split(',').map(origin).collect();
        Ok(Self {
            origins: Some(origins?.into()),
        })
    }
}

impl fmt::Display for Cors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origins {
            None => f.write_str("*"),
            Some(origins) => f.write_str(&origins.join(",")),
        }
    }
}

/// An origin as browsers write it: scheme, host and port, and nothing more.
fn origin(text: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "{:?} is no origin; write it as a browser does, such as https://shop.example or \
             http://10.0.0.7:8080, several with commas between them, or * for all",
            text.trim()
        )
    };
    let lower = text.trim().to_ascii_lowercase();
    let uri: Uri = lower.parse().map_err(|_| wrong())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong());
    };
    let plain = format!("{scheme}://{authority}");
    if plain != lower || authority.as_str().contains('@') || authority.host().is_empty() {
        return Err(wrong());
    }
    // Browsers leave out the port that goes without saying.
    let usual = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return Ok(plain),
    };
    Ok(plain.strip_suffix(usual).unwrap_or(&plain).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        let cors: Cors = "https://Shop.example, http://10.0.0.7:8080,https://a.example:443"
            .parse()
            .unwrap();
        for (origin, allowed) in [
            ("https://shop.example", true),
            ("http://10.0.0.7:8080", true),
            ("https://a.example", true),
            ("http://shop.example", false),
            ("https://shop.example:8443", false),
            ("https://shop.example.evil.example", false),
            ("https://evil.example/https://shop.example", false),
            ("null", false),
            ("", false),
        ] {
            let header = HeaderValue::from_str(origin).unwrap();
            assert_eq!(cors.allows(&header), allowed, "{origin}");
        }
        let all: Cors = "*".parse().unwrap();
        assert!(all.allows(&HeaderValue::from_static("null")));
        assert_eq!(all.to_string(), "*");
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "",
            "shop.example",
            "https://",
            "https://shop.example/",
            "https://shop.example/a",
            "https://a.example,",
            "https://a.example,*",
            "https://me@a.example",
            "null",
            "https://a b.example",
        ] {
            let error = text.parse::<Cors>().unwrap_err();
            assert!(error.contains("is no origin"), "{text}: {error}");
        }
    }
}
