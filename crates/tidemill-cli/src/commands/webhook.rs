//! `tidemill webhook`: has events of topics pushed to services that have only HTTP.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use tidemill_server::limits::{
    WEBHOOK_ATTEMPTS, WEBHOOK_CONCURRENCY, WEBHOOK_OVERLAP_MS, WEBHOOK_RETRY_FIRST_MS,
    WEBHOOK_RETRY_MAX_MS, WEBHOOK_TIMEOUT_MS,
};

use crate::failure::Failure;
use crate::limits::SECRET_FILE_MAX_BYTES;
use crate::listing::{Lines, Listing, print_json, print_json_lines};
use crate::output::{all_the_same, say};
use crate::target::webhooks::{Changes, NewWebhook, Rotated, Tested, Webhook as Shown};
use crate::target::{ServerOptions, Target};
use crate::values;

/// Push events of topics to services that have only HTTP
#[derive(Subcommand)]
#[command(after_help = "Examples:\n  \
    tidemill webhook create shop https://shop.example/events --topic orders --type 'order.*'\n  \
    tidemill webhook test shop\n  \
    tidemill webhook list --json\n  \
    tidemill webhook set shop --url https://shop.example/new --attempts 5\n  \
    tidemill webhook pause shop\n  \
    tidemill webhook rotate shop --overlap 24h\n  \
    tidemill webhook delete shop")]
pub(crate) enum Webhook {
    Create(Create),
    Set(Set),
    List(List),
    /// Show a webhook and how it is doing
    #[command(after_help = "Example:\n  tidemill webhook show shop")]
    Show(One),
    Delete(Delete),
    /// Send nothing more, until it is resumed; what is published meanwhile waits
    #[command(after_help = "Example:\n  tidemill webhook pause shop")]
    Pause(One),
    /// Send again, from where it was
    #[command(after_help = "Example:\n  tidemill webhook resume shop")]
    Resume(One),
    Rotate(Rotate),
    /// Send a test event, once; fails where the endpoint does not take it
    #[command(after_help = "Example:\n  tidemill webhook test shop")]
    Test(One),
}

/// Where a webhook begins.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// With the oldest event kept
    Beginning,
    /// With what is published from now on
    End,
}

/// Send the events of topics to an URL, from now on
///
/// Prints the secret that events are signed with: it is shown this once.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill webhook create shop https://shop.example/events --topic orders --type 'order.*'\n  \
    tidemill webhook create mail http://127.0.0.1:8080/ --topic users --header 'x-key=7'")]
pub(crate) struct Create {
    /// The webhook's name
    name: String,
    /// Where events are sent to: http:// or https://
    url: String,
    /// A topic; may be given again
    #[arg(long = "topic", short, value_name = "TOPIC", required = true)]
    topics: Vec<String>,
    /// A file with the secret, whsec_ and 24 to 64 bytes in base64 [default: a new one]
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Where it begins in its topics
    #[arg(long, value_name = "PLACE", default_value = "end")]
    from: From,
    #[command(flatten)]
    how: How,
    /// Print the webhook as JSON, with its secret
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: ServerOptions,
}

/// What may be said of a webhook when it is made, and later.
#[derive(Args)]
struct How {
    /// Only events of this type, or of this pattern of types; may be given again
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// A header that is sent with every event, as NAME=VALUE; may be given again
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = values::header)]
    headers: Vec<(String, String)>,
    /// How long an answer may take, 100ms to 30s [a new one has: 15s]
    #[arg(long, value_name = "TIME", value_parser = time(WEBHOOK_TIMEOUT_MS))]
    timeout: Option<Duration>,
    /// How often an event is tried before it is a dead letter, up to 100 [a new one has: 15]
    #[arg(long, value_name = "N", value_parser = count(WEBHOOK_ATTEMPTS))]
    attempts: Option<u32>,
    /// The wait behind the first failure, 10ms to 10m, which doubles with each [a new one has: 1s]
    #[arg(long, value_name = "TIME", value_parser = time(WEBHOOK_RETRY_FIRST_MS))]
    retry_first: Option<Duration>,
    /// The longest such wait, 10ms to 1d [a new one has: 1h]
    #[arg(long, value_name = "TIME", value_parser = time(WEBHOOK_RETRY_MAX_MS))]
    retry_max: Option<Duration>,
    /// How many events are sent at once, up to 16 [a new one has: 4]
    #[arg(long, value_name = "N", value_parser = count(WEBHOOK_CONCURRENCY))]
    concurrency: Option<usize>,
}

/// A length of time between the least and the most milliseconds of these.
fn time((least, _, most): (u64, u64, u64)) -> impl TypedValueParser<Value = Duration> {
    values::time_within(Duration::from_millis(least), Duration::from_millis(most))
}

/// A number between the least and the most of these.
fn count<T>((least, _, most): (T, T, T)) -> impl TypedValueParser<Value = T>
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    values::within(least, most)
}

impl How {
    /// With the URL; what was not given is not named.
    fn changes<'a>(&'a self, url: Option<&'a str>, no_headers: bool) -> Changes<'a> {
        let headers = self.headers.iter();
        let headers: BTreeMap<_, _> = headers.map(|(n, v)| (n.as_str(), v.as_str())).collect();
        Changes {
            url,
            types: Some(&*self.types).filter(|types| !types.is_empty()),
            headers: (no_headers || !headers.is_empty()).then_some(headers),
            timeout_ms: self.timeout.map(millis),
            attempts: self.attempts,
            retry_first_ms: self.retry_first.map(millis),
            retry_max_ms: self.retry_max.map(millis),
            concurrency: self.concurrency,
        }
    }
}

/// Change a webhook; what is not named stays, and so does its place
///
/// Its topics are what it was created with. Given types and headers take the place of all that it
/// has: --type '**' is every type.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill webhook set shop --url https://shop.example/new\n  \
    tidemill webhook set shop --attempts 5 --retry-max 10m --type 'order.*'")]
pub(crate) struct Set {
    /// The webhook
    name: String,
    /// Where events are sent to: http:// or https://
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Send no headers of its own any longer
    #[arg(long, conflicts_with = "headers")]
    no_headers: bool,
    #[command(flatten)]
    how: How,
    /// Print the webhook as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: ServerOptions,
}

/// List all webhooks
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill webhook list --json")]
pub(crate) struct List {
    /// Print a line of JSON for each
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: ServerOptions,
}

/// Delete a webhook with its group; its dead letters stay
#[derive(Args)]
#[command(after_help = "Example:\n  tidemill webhook delete shop")]
pub(crate) struct Delete {
    /// The webhook
    name: String,
    #[command(flatten)]
    target: ServerOptions,
}

/// One webhook, and how the answer is shown.
#[derive(Args)]
pub(crate) struct One {
    /// The webhook
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: ServerOptions,
}

/// Give a webhook a new secret, and print it; the one before signs, too, for a while
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    tidemill webhook rotate shop\n  \
    tidemill webhook rotate shop --overlap 1h --secret-file new-secret")]
pub(crate) struct Rotate {
    /// The webhook
    name: String,
    /// How long the one before signs, up to seven days; 0s ends it at once [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = overlap())]
    overlap: Option<Duration>,
    /// A file with the new secret [default: one is made]
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: ServerOptions,
}

/// How long two secrets sign.
fn overlap() -> impl TypedValueParser<Value = Duration> {
    let (_, most) = WEBHOOK_OVERLAP_MS;
    values::up_to(Duration::from_millis(most), values::duration)
}

impl Webhook {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let target = self.options().open().await?;
        let done = self.ask(&target).await;
        target.close().await;
        done
    }

    fn options(&self) -> &ServerOptions {
        match self {
            Self::Create(Create { target, .. })
            | Self::Set(Set { target, .. })
            | Self::List(List { target, .. })
            | Self::Show(One { target, .. })
            | Self::Delete(Delete { target, .. })
            | Self::Pause(One { target, .. })
            | Self::Resume(One { target, .. })
            | Self::Rotate(Rotate { target, .. })
            | Self::Test(One { target, .. }) => target,
        }
    }

    async fn ask(&self, target: &Target) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.ask(target).await,
            Self::Set(set) => set.ask(target).await,
            Self::List(list) => {
                let webhooks = target.webhooks().await?;
                match list.json {
                    true => print_json_lines(&webhooks),
                    false => table(&webhooks).print(),
                }
            }
            Self::Show(show) => {
                let webhook = target.webhook(&show.name).await?;
                match show.json {
                    true => print_json(&webhook),
                    false => lines(&webhook).print(),
                }
            }
            Self::Delete(delete) => {
                target.delete_webhook(&delete.name).await?;
                let told = say(format_args!("deleted {}", delete.name));
                all_the_same(told, format_args!("{} is deleted", delete.name))
            }
            Self::Pause(pause) => turn(target, &pause.name, "pause", pause.json).await,
            Self::Resume(resume) => turn(target, &resume.name, "resume", resume.json).await,
            Self::Rotate(rotate) => rotate.ask(target).await,
            Self::Test(test) => {
                let tested = target.test_webhook(&test.name).await?;
                if test.json {
                    print_json(&tested)?;
                }
                outcome(&tested, test.json)
            }
        }
    }
}

/// Pauses or resumes one.
async fn turn(target: &Target, name: &str, what: &str, json: bool) -> Result<(), Failure> {
    let webhook = target.turn_webhook(name, what).await?;
    let told = match json {
        true => print_json(&webhook),
        false => say(format_args!("{what}d {name}")),
    };
    all_the_same(told, format_args!("{name} is {what}d"))
}

impl Create {
    async fn ask(&self, target: &Target) -> Result<(), Failure> {
        let new = NewWebhook {
            name: &self.name,
            topics: &self.topics,
            secret: secret(self.secret_file.as_deref())?,
            start: match self.from {
                From::Beginning => "beginning",
                From::End => "end",
            },
            how: self.how.changes(Some(&self.url), false),
        };
        let webhook = target.create_webhook(&new).await?;
        let secret = webhook.secret.as_deref().unwrap_or_default();
        let told = match self.json {
            true => print_json(&webhook),
            false => say(format_args!("created {}\nsecret {secret}", webhook.name)),
        };
        all_the_same(told, format_args!("{} is created", webhook.name))
    }
}

impl Set {
    async fn ask(&self, target: &Target) -> Result<(), Failure> {
        let changes = self.how.changes(self.url.as_deref(), self.no_headers);
        if changes == Changes::default() {
            return Err(Failure::usage(
                "nothing is to be changed; name --url, --type, --header, --no-headers, --timeout, \
                 --attempts, --retry-first, --retry-max or --concurrency",
            ));
        }
        let webhook = target.alter_webhook(&self.name, &changes).await?;
        let told = match self.json {
            true => print_json(&webhook),
            false => lines(&webhook).print(),
        };
        all_the_same(told, format_args!("{} is changed", webhook.name))
    }
}

impl Rotate {
    async fn ask(&self, target: &Target) -> Result<(), Failure> {
        let secret = secret(self.secret_file.as_deref())?;
        let rotated = target
            .rotate_webhook(&self.name, secret, self.overlap)
            .await?;
        let until = signing(&rotated);
        let told = match self.json {
            true => print_json(&rotated),
            false => say(format_args!("secret {}\n{until}", rotated.secret)),
        };
        all_the_same(told, format_args!("{} has a new secret", rotated.name))
    }
}

/// Which secrets sign now, for people.
fn signing(rotated: &Rotated) -> String {
    let mut text = match (&rotated.old_secret_until, rotated.signing) {
        (Some(until), 2) => format!("both secrets sign until {until}"),
        (Some(until), count) => format!("{count} secrets sign, the older ones until {until}"),
        (None, _) => "the old secret is over".to_owned(),
    };
    if rotated.oldest_ended {
        text.push_str("\nthe oldest secret is over before its time: no more sign at once");
    }
    text
}

/// The secret that a file has.
fn secret(file: Option<&Path>) -> Result<Option<String>, Failure> {
    let Some(file) = file else { return Ok(None) };
    let mut text = String::new();
    let read = File::open(file).and_then(|open| {
        open.take(SECRET_FILE_MAX_BYTES + 1)
            .read_to_string(&mut text)
    });
    let read =
        read.map_err(|why| Failure::new(format!("cannot read {}: {why}", file.display())))?;
    if read as u64 > SECRET_FILE_MAX_BYTES {
        return Err(Failure::new(format!(
            "{} has more than {SECRET_FILE_MAX_BYTES} bytes; name a file with a secret alone",
            file.display()
        )));
    }
    Ok(Some(text.trim().to_owned()))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn outcome(tested: &Tested, told: bool) -> Result<(), Failure> {
    if !tested.delivered {
        let why = tested
            .error
            .as_deref()
            .unwrap_or("the endpoint did not take it");
        return Err(Failure::new(why));
    }
    match told {
        true => Ok(()),
        false => say(format_args!(
            "taken with {} after {} ms",
            tested.status.unwrap_or_default(),
            tested.took_ms
        )),
    }
}

fn lag(webhook: &Shown) -> String {
    webhook
        .lag
        .map_or_else(|| "-".to_owned(), |lag| lag.to_string())
}

fn state(webhook: &Shown) -> &'static str {
    // A time that cannot be read says nothing; as texts they cannot be compared, since one has as
    // many digits of a second as it needs.
    let time = |text: &str| text.parse::<Timestamp>().ok();
    let failed = webhook.last_error.as_ref().and_then(|it| time(&it.time));
    let taken = webhook.last_success.as_deref().and_then(time);
    match &webhook.paused {
        Some(_) => "paused",
        None if webhook.trouble.is_some() || failed > taken => "failing",
        None => "works",
    }
}

fn table(webhooks: &[Shown]) -> Listing {
    let heads = [
        "webhook",
        "url",
        "topics",
        "state",
        "lag>",
        "delivered>",
        "failed>",
    ];
    let mut listing = Listing::new(&heads);
    for webhook in webhooks {
        listing.row(&[
            webhook.name.clone(),
            webhook.url.clone(),
            webhook.topics.join(" "),
            state(webhook).to_owned(),
            lag(webhook),
            webhook.delivered.to_string(),
            webhook.failed.to_string(),
        ]);
    }
    listing
}

/// All of a webhook, for people.
fn lines(webhook: &Shown) -> Lines {
    let mut lines = Lines::default();
    lines.add("webhook", &webhook.name);
    lines.add("url", &webhook.url);
    lines.add("topics", webhook.topics.join(" "));
    if !webhook.types.is_empty() {
        lines.add("types", webhook.types.join(" "));
    }
    if !webhook.headers.is_empty() {
        lines.add("headers", webhook.headers.join(" "));
    }
    lines.add("timeout", values::shown_ms(webhook.timeout_ms));
    lines.add("attempts", webhook.attempts.to_string());
    let (first, max) = (
        values::shown_ms(webhook.retry_first_ms),
        values::shown_ms(webhook.retry_max_ms),
    );
    lines.add("retry", format!("after {first}, doubled up to {max}"));
    lines.add("concurrency", webhook.concurrency.to_string());
    lines.add("group", &webhook.group);
    lines.add("state", state(webhook));
    if let Some(paused) = &webhook.paused {
        lines.add("paused", format!("{}: {}", paused.since, paused.reason));
    }
    lines.add("lag", lag(webhook));
    lines.add("delivered", webhook.delivered.to_string());
    lines.add("failed", webhook.failed.to_string());
    lines.add("dead letters", webhook.dead_lettered.to_string());
    if let Some(time) = &webhook.last_success {
        lines.add("last success", time);
    }
    if let Some(last) = &webhook.last_error {
        lines.add("last error", format!("{}: {}", last.time, last.error));
    }
    if let Some(trouble) = &webhook.trouble {
        lines.add("trouble", format!("{}: {}", trouble.time, trouble.error));
    }
    if let Some(until) = &webhook.old_secret_until {
        lines.add("old secret", format!("signs, too, until {until}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(last_error: Option<&str>, last_success: Option<&str>) -> Shown {
        let error = last_error.map(|time| serde_json::json!({"time": time, "error": "no"}));
        serde_json::from_value(serde_json::json!({
            "name": "shop", "url": "http://localhost/", "topics": ["orders"], "types": [],
            "headers": [], "timeout_ms": 1000, "attempts": 3, "retry_first_ms": 10,
            "retry_max_ms": 20, "concurrency": 1, "created": "2026-01-02T03:04:05Z",
            "group": "webhook.shop", "in_flight": 0, "delivered": 0, "failed": 0,
            "dead_lettered": 0, "last_success": last_success, "last_error": error,
        }))
        .unwrap()
    }

    #[test]
    fn it_fails_whose_last_attempt_did_and_that_is_in_trouble() {
        let (whole, half) = ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.5Z");
        for (failed, taken, want) in [
            (None, None, "works"),
            (Some(whole), None, "failing"),
            (None, Some(whole), "works"),
            // As texts they stand the other way round.
            (Some(whole), Some(half), "works"),
            (Some(half), Some(whole), "failing"),
        ] {
            assert_eq!(state(&shown(failed, taken)), want, "{failed:?} {taken:?}");
        }
        let settings = lines(&shown(None, None)).text();
        for line in ["timeout       1s", "attempts      3", "concurrency   1"] {
            assert!(settings.contains(line), "{settings}");
        }
        assert!(
            settings.contains("after 10ms, doubled up to 20ms"),
            "{settings}"
        );
        let mut one = shown(Some(whole), Some(half));
        let (time, error) = (half.to_owned(), "no topic".to_owned());
        one.trouble = Some(crate::target::webhooks::LastError { time, error });
        assert_eq!(state(&one), "failing");
        assert!(lines(&one).text().contains("no topic"));
    }
}
