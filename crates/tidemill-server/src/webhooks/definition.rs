//! What a webhook is made of, and which of it is refused. Pure.
//!
//! This room may not know how anything is sent, or where definitions are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use axum::http::uri::Uri;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tidemill_core::{EventType, GroupName, Pattern, TopicName};

use super::sign::Secret;
use crate::limits::{
    WEBHOOK_ATTEMPTS, WEBHOOK_CONCURRENCY, WEBHOOK_HEADER_MAX_BYTES, WEBHOOK_HEADERS_MAX,
    WEBHOOK_NAME_MAX_BYTES, WEBHOOK_RETRY_FIRST_MS, WEBHOOK_RETRY_MAX_MS, WEBHOOK_SECRETS_MAX,
    WEBHOOK_TIMEOUT_MS, WEBHOOK_TOPICS_MAX, WEBHOOK_TYPES_MAX, WEBHOOK_URL_MAX_BYTES,
};

/// Headers that are the delivery's own, or the connection's.
const RESERVED: [&str; 9] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// What the group of every webhook begins with, and no other reader's.
pub(crate) const GROUP_PREFIX: &str = "webhook.";

/// A secret that was replaced, and signs, too, for a while.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OldSecret {
    pub(crate) secret: Secret,
    pub(crate) until: Timestamp,
}

/// Why and since when nothing is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paused {
    pub(crate) reason: String,
    pub(crate) since: Timestamp,
}

/// Headers that are sent with every event. Their values may be as secret as a password: only
/// their names are shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Headers(pub(crate) BTreeMap<String, String>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A webhook as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Definition {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) topics: Vec<TopicName>,
    /// Types or patterns over them; all types where there are none.
    pub(crate) types: Vec<String>,
    pub(crate) headers: Headers,
    pub(crate) timeout_ms: u64,
    pub(crate) attempts: u32,
    pub(crate) retry_first_ms: u64,
    pub(crate) retry_max_ms: u64,
    pub(crate) concurrency: usize,
    pub(crate) created: Timestamp,
    pub(crate) secret: Secret,
    pub(crate) old_secrets: Vec<OldSecret>,
    pub(crate) paused: Option<Paused>,
}

/// What may be set, and changed later; what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) url: Option<String>,
    pub(crate) types: Option<Vec<String>>,
    pub(crate) headers: Option<Headers>,
    pub(crate) timeout_ms: Option<u64>,
    pub(crate) attempts: Option<u32>,
    pub(crate) retry_first_ms: Option<u64>,
    pub(crate) retry_max_ms: Option<u64>,
    pub(crate) concurrency: Option<usize>,
}

impl Changes {
    /// Whether nothing is named.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Definition {
    /// A new one, with the usual settings where `how` names none.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub(crate) fn new(
        name: String,
        topics: Vec<TopicName>,
        how: Changes,
        secret: Secret,
        now: Timestamp,
    ) -> Result<Self, String> {
        let mut topics = topics;
        topics.sort_unstable();
        topics.dedup();
        if how.url.is_none() {
            return Err("name the \"url\" that events are sent to".to_owned());
        }
        let mut definition = Self {
            name,
            url: String::new(),
            topics,
            types: Vec::new(),
            headers: Headers::default(),
            timeout_ms: WEBHOOK_TIMEOUT_MS.1,
            attempts: WEBHOOK_ATTEMPTS.1,
            retry_first_ms: WEBHOOK_RETRY_FIRST_MS.1,
            retry_max_ms: WEBHOOK_RETRY_MAX_MS.1,
            concurrency: WEBHOOK_CONCURRENCY.1,
            created: now,
            secret,
            old_secrets: Vec::new(),
            paused: None,
        };
        definition.change(how)?;
        Ok(definition)
    }

    /// Changes it, as a whole or not at all.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub(crate) fn change(&mut self, how: Changes) -> Result<(), String> {
        let mut new = self.clone();
        if let Some(headers) = how.headers {
            new.headers = checked_headers(headers)?;
        }
        new.url = how.url.unwrap_or(new.url);
        new.types = how.types.unwrap_or(new.types);
        new.timeout_ms = how.timeout_ms.unwrap_or(new.timeout_ms);
        new.attempts = how.attempts.unwrap_or(new.attempts);
        new.retry_first_ms = how.retry_first_ms.unwrap_or(new.retry_first_ms);
        new.retry_max_ms = how.retry_max_ms.unwrap_or(new.retry_max_ms);
        new.concurrency = how.concurrency.unwrap_or(new.concurrency);
        new.check()?;
        *self = new;
        Ok(())
    }

    /// Whether it can be worked with: what is made, changed, or read from a file is checked so.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_name(&self.name)?;
        check_url(&self.url)?;
        if self.topics.is_empty() || self.topics.len() > WEBHOOK_TOPICS_MAX {
            return Err(format!("name 1 to {WEBHOOK_TOPICS_MAX} topics"));
        }
        if self.topics.iter().collect::<BTreeSet<_>>().len() < self.topics.len() {
            return Err("name each topic once".to_owned());
        }
        check_types(&self.types)?;
        checked_headers(self.headers.clone())?;
        if self.old_secrets.len() >= WEBHOOK_SECRETS_MAX {
            return Err(format!("at most {WEBHOOK_SECRETS_MAX} secrets sign"));
        }
        let (least, _, most) = WEBHOOK_ATTEMPTS;
        let attempts = (least.into(), 0, most.into());
        let (least, _, most) = WEBHOOK_CONCURRENCY;
        let concurrency = (least as u64, 0, most as u64);
        for (name, value, (min, _, max)) in [
            ("timeout_ms", self.timeout_ms, WEBHOOK_TIMEOUT_MS),
            ("attempts", self.attempts.into(), attempts),
            (
                "retry_first_ms",
                self.retry_first_ms,
                WEBHOOK_RETRY_FIRST_MS,
            ),
            ("retry_max_ms", self.retry_max_ms, WEBHOOK_RETRY_MAX_MS),
            ("concurrency", self.concurrency as u64, concurrency),
        ] {
            if !(min..=max).contains(&value) {
                return Err(format!("\"{name}\" is a whole number from {min} to {max}"));
            }
        }
        let (first, max) = (self.retry_first_ms, self.retry_max_ms);
        if first > max {
            return Err(format!(
                "\"retry_first_ms\" is {first} ms, which is more than \"retry_max_ms\", {max} ms; \
                 lower the one or raise the other"
            ));
        }
        Ok(())
    }

    /// The consumer group that it is.
    pub(crate) fn group(&self) -> GroupName {
        GroupName::new(format!("{GROUP_PREFIX}{}", self.name))
            .expect("every name of a webhook is part of a group's name")
    }

    /// Whether events of this type are sent.
    pub(crate) fn wants(&self, ty: &EventType) -> bool {
        let mut patterns = self.types.iter().filter_map(|text| Pattern::new(text).ok());
        self.types.is_empty() || patterns.any(|pattern| pattern.matches(ty.as_str()))
    }

    /// How long an attempt may take.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The secrets that sign now, the newest first.
    pub(crate) fn secrets(&self, now: Timestamp) -> impl Iterator<Item = &Secret> {
        let old = self.old_secrets.iter().filter(move |old| now < old.until);
        std::iter::once(&self.secret).chain(old.map(|old| &old.secret))
    }

    /// Until when an older secret signs, too.
    pub(crate) fn old_secret_until(&self, now: Timestamp) -> Option<Timestamp> {
        let old = self.old_secrets.iter().map(|old| old.until);
        old.filter(|until| now < *until).max()
    }

    /// Takes a new secret; the one before signs, too, for so long. Of more than may sign the
    /// oldest ends at once: answers whether it did.
    pub(crate) fn rotate(&mut self, secret: Secret, overlap: Duration, now: Timestamp) -> bool {
        let until = now.saturating_add(overlap).unwrap_or(Timestamp::MAX);
        let secret = std::mem::replace(&mut self.secret, secret);
        self.old_secrets.insert(0, OldSecret { secret, until });
        self.old_secrets.retain(|old| now < old.until);
        let too_many = self.old_secrets.len() >= WEBHOOK_SECRETS_MAX;
        self.old_secrets.truncate(WEBHOOK_SECRETS_MAX - 1);
        too_many
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let fits = (1..=WEBHOOK_NAME_MAX_BYTES).contains(&name.len());
    match fits && name.bytes().all(plain) && !name.starts_with('.') {
        true => Ok(()),
        false => Err(format!(
            "a webhook's name has 1 to {WEBHOOK_NAME_MAX_BYTES} letters, digits, dashes, \
             underscores and dots, and no dot comes first"
        )),
    }
}

fn check_types(types: &[String]) -> Result<(), String> {
    if types.len() > WEBHOOK_TYPES_MAX {
        return Err(format!("name at most {WEBHOOK_TYPES_MAX} types"));
    }
    for text in types {
        Pattern::new(text).map_err(|why| format!("the type {text:?} is refused: {why}"))?;
    }
    Ok(())
}

/// Checks where events are to go: `http://` or `https://`, a host, and nobody's password.
fn check_url(url: &str) -> Result<(), String> {
    const SHAPE: &str = "an URL is such as https://shop.example/events";
    if url.len() > WEBHOOK_URL_MAX_BYTES {
        return Err(format!("an URL has at most {WEBHOOK_URL_MAX_BYTES} bytes"));
    }
    if url.contains('#') {
        return Err("the URL has a fragment, which is never sent; leave it out".to_owned());
    }
    let parsed: Uri = url
        .parse()
        .map_err(|why| format!("the URL cannot be read ({why}); {SHAPE}"))?;
    if !matches!(parsed.scheme_str(), Some("http" | "https")) {
        return Err(format!(
            "events are sent to http:// and https:// alone; {SHAPE}"
        ));
    }
    let authority = parsed
        .authority()
        .ok_or_else(|| format!("the URL has no host; {SHAPE}"))?;
    if authority.as_str().contains('@') {
        return Err(
            "the URL has credentials; send them with \"headers\": {\"authorization\": ...}"
                .to_owned(),
        );
    }
    let port = authority
        .as_str()
        .strip_prefix(authority.host())
        .unwrap_or("");
    let has_port = port.is_empty() || authority.port_u16().is_some_and(|port| port > 0);
    if !has_port || !is_host(authority.host()) {
        return Err(format!(
            "{authority} is no host with a port from 1 to 65535; {SHAPE}"
        ));
    }
    Ok(())
}

/// An address, or a name that could be looked up.
fn is_host(host: &str) -> bool {
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (1..=63).contains(&label.len()) && label.bytes().all(plain) && !label.starts_with('-')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    let numbers = |name: &str| name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    match numbers(name) {
        true => name.parse::<std::net::Ipv4Addr>().is_ok(),
        false => (1..=253).contains(&name.len()) && name.split('.').all(label),
    }
}

/// The headers under the names that they are sent with.
fn checked_headers(Headers(headers): Headers) -> Result<Headers, String> {
    if headers.len() > WEBHOOK_HEADERS_MAX {
        return Err(format!("name at most {WEBHOOK_HEADERS_MAX} headers"));
    }
    let mut checked = BTreeMap::new();
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        if RESERVED.contains(&name.as_str()) || name.starts_with("webhook-") {
            return Err(format!(
                "the header {name} is the delivery's own; leave it out"
            ));
        }
        let wrong = |why: &str| format!("the header {name} is refused: {why}");
        HeaderName::try_from(name.as_str()).map_err(|_| wrong("it is no name of a header"))?;
        let printable = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !printable || value.len() > WEBHOOK_HEADER_MAX_BYTES {
            let most = WEBHOOK_HEADER_MAX_BYTES;
            return Err(wrong(&format!(
                "a value is at most {most} printable characters of ASCII"
            )));
        }
        if checked.insert(name.clone(), value).is_some() {
            return Err(wrong("it is named twice"));
        }
    }
    Ok(Headers(checked))
}

/// The headers as they are sent.
pub(crate) fn header_map(headers: &Headers) -> HeaderMap {
    let pair = |(name, value): (&String, &String)| {
        let name = HeaderName::try_from(name.as_str()).ok()?;
        let mut value = HeaderValue::try_from(value.as_str()).ok()?;
        value.set_sensitive(true);
        Some((name, value))
    };
    headers.0.iter().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    fn made(how: Changes) -> Result<Definition, String> {
        let topics = vec![TopicName::new("orders").unwrap()];
        let secret = Secret::random().unwrap();
        Definition::new("shop".to_owned(), topics, how, secret, now())
    }

    fn at(url: &str) -> Changes {
        Changes {
            url: Some(url.to_owned()),
            ..Changes::default()
        }
    }

    #[test]
    fn only_urls_that_something_can_be_sent_to_are_taken() {
        for good in [
            "http://127.0.0.1:8080/hook",
            "https://shop.example/a?b=c",
            "http://localhost",
            "https://[::1]:8443/x",
            "https://a_b.example.",
        ] {
            assert!(made(at(good)).is_ok(), "{good}");
        }
        for (bad, named) in [
            ("ftp://shop.example/", "http://"),
            ("shop.example/hook", "read"),
            ("/hook", "http://"),
            ("file:///etc/passwd", "URL"),
            ("https://me:secret@shop.example/", "authorization"),
            ("https://me@shop.example/", "authorization"),
            ("https://shop.example/#top", "fragment"),
            ("https://shop.example:0/", "no host"),
            ("https://shop.example:99999/", "no host"),
            ("https://shop.example:/", "no host"),
            ("https://-a.example/", "no host"),
            ("https://a..b/", "no host"),
            ("https://1.2.3/", "no host"),
            ("https:///x", "URL"),
            ("https://ex ample/", "read"),
            ("", "URL"),
        ] {
            let why = made(at(bad)).unwrap_err();
            assert!(why.contains(named), "{bad}: {why}");
        }
    }

    #[test]
    fn what_is_out_of_its_bounds_is_named_and_changes_nothing() {
        let url = "http://localhost/";
        let base = made(at(url)).unwrap();
        let header =
            |name: &str, value: &str| Some(Headers([(name.to_owned(), value.to_owned())].into()));
        type Bad = (fn(&mut Changes), &'static str);
        let bad: [Bad; 7] = [
            (|how| how.timeout_ms = Some(99), "timeout_ms"),
            (|how| how.timeout_ms = Some(30_001), "timeout_ms"),
            (|how| how.retry_first_ms = Some(1), "retry_first_ms"),
            (|how| how.retry_max_ms = Some(u64::MAX), "retry_max_ms"),
            (|how| how.retry_max_ms = Some(999), "retry_first_ms"),
            (|how| how.concurrency = Some(17), "concurrency"),
            (|how| how.types = Some(vec!["a***".to_owned()]), "a***"),
        ];
        let mut tried = Vec::new();
        for (set, named) in bad {
            let mut how = Changes::default();
            set(&mut how);
            tried.push((how, named));
        }
        for (name, value, named) in [
            ("Host", "x", "host"),
            ("Webhook-Id", "x", "webhook-id"),
            ("a b", "x", "a b"),
            ("x-a", "1\r\nx-b: 2", "x-a"),
        ] {
            let headers = header(name, value);
            tried.push((
                Changes {
                    headers,
                    ..Changes::default()
                },
                named,
            ));
        }
        for (mut how, named) in tried {
            how.attempts = Some(3);
            let mut changed = base.clone();
            let why = changed.change(how).unwrap_err();
            assert!(why.contains(named), "{why}");
            assert_eq!(changed.attempts, base.attempts);
        }
        for bad in [
            "",
            ".a",
            "a/b",
            "a b",
            &"a".repeat(WEBHOOK_NAME_MAX_BYTES + 1),
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_secret_is_in_its_debug_form() {
        let mut how = at("http://localhost/");
        how.headers = Some(Headers(
            [("authorization".to_owned(), "Bearer 7".to_owned())].into(),
        ));
        let shown = format!("{how:?}");
        assert!(
            shown.contains("authorization") && !shown.contains("Bearer"),
            "{shown}"
        );
        let one = made(how).unwrap();
        let shown = format!("{one:?} {one:#?}");
        assert!(
            shown.contains("authorization") && !shown.contains("Bearer"),
            "{shown}"
        );
        let secret = one.secret.text();
        assert!(!shown.contains(&secret) && !shown.contains(&secret["whsec_".len()..]));
    }

    #[test]
    fn types_are_patterns_and_none_means_all() {
        let mut one = made(at("http://localhost/")).unwrap();
        let ty = |text: &str| EventType::new(text).unwrap();
        assert!(one.wants(&ty("anything.at.all")));
        one.types = vec!["order.*".to_owned(), "paid".to_owned()];
        assert!(one.wants(&ty("order.made")) && one.wants(&ty("paid")));
        assert!(!one.wants(&ty("order.made.late")));
    }

    #[test]
    fn a_replaced_secret_signs_for_its_time_and_only_a_few_do() {
        let mut one = made(at("http://localhost/")).unwrap();
        let first = one.secret.clone();
        let hour = Duration::from_secs(3600);
        one.rotate(Secret::random().unwrap(), hour, now());
        let later = |seconds| now().saturating_add(Duration::from_secs(seconds)).unwrap();
        assert_eq!(one.secrets(later(3599)).count(), 2);
        assert_eq!(one.secrets(later(3599)).nth(1), Some(&first));
        assert_eq!(one.secrets(later(3600)).count(), 1);
        assert_eq!(one.old_secret_until(now()), Some(later(3600)));
        for others in 2..WEBHOOK_SECRETS_MAX + 2 {
            let ended = one.rotate(Secret::random().unwrap(), hour, now());
            assert_eq!(ended, others >= WEBHOOK_SECRETS_MAX, "{others}");
        }
        assert_eq!(one.secrets(now()).count(), WEBHOOK_SECRETS_MAX);
        one.rotate(Secret::random().unwrap(), Duration::ZERO, later(3601));
        assert_eq!(one.secrets(later(3601)).count(), 1);
    }
}
