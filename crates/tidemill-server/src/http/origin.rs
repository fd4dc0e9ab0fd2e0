//! Web pages of strangers may not use the doors: nobody has to log in, and a browser carries any
//! page's requests (and WebSockets) to a server on its own machine.
//!
//! A browser names the page's origin in the header `Origin`. Programs send none, or the address
//! that they connect to.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::ORIGIN;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::{Kind, Problem};

/// The middleware that turns requests of strangers' pages away.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    if from_this_machine(request.headers()) {
        return next.run(request).await;
    }
    let detail = "a web page of another machine may not use this server, which asks nobody to log \
                  in; allow it with --insecure";
    Problem::new(Kind::ForeignOrigin, detail).into_response()
}

/// Whether no origin is named, or one on this machine.
fn from_this_machine(headers: &HeaderMap) -> bool {
    headers.get_all(ORIGIN).iter().all(|origin| {
        let text = std::str::from_utf8(origin.as_bytes()).unwrap_or("");
        let authority = text.split_once("://").map_or("", |(_, rest)| rest);
        is_loopback(host_of(authority))
    })
}

/// `host` of `host:port`, without the brackets of an IPv6 address.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => authority.split(':').next().unwrap_or(""),
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    if host == "localhost" || host.ends_with(".localhost") {
        return true;
    }
    host.parse()
        .is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_machine_are_taken() {
        for (origin, taken) in [
            ("http://localhost:3000", true),
            ("https://app.localhost", true),
            ("http://127.0.0.1:7575", true),
            ("http://[::1]:8080", true),
            ("http://example.com", false),
            ("http://localhost.example.com", false),
            ("http://127.0.0.1.example.com", false),
            ("http://10.0.0.7", false),
            ("null", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ORIGIN, origin.parse().unwrap());
            assert_eq!(from_this_machine(&headers), taken, "{origin}");
        }
        assert!(from_this_machine(&HeaderMap::new()));
    }
}
