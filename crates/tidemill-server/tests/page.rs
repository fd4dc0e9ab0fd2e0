//! The page for people as HTTP serves it: its files with their types, tags for caches, and the
//! policy that keeps everything out that is not this server's. What it does in a browser is in
//! `browser.rs`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod support;

use support::Running;

#[tokio::test]
async fn the_pages_files_are_served_with_their_types_and_a_strict_policy() {
    let server = Running::start().await;
    let client = server.client();
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/page/index.html", "text/html; charset=utf-8"),
        ("/page/style.css", "text/css; charset=utf-8"),
        ("/page/main.js", "text/javascript; charset=utf-8"),
        ("/page/graph.js", "text/javascript; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
    ] {
        let file = client.get(path).await;
        assert_eq!(file.status, 200, "{path}");
        assert_eq!(file.header("content-type"), content_type, "{path}");
        assert_eq!(file.header("x-content-type-options"), "nosniff");
        let policy = file.header("content-security-policy");
        let rules: Vec<&str> = policy.split("; ").collect();
        assert!(rules.contains(&"default-src 'none'") && rules.contains(&"script-src 'self'"));
        assert!(rules.contains(&"frame-ancestors 'none'"), "{policy}");
        assert!(
            !policy.contains("unsafe") && !policy.contains('*'),
            "{policy}"
        );
    }
    for path in ["/page/none.js", "/page/..%2fpage.rs", "/page/"] {
        assert_eq!(client.get(path).await.problem(404), "not-found", "{path}");
    }
    for path in ["/", "/page/main.js"] {
        let posted = client.post(path, "application/json", "1").await;
        assert_eq!(posted.problem(405), "method-not-allowed");
    }
}

#[tokio::test]
async fn a_file_that_a_browser_has_is_not_sent_again() {
    let server = Running::start().await;
    let client = server.client();
    let first = client.get("/page/style.css").await;
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with('"') && tag.len() > 10, "{tag}");
    assert_eq!(first.header("cache-control"), "no-cache");
    for known in [
        tag.clone(),
        format!("W/{tag}"),
        format!("\"x\", {tag}"),
        "*".to_owned(),
    ] {
        let again = client
            .send("GET", "/page/style.css", &[("if-none-match", &known)], "")
            .await;
        assert_eq!(again.status, 304, "{known}");
        assert_eq!(
            (again.text.as_str(), again.header("etag")),
            ("", tag.as_str())
        );
    }
    let other = client
        .send("GET", "/page/style.css", &[("if-none-match", "\"x\"")], "")
        .await;
    assert_eq!((other.status.as_u16(), other.text), (200, first.text));
}
