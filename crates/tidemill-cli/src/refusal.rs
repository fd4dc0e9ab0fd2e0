//! What a server refuses, in the words of the command line: it speaks of calls and of members of
//! their bodies to whoever asks, and people here type commands and flags.
//!
//! This room may not know which command asks.

use std::fmt;

use http::StatusCode;

use crate::failure::Failure;
use crate::shell;

/// Every problem's type begins with it.
const URN: &str = "urn:tidemill:problem:";

/// What a server advises, by how it begins, and what is advised here instead.
const ADVICE: [(&str, &[(&str, &str)]); 8] = [
    ("GET /v1/topics", &TOPICS),
    ("create it with POST /v1/topics", &TOPICS),
    (
        "GET /v1/queues",
        &[("queue list", "names all"), ("queue create", "makes one")],
    ),
    ("GET /v1/groups", &[("group list", "names all")]),
    ("GET /v1/webhooks", &[("webhook list", "names all")]),
    ("PATCH /v1/webhooks", &[("webhook set", "changes it")]),
    (
        "POST and GET /v1/topics",
        &[("publish", "writes to it"), ("subscribe", "reads it")],
    ),
    (
        "POST /v1/queues",
        &[
            ("queue enqueue", "puts messages in"),
            ("queue dequeue", "takes them"),
        ],
    ),
];

const TOPICS: [(&str, &str); 2] = [("topic list", "names all"), ("topic create", "makes one")];

/// Members of bodies, and the flags that fill them.
const FLAGS: [(&str, &str); 23] = [
    // The example of one is an example of the other.
    (
        "\"headers\": {\"authorization\": ...}",
        "--header authorization=...",
    ),
    ("\"name\"", "the name"),
    ("\"url\"", "the URL"),
    ("\"topics\"", "--topic"),
    ("\"types\"", "--type"),
    ("\"headers\"", "--header"),
    ("\"attempts\"", "--attempts"),
    ("\"concurrency\"", "--concurrency"),
    ("timeout_ms", "--timeout"),
    ("retry_first_ms", "--retry-first"),
    ("retry_max_ms", "--retry-max"),
    ("overlap_ms", "--overlap"),
    ("retention_ms", "--keep-for"),
    ("retention_bytes", "--keep-bytes"),
    ("segment_ms", "--segment-for"),
    ("segment_bytes", "--segment-bytes"),
    ("compact_after_ms", "--compact-after"),
    ("compact_within_ms", "--compact-within"),
    ("tombstone_retention_ms", "--keep-tombstones"),
    ("batch_max_bytes", "--batch-max-bytes"),
    ("time_before_max_ms", "--time-before-max"),
    ("time_after_max_ms", "--time-after-max"),
    ("max_deliveries", "--max-deliveries"),
];

/// A text about members of a body, with the flags of the command line in their place.
pub(crate) fn in_flags(text: &str) -> String {
    let mut told = text.to_owned();
    // The longest first: one may be the end of another.
    let mut flags = FLAGS;
    flags.sort_by_key(|(member, _)| std::cmp::Reverse(member.len()));
    for (member, flag) in flags {
        told = told
            .replace(&format!("\"{member}\""), flag)
            .replace(member, flag);
    }
    told
}

/// A server's answer that it does not do what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// The last part of the problem's type; empty where it has none.
    kind: String,
    detail: String,
    /// It is told in words of the command line alone.
    own_words: bool,
}

impl Refusal {
    /// What a problem says; `server` are the options of a command that asks the same server.
    pub(crate) fn new(status: StatusCode, ty: &str, detail: String, server: &[String]) -> Self {
        let kind = ty.strip_prefix(URN).unwrap_or_default().to_owned();
        let advised = in_commands(&detail, server);
        let wrong = is_wrong_use(&kind);
        Self {
            own_words: wrong || advised.is_some(),
            detail: match advised {
                Some(advised) => advised,
                None if wrong || kind == "limit" => in_flags(&detail),
                None => detail,
            },
            status,
            kind,
        }
    }

    /// Whether the problem's type ends so.
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }

    /// What it says.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.own_words {
            true => f.write_str(&self.detail),
            false => write!(f, "{} (HTTP {})", self.detail, self.status.as_u16()),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match is_wrong_use(&refusal.kind) {
            true => Self::usage(refusal),
            false => Self::new(refusal),
        }
    }
}

/// What is invalid is so whatever the server holds: it was typed wrongly.
fn is_wrong_use(kind: &str) -> bool {
    kind.starts_with("invalid-")
}

/// The same with commands instead of calls, where the server advises some.
fn in_commands(detail: &str, server: &[String]) -> Option<String> {
    let (what, advice) = detail.split_once("; ")?;
    let known = ADVICE.iter().find(|(call, _)| advice.starts_with(call));
    let commands = known?.1.iter().map(|(command, does)| {
        let command = shell::tidemill(command, None, server);
        format!("`{command}` {does}")
    });
    let commands: Vec<_> = commands.collect();
    Some(format!("{what}; {}", commands.join(", and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: &str, detail: &str, server: &[String]) -> Refusal {
        let ty = format!("{URN}{kind}");
        Refusal::new(StatusCode::NOT_FOUND, &ty, detail.to_owned(), server)
    }

    #[test]
    fn calls_are_told_as_commands_that_ask_the_same_server() {
        let detail = "unknown queue q; GET /v1/queues lists those there are, and POST /v1/queues \
                      creates one";
        let text = "unknown queue q; `tidemill queue list` names all, and `tidemill queue create` \
                    makes one";
        assert_eq!(refused("unknown-queue", detail, &[]).to_string(), text);
        let server = ["--server".to_owned(), "http://h:1".to_owned()];
        let there = refused("unknown-queue", detail, &server).to_string();
        let list = "`tidemill queue list --server http://h:1` names all";
        assert!(there.contains(list), "{there}");
        let other = refused("stale-lease", "the lease is over; take it again", &[]);
        assert_eq!(
            other.to_string(),
            "the lease is over; take it again (HTTP 404)"
        );
    }

    #[test]
    fn what_is_invalid_is_wrong_use_and_names_flags() {
        let detail = "\"retry_first_ms\" is 20 ms, which is more than \"retry_max_ms\", 10 ms";
        let wrong = Failure::from(refused("invalid-webhook", detail, &[]));
        let text = "--retry-first is 20 ms, which is more than --retry-max, 10 ms";
        assert_eq!(wrong, Failure::usage(text));
        let bound = refused(
            "limit",
            "compact_within_ms is at least compact_after_ms",
            &[],
        );
        let text = "--compact-within is at least --compact-after (HTTP 404)";
        assert_eq!(Failure::from(bound), Failure::new(text));
        let both = in_flags("tombstone_retention_ms and retention_ms");
        assert_eq!(both, "--keep-tombstones and --keep-for");
    }
}
