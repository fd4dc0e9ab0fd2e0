//! Web pages of strangers may not use the doors: nobody has to log in, and a browser carries any
//! page's requests (and WebSockets) to a server on its own machine.
//!
//! A browser names the page's origin in the header `Origin`. Programs send none, or the address
//! that they connect to. Where it sends none, or takes a stranger's page for one of this machine
//! since the name of that page's server leads here by now (DNS rebinding), it still says in `Host`
//! by which name it came. So that has to be a name of this machine too.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::cors::Cors;
use super::problem::{Kind, Problem};

/// The middleware that turns requests of strangers' pages away.
pub(crate) async fn guard(
    State(cors): State<Option<Cors>>,
    request: Request,
    next: Next,
) -> Response {
    if !origin_is_here(request.headers(), cors.as_ref()) {
        let detail = "a web page of another machine may not use this server, which asks nobody to \
                      log in; allow its origin with --cors, or all with --insecure";
        return Problem::new(Kind::ForeignOrigin, detail).into_response();
    }
    if !host_is_here(request.uri(), request.headers()) {
        let detail = "this server answers to localhost and loopback addresses alone, since it asks \
                      nobody to log in; send one of these as Host, or allow others with --insecure";
        return Problem::new(Kind::ForeignHost, detail).into_response();
    }
    next.run(request).await
}

/// Whether no origin is named, or one on this machine, or one that is allowed.
fn origin_is_here(headers: &HeaderMap, cors: Option<&Cors>) -> bool {
    headers.get_all(ORIGIN).iter().all(|origin| {
        if cors.is_some_and(|cors| cors.allows(origin)) {
            return true;
        }
        let text = std::str::from_utf8(origin.as_bytes()).unwrap_or("");
        let authority = text.split_once("://").map_or("", |(_, rest)| rest);
        is_here(authority)
    })
}

/// Whether a host is named, and each time one of this machine.
fn host_is_here(uri: &Uri, headers: &HeaderMap) -> bool {
    let hosts = headers.get_all(HOST).iter();
    let hosts = hosts.map(|host| std::str::from_utf8(host.as_bytes()).unwrap_or(""));
    let mut named = uri
        .authority()
        .map(Authority::as_str)
        .into_iter()
        .chain(hosts)
        .peekable();
    named.peek().is_some() && named.all(is_here)
}

/// Whether `host` or `host:port` is on this machine.
fn is_here(authority: &str) -> bool {
    let parsed = authority.parse::<Authority>();
    parsed.is_ok_and(|authority| {
        let host = authority.host();
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        is_loopback(bare.unwrap_or(host))
    })
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
            assert_eq!(origin_is_here(&headers, None), taken, "{origin}");
        }
        assert!(origin_is_here(&HeaderMap::new(), None));
    }

    #[test]
    fn only_names_and_addresses_of_this_machine_are_answered_to() {
        for (host, taken) in [
            ("localhost", true),
            ("LocalHost:7575", true),
            ("shop.localhost:80", true),
            ("127.0.0.1", true),
            ("127.9.8.7:7575", true),
            ("[::1]:7575", true),
            ("[::ffff:127.0.0.1]", true),
            ("rebound.example.com:7575", false),
            ("localhost.example.com", false),
            ("127.0.0.1.example.com", false),
            ("127.0.0.1:80@example.com", false),
            ("localhost@example.com", false),
            ("0.0.0.0:7575", false),
            ("10.0.0.7:7575", false),
            ("[::2]", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            let here = Uri::from_static("/event");
            assert_eq!(host_is_here(&here, &headers), taken, "{host}");
            // Whoever names two has to be right twice.
            headers.append(HOST, "localhost".parse().unwrap());
            assert_eq!(host_is_here(&here, &headers), taken, "{host}, localhost");
            let absolute = Uri::from_static("http://example.com/event");
            assert!(!host_is_here(&absolute, &headers), "{host}");
        }
        assert!(!host_is_here(
            &Uri::from_static("/event"),
            &HeaderMap::new()
        ));
    }
}
