//! The options of `serve`: flags over environment over file over defaults.
//!
//! Two types: [`Options`] is what was typed or written, each option defined once for all three
//! places, and [`Settings`] is what follows from it, checked and with the defaults filled in.

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use tidemill::broker::PRIVATE_DIR;
use tidemill::broker::limits::{
    CLASSIC_SESSION_MAX, CONSUMER_HEARTBEAT_INTERVAL_MIN, TOPIC_PARTITIONS_MAX,
};
use tidemill::core::limits::{MEMORY_DEFAULT_BYTES, MEMORY_MIN_BYTES};
use tidemill_server::limits::KAFKA_REQUEST_MAX_BYTES;
use tidemill_server::{AclConfig, Advertised, Cors, KafkaConfig, RateLimit, SaslConfig, TlsConfig};

use crate::failure::Failure;
use crate::values;

/// Defines every option once: as a flag with its environment variable, and as a key of the file.
macro_rules! options {
    ($(
        $(#[doc = $doc:literal])*
        $name:ident: $type:ty = $flag:literal, $env:literal, $form:literal
            $(, $extra:ident = $value:expr)*;
    )*) => {
        /// The options as typed, or as written in the file; each may be missing.
        #[derive(Args, Clone, Debug, Default, Deserialize, PartialEq)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct Options {
            $(
                $(#[doc = $doc])*
                #[arg(long = $flag, env = $env, value_name = $form $(, $extra = $value)*)]
                pub(crate) $name: Option<$type>,
            )*
        }

        impl Options {
            /// Fills what is missing here from `other`.
            pub(crate) fn or(self, other: Self) -> Self {
                Self { $($name: self.$name.or(other.$name),)* }
            }

            /// The flags of those that are given.
            fn given(&self) -> Vec<&'static str> {
                let all = [$(($flag, self.$name.is_some()),)*];
                all.into_iter().filter_map(|(flag, given)| given.then_some(flag)).collect()
            }
        }
    };
}

options! {
    /// Folder of the data; made if it is not there [default: ./tidemill-data]
    data: PathBuf = "data", "TIDEMILL_DATA", "DIR";
    /// Address of HTTP and Socket.IO [default: 127.0.0.1:7575]
    http: Address = "http", "TIDEMILL_HTTP", "ADDR";
    /// Address for clients of Kafka, or off; 127.0.0.1 is also [::1] [default: 127.0.0.1:9092]
    kafka: Door = "kafka", "TIDEMILL_KAFKA", "ADDR";
    /// Where clients of Kafka are told to connect to, as HOST:PORT [default: the address by which
    /// each came]
    kafka_advertise: Host = "kafka-advertise", "TIDEMILL_KAFKA_ADVERTISE", "ADDR";
    /// Whether a topic is created when a client of Kafka asks for it [default: as
    /// --auto-create-topics]
    kafka_auto_create: bool = "kafka-auto-create", "TIDEMILL_KAFKA_AUTO_CREATE", "BOOL";
    /// Partitions of such a topic, and of one whose creator leaves the number open [default: as
    /// --default-partitions]
    kafka_default_partitions: u32 = "kafka-default-partitions",
        "TIDEMILL_KAFKA_DEFAULT_PARTITIONS", "N", value_parser = values::number::<u32>;
    /// Number of this only node of the cluster that clients of Kafka see [default: 1]
    kafka_node_id: i32 = "kafka-node-id", "TIDEMILL_KAFKA_NODE_ID", "N",
        value_parser = values::number::<i32>;
    /// Largest record batch that clients of Kafka may send, such as 4MiB, or in bytes [default:
    /// 1048588]
    kafka_message_max_bytes: Size = "kafka-message-max-bytes",
        "TIDEMILL_KAFKA_MESSAGE_MAX_BYTES", "SIZE";
    /// Shortest session timeout that members of Kafka's groups may ask for, such as 10s, or in
    /// milliseconds [default: 6000]
    kafka_group_min_session_timeout_ms: Millis = "kafka-group-min-session-timeout-ms",
        "TIDEMILL_KAFKA_GROUP_MIN_SESSION_TIMEOUT_MS", "TIME";
    /// How often members of Kafka's consumer groups (KIP-848) are told to be heard of, such as 3s,
    /// or in milliseconds [default: 5000]
    kafka_group_consumer_heartbeat_interval_ms: Millis =
        "kafka-group-consumer-heartbeat-interval-ms",
        "TIDEMILL_KAFKA_GROUP_CONSUMER_HEARTBEAT_INTERVAL_MS", "TIME";
    /// How long a member of such a group may be silent, such as 1m, or in milliseconds [default:
    /// 45000]
    kafka_group_consumer_session_timeout_ms: Millis = "kafka-group-consumer-session-timeout-ms",
        "TIDEMILL_KAFKA_GROUP_CONSUMER_SESSION_TIMEOUT_MS", "TIME";
    /// Whether clients of Kafka have to log in as users (`tidemill user`): off, required, or
    /// cleartext, which is required and takes passwords of PLAIN from other machines without TLS
    /// too [default: off]
    kafka_sasl: Login = "kafka-sasl", "TIDEMILL_KAFKA_SASL", "HOW";
    /// Which clients of Kafka may do what: off (everybody everything), or as rules of `tidemill
    /// acl` have it, where what no rule is about is open to everybody, or closed [default: off]
    kafka_acls: Acls = "kafka-acls", "TIDEMILL_KAFKA_ACLS", "HOW";
    /// A user who may do everything, whatever the rules say; may be given several times, or as
    /// names with ; between them. Who did not log in is ANONYMOUS [default: none]
    kafka_super_user: Vec<String> = "kafka-super-user", "TIDEMILL_KAFKA_SUPER_USER", "NAME",
        value_delimiter = ';';
    /// Speak TLS with clients of Kafka: the server's certificate and those that vouch for it, in
    /// PEM; it is read again when it changes [default: none]
    kafka_tls_cert: PathBuf = "kafka-tls-cert", "TIDEMILL_KAFKA_TLS_CERT", "FILE";
    /// The private key of that certificate, in PEM [default: none]
    kafka_tls_key: PathBuf = "kafka-tls-key", "TIDEMILL_KAFKA_TLS_KEY", "FILE";
    /// Listen where other machines can reach it, although nobody has to log in [default: false]
    insecure: bool = "insecure", "TIDEMILL_INSECURE", "BOOL",
        num_args = 0..=1, default_missing_value = "true", require_equals = true;
    /// When an event counts as kept: every_commit (synced), os (written; a power cut may lose
    /// it), or a time such as 50ms between syncs [default: every_commit]
    flush: Flush = "flush", "TIDEMILL_FLUSH", "POLICY";
    /// Memory for all that is on its way: what is not in its files yet, what waits, what is read
    /// and not settled, and what clients have not taken; a number of bytes, or such as 64MiB or
    /// 2GiB; one publish has at most 3/64 of it [default: 512MiB]
    memory: Size = "memory", "TIDEMILL_MEMORY", "SIZE";
    /// Largest data of one event, such as 4MiB, or in bytes; 3/64 of the memory at most [default:
    /// 16777216]
    event_max_bytes: Size = "event-max-bytes", "TIDEMILL_EVENT_MAX_BYTES", "SIZE";
    /// Whether a topic is created by its first use [default: true]
    auto_create_topics: bool = "auto-create-topics", "TIDEMILL_AUTO_CREATE_TOPICS", "BOOL";
    /// Partitions of a topic that is created by its first use [default: 1]
    default_partitions: u32 = "default-partitions", "TIDEMILL_DEFAULT_PARTITIONS", "N",
        value_parser = values::number::<u32>;
    /// Read closed segments again at so many bytes a second, such as 10MiB, and check them, so that
    /// damage is known before it is met; 0 for never [default: 0]
    scrub_bytes_per_second: Size = "scrub-bytes-per-second", "TIDEMILL_SCRUB_BYTES_PER_SECOND",
        "SIZE";
    /// Folder in which clients may let backups be taken while the server runs, each under a name
    /// of its own [default: none, and then they cannot]
    backups: PathBuf = "backups", "TIDEMILL_BACKUPS", "DIR";
    /// Origins whose web pages may use the doors, such as https://shop.example, with commas between
    /// them, or * for all [default: those of this machine]
    cors: Pages = "cors", "TIDEMILL_CORS", "ORIGINS";
    /// How many requests one client address may make, such as 1000/s or 600/m; more are answered
    /// with 429 [default: as many as it likes]
    rate_limit: Rate = "rate-limit", "TIDEMILL_RATE_LIMIT", "RATE";
}

/// Web pages that may use the doors, as typed or written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Pages(pub(crate) Cors);

impl FromStr for Pages {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl TryFrom<String> for Pages {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// How often an address may ask, as typed or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Rate(pub(crate) RateLimit);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Where a door listens, as typed or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Address(pub(crate) SocketAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        values::address(text).map(Self)
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Where a door listens that need not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Door(pub(crate) Option<SocketAddr>);

impl FromStr for Door {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            address => values::address(address).map(|address| Self(Some(address))),
        }
    }
}

impl TryFrom<String> for Door {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Whether clients of Kafka have to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Login {
    /// Nobody has to.
    Off,
    /// Everybody has to.
    Required,
    /// Everybody has to, and passwords may travel where others can read them.
    Cleartext,
}

impl FromStr for Login {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "required" => Ok(Self::Required),
            "cleartext" => Ok(Self::Cleartext),
            _ => Err(format!("{text:?} is none of off, required and cleartext")),
        }
    }
}

impl TryFrom<String> for Login {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Whether rules say who may do what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Acls {
    /// There are none: everybody may do everything.
    Off,
    /// There are, and what none is about is open to everybody.
    Open,
    /// There are, and what none is about is closed to everybody.
    Closed,
}

impl FromStr for Acls {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "open" => Ok(Self::Open),
            "closed" => Ok(Self::Closed),
            _ => Err(format!("{text:?} is none of off, open and closed")),
        }
    }
}

impl TryFrom<String> for Acls {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A name or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Host(pub(crate) Advertised);

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let why = || format!("{text:?} is no HOST:PORT such as kafka.example.org:9092");
        let (host, port) = text.rsplit_once(':').ok_or_else(why)?;
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        // An address of IPv6 stands in brackets, as its colons are not those of a port.
        let named = !host.is_empty() && host.chars().all(legal);
        let addressed = bare.is_some() && host.parse::<Ipv6Addr>().is_ok();
        let port = port.parse().ok().filter(|port| *port > 0);
        match port.filter(|_| named || addressed) {
            Some(port) => Ok(Self(Advertised {
                host: host.to_owned(),
                port,
            })),
            None => Err(why()),
        }
    }
}

impl TryFrom<String> for Host {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// When an event counts as kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Flush {
    /// When its group is synced.
    EveryCommit,
    /// When it is written; synced at this interval.
    Interval(Duration),
    /// When it is written; the system syncs when it likes.
    Os,
}

impl FromStr for Flush {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "every_commit" => Ok(Self::EveryCommit),
            "os" => Ok(Self::Os),
            time => values::positive_duration(time)
                .map(Self::Interval)
                .map_err(|_| format!("{text:?} is none of every_commit, os or a time like 50ms")),
        }
    }
}

impl TryFrom<String> for Flush {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// So many bytes; in a file a number, or a text as on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub(crate) struct Size(pub(crate) usize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        values::size(text).map(Self)
    }
}

/// How a file says so many bytes.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a number of bytes such as 67108864, \"64MiB\" or \"2GiB\""
)]
enum Written {
    Number(usize),
    Text(String),
}

impl TryFrom<Written> for Size {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse(),
        }
    }
}

/// A length of time; in a file a number of milliseconds, or a text as on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenTime")]
pub(crate) struct Millis(pub(crate) Duration);

impl FromStr for Millis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        values::milliseconds(text).map(Self)
    }
}

/// How a file says a length of time.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a number of milliseconds such as 6000, or a time such as \"6s\""
)]
enum WrittenTime {
    Number(u64),
    Text(String),
}

impl TryFrom<WrittenTime> for Millis {
    type Error = String;

    fn try_from(written: WrittenTime) -> Result<Self, String> {
        match written {
            WrittenTime::Number(ms) => Ok(Self(Duration::from_millis(ms))),
            WrittenTime::Text(text) => text.parse(),
        }
    }
}

/// What `serve` runs with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) data: PathBuf,
    pub(crate) http: SocketAddr,
    pub(crate) kafka: Option<KafkaConfig>,
    pub(crate) insecure: bool,
    pub(crate) flush: Flush,
    pub(crate) memory: usize,
    pub(crate) event_max_bytes: usize,
    pub(crate) auto_create_topics: bool,
    pub(crate) default_partitions: u32,
    pub(crate) scrub_bytes_per_second: u64,
    pub(crate) backups: Option<PathBuf>,
    pub(crate) cors: Option<Cors>,
    pub(crate) rate_limit: Option<RateLimit>,
    /// The flags of what is given and has no effect.
    pub(crate) in_vain: Vec<&'static str>,
}

impl Settings {
    /// What follows from the options of the command line and environment, and of `file`.
    ///
    /// # Errors
    /// [`Failure::Usage`] when the file cannot be read or says nonsense, or a value is out of its
    /// bounds.
    pub(crate) fn new(typed: Options, file: Option<&Path>) -> Result<Self, Failure> {
        let written = file.map(read).transpose()?.unwrap_or_default();
        let options = typed.or(written);
        let partitions = options.default_partitions.unwrap_or(1);
        if !(1..=TOPIC_PARTITIONS_MAX).contains(&partitions) {
            let text =
                format!("--default-partitions must lie between 1 and {TOPIC_PARTITIONS_MAX}");
            return Err(Failure::usage(text));
        }
        let memory = options.memory.map_or(MEMORY_DEFAULT_BYTES, |size| size.0);
        if memory < MEMORY_MIN_BYTES {
            let least = values::shown_bytes(MEMORY_MIN_BYTES as u64);
            let text = format!("--memory must be at least {least} ({MEMORY_MIN_BYTES} bytes)");
            return Err(Failure::usage(text));
        }
        let most = EVENT_MAX_BYTES.min(memory / 64 * 3);
        let max = options.event_max_bytes.map_or(most, |size| size.0);
        if max == 0 || max > most {
            let text = format!(
                "--event-max-bytes must lie between 1 and {most}, which is 3/64 of --memory or 16 \
                 MiB"
            );
            return Err(Failure::usage(text));
        }
        let auto_create_topics = options.auto_create_topics.unwrap_or(true);
        let kafka = kafka(&options, auto_create_topics, partitions)?;
        let mut in_vain = options.given();
        in_vain.retain(|flag| kafka.is_none() && flag.starts_with("kafka-"));
        Ok(Self {
            in_vain,
            kafka,
            data: data(&options),
            http: options
                .http
                .map_or(SocketAddr::from(([127, 0, 0, 1], 7575)), |http| http.0),
            insecure: options.insecure.unwrap_or(false),
            flush: options.flush.unwrap_or(Flush::EveryCommit),
            memory,
            event_max_bytes: max,
            auto_create_topics,
            default_partitions: partitions,
            scrub_bytes_per_second: options.scrub_bytes_per_second.map_or(0, |of| of.0 as u64),
            backups: options.backups,
            cors: options.cors.map(|pages| pages.0),
            rate_limit: options.rate_limit.map(|rate| rate.0),
        })
    }
}

/// The door for clients of Kafka; `None` where it is off.
fn kafka(
    options: &Options,
    auto_create: bool,
    partitions: u32,
) -> Result<Option<KafkaConfig>, Failure> {
    let default_partitions = options.kafka_default_partitions.unwrap_or(partitions);
    if !(1..=TOPIC_PARTITIONS_MAX).contains(&default_partitions) {
        let text =
            format!("--kafka-default-partitions must lie between 1 and {TOPIC_PARTITIONS_MAX}");
        return Err(Failure::usage(text));
    }
    let default = KafkaConfig::default();
    let message_max_bytes = options.kafka_message_max_bytes;
    let message_max_bytes = message_max_bytes.map_or(default.message_max_bytes, |size| size.0);
    if !(1..=KAFKA_REQUEST_MAX_BYTES).contains(&message_max_bytes) {
        let text =
            format!("--kafka-message-max-bytes must lie between 1 and {KAFKA_REQUEST_MAX_BYTES}");
        return Err(Failure::usage(text));
    }
    let session_min = options.kafka_group_min_session_timeout_ms;
    let session_min = session_min.map_or(default.session_min, |time| time.0);
    if !(SESSION_MIN..=CLASSIC_SESSION_MAX).contains(&session_min) {
        let text = format!(
            "--kafka-group-min-session-timeout-ms must lie between 1 and {}",
            CLASSIC_SESSION_MAX.as_millis()
        );
        return Err(Failure::usage(text));
    }
    let (consumer_heartbeat_interval, consumer_session_timeout) = consumers(options, &default)?;
    let node_id = options.kafka_node_id.unwrap_or(default.node_id);
    if node_id < 0 {
        return Err(Failure::usage("--kafka-node-id must be 0 or more"));
    }
    let listen = match options.kafka {
        Some(Door(None)) => return Ok(None),
        Some(Door(Some(listen))) => listen,
        None if cfg!(feature = "kafka") => default.listen,
        None => return Ok(None),
    };
    Ok(Some(KafkaConfig {
        listen,
        advertise: options.kafka_advertise.clone().map(|host| host.0),
        auto_create: options.kafka_auto_create.unwrap_or(auto_create),
        default_partitions,
        node_id,
        message_max_bytes,
        session_min,
        consumer_heartbeat_interval,
        consumer_session_timeout,
        log_dir: log_dir(&data(options)),
        sasl: sasl(options),
        acls: acls(options)?,
        tls: tls(options)?,
    }))
}

/// How often members of consumer groups are to be heard of, and how long one may be silent.
fn consumers(options: &Options, default: &KafkaConfig) -> Result<(Duration, Duration), Failure> {
    let every = options.kafka_group_consumer_heartbeat_interval_ms;
    let every = every.map_or(default.consumer_heartbeat_interval, |time| time.0);
    let silent = options.kafka_group_consumer_session_timeout_ms;
    let silent = silent.map_or(default.consumer_session_timeout, |time| time.0);
    if every < CONSUMER_HEARTBEAT_INTERVAL_MIN || silent <= every || silent > CLASSIC_SESSION_MAX {
        return Err(Failure::usage(format!(
            "--kafka-group-consumer-heartbeat-interval-ms must be at least {} and below \
             --kafka-group-consumer-session-timeout-ms, which must be at most {}",
            CONSUMER_HEARTBEAT_INTERVAL_MIN.as_millis(),
            CLASSIC_SESSION_MAX.as_millis()
        )));
    }
    Ok((every, silent))
}

/// The folder of the data.
fn data(options: &Options) -> PathBuf {
    let typed = options.data.clone();
    typed.unwrap_or_else(|| PathBuf::from(DATA))
}

/// What clients of Kafka are told that it is called: from the root of the file system on.
fn log_dir(data: &Path) -> String {
    let absolute = std::path::absolute(data);
    let absolute = absolute.as_deref().unwrap_or(data);
    absolute.display().to_string()
}

/// The least that may be set for the shortest session timeout of Kafka's groups.
const SESSION_MIN: Duration = Duration::from_millis(1);

/// How clients of Kafka log in; `None` where they need not.
fn sasl(options: &Options) -> Option<SaslConfig> {
    let login = options.kafka_sasl.unwrap_or(Login::Off);
    (login != Login::Off).then(|| SaslConfig {
        users: data(options).join(PRIVATE_DIR),
        cleartext: login == Login::Cleartext,
    })
}

/// Which clients of Kafka may do what; `None` where all may do everything.
fn acls(options: &Options) -> Result<Option<AclConfig>, Failure> {
    let super_users = options.kafka_super_user.iter().flatten().cloned();
    let super_users: BTreeSet<_> = super_users.collect();
    if super_users.contains("") {
        return Err(Failure::usage(
            "--kafka-super-user needs the name of a user",
        ));
    }
    match options.kafka_acls.unwrap_or(Acls::Off) {
        Acls::Off if super_users.is_empty() => Ok(None),
        Acls::Off => Err(Failure::usage(
            "--kafka-super-user needs --kafka-acls open or closed: without rules everybody may do \
             everything",
        )),
        how => Ok(Some(AclConfig {
            rules: data(options).join(PRIVATE_DIR),
            open: how == Acls::Open,
            super_users,
        })),
    }
}

/// The certificate for clients of Kafka; `None` where there is none.
fn tls(options: &Options) -> Result<Option<TlsConfig>, Failure> {
    match (&options.kafka_tls_cert, &options.kafka_tls_key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some(TlsConfig {
            cert: cert.clone(),
            key: key.clone(),
        })),
        (Some(_), None) => Err(Failure::usage(
            "--kafka-tls-cert needs --kafka-tls-key, the private key of the certificate",
        )),
        (None, Some(_)) => Err(Failure::usage(
            "--kafka-tls-key needs --kafka-tls-cert, the certificate of the key",
        )),
    }
}

/// The folder of the data where nothing else is said.
pub(crate) const DATA: &str = "./tidemill-data";

/// The largest data that one event may be allowed to have.
const EVENT_MAX_BYTES: usize = 16 * 1024 * 1024;

fn read(path: &Path) -> Result<Options, Failure> {
    let named = |why: String| Failure::usage(format!("--config {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|e| named(e.to_string()))?;
    toml::from_str(&text).map_err(|e| named(e.to_string().trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn without_anything_the_defaults_hold() {
        let settings = Settings::new(Options::default(), None).unwrap();
        assert_eq!(settings.http.to_string(), "127.0.0.1:7575");
        assert_eq!(settings.data, Path::new("./tidemill-data"));
        assert_eq!(settings.flush, Flush::EveryCommit);
    }

    #[test]
    fn what_clients_of_kafka_are_told_is_a_host_and_a_port() {
        for (text, host) in [
            ("broker.example.org:9092", "broker.example.org"),
            ("10.0.0.1:1", "10.0.0.1"),
            ("[fe80::1]:9092", "fe80::1"),
        ] {
            assert_eq!(text.parse::<Host>().unwrap().0.host, host);
        }
        for wrong in [
            "",
            ":9092",
            "host",
            "host:",
            "host:0",
            "host:70000",
            "a b:1",
            "::1:1",
        ] {
            assert!(wrong.parse::<Host>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_door_for_clients_of_kafka_follows_the_settings_of_topics() {
        let options = Options {
            default_partitions: Some(4),
            auto_create_topics: Some(false),
            kafka: Some("127.0.0.1:0".parse().unwrap()),
            ..Options::default()
        };
        let kafka = Settings::new(options.clone(), None).unwrap().kafka.unwrap();
        assert_eq!((kafka.default_partitions, kafka.auto_create), (4, false));
        let own = Options {
            kafka_default_partitions: Some(2),
            kafka_auto_create: Some(true),
            ..options.clone()
        };
        let kafka = Settings::new(own, None).unwrap().kafka.unwrap();
        assert_eq!((kafka.default_partitions, kafka.auto_create), (2, true));
        assert_eq!(
            Settings::new(options.clone(), None).unwrap().in_vain,
            [""; 0]
        );
        let off = Options {
            kafka: Some("off".parse().unwrap()),
            kafka_acls: Some(Acls::Open),
            ..options
        };
        let settings = Settings::new(off, None).unwrap();
        assert_eq!(settings.kafka, None);
        // Somebody may have meant that it protects something.
        assert_eq!(settings.in_vain, ["kafka-acls"]);
    }

    #[test]
    fn logins_and_certificates_of_clients_of_kafka_are_set_whole() {
        let with = |text: &str| {
            let file = file(&format!("data = 'd'\nkafka = '127.0.0.1:0'\n{text}"));
            Settings::new(Options::default(), Some(file.path()))
        };
        let sasl = |text: &str| with(text).unwrap().kafka.unwrap().sasl;
        assert_eq!(sasl(""), None);
        assert_eq!(sasl("kafka_sasl = 'off'"), None);
        for (word, cleartext) in [("required", false), ("cleartext", true)] {
            let sasl = sasl(&format!("kafka_sasl = '{word}'")).unwrap();
            assert_eq!(sasl.users, Path::new("d/private"));
            assert_eq!(sasl.cleartext, cleartext);
        }
        let both = "kafka_tls_cert = 'c.pem'\nkafka_tls_key = 'k.pem'\n";
        let tls = with(both).unwrap().kafka.unwrap().tls.unwrap();
        assert_eq!((tls.cert, tls.key), ("c.pem".into(), "k.pem".into()));
        for half in both.lines() {
            let refused = with(half).unwrap_err();
            assert!(matches!(refused, Failure::Usage(_)), "{half}");
        }
        assert!(with("kafka_sasl = 'maybe'").is_err());
    }

    #[test]
    fn rules_for_clients_of_kafka_are_open_or_closed_and_have_super_users() {
        let with = |text: &str| {
            let file = file(&format!("data = 'd'\nkafka = '127.0.0.1:0'\n{text}"));
            Settings::new(Options::default(), Some(file.path()))
        };
        let acls = |text: &str| with(text).unwrap().kafka.unwrap().acls;
        assert_eq!(acls(""), None);
        assert_eq!(acls("kafka_acls = 'off'"), None);
        for (word, open) in [("open", true), ("closed", false)] {
            let users = "kafka_super_user = ['root', 'alice, the=1st']";
            let acls = acls(&format!("kafka_acls = '{word}'\n{users}")).unwrap();
            assert_eq!(acls.rules, Path::new("d/private"));
            assert_eq!(acls.open, open);
            let users: Vec<_> = acls.super_users.iter().map(String::as_str).collect();
            assert_eq!(users, ["alice, the=1st", "root"]);
        }
        assert!(with("kafka_acls = 'maybe'").is_err());
        let alone = with("kafka_super_user = ['root']").unwrap_err();
        assert!(alone.to_string().contains("--kafka-acls"), "{alone}");
        assert!(with("kafka_acls = 'open'\nkafka_super_user = ['']").is_err());
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = file("http = '127.0.0.1:1'\nflush = '50ms'\ndefault_partitions = 4\n");
        let typed = Options {
            http: Some("127.0.0.1:2".parse().unwrap()),
            ..Options::default()
        };
        let settings = Settings::new(typed, Some(file.path())).unwrap();
        assert_eq!(settings.http.port(), 2);
        assert_eq!(settings.flush, Flush::Interval(Duration::from_millis(50)));
        assert_eq!(settings.default_partitions, 4);
        assert!(settings.auto_create_topics);
    }

    #[test]
    fn pages_and_rates_are_read_from_the_file_too() {
        let file = file("cors = 'https://shop.example'\nrate_limit = '600/m'\n");
        let settings = Settings::new(Options::default(), Some(file.path())).unwrap();
        assert_eq!(settings.cors.unwrap().to_string(), "https://shop.example");
        assert_eq!(settings.rate_limit, "600/m".parse().ok());
    }

    #[test]
    fn nonsense_in_the_file_is_wrong_use_and_named() {
        for text in [
            "cors = 'shop.example'\n",
            "rate_limit = 'often'\n",
            "port = 1\n",
            "http = 7\n",
            "http = 'here'\n",
            "flush = 'sometimes'\n",
            "[\n",
        ] {
            let file = file(text);
            let failure = Settings::new(Options::default(), Some(file.path())).unwrap_err();
            assert!(
                matches!(&failure, Failure::Usage(t) if t.contains("--config")),
                "{text}"
            );
        }
        let missing = Settings::new(Options::default(), Some(Path::new("/nowhere/a.toml")));
        assert!(matches!(missing.unwrap_err(), Failure::Usage(_)));
    }

    #[test]
    fn values_out_of_bounds_are_wrong_use() {
        let none = |options: Options| Settings::new(options, None).unwrap_err().to_string();
        for wrong in [0, TOPIC_PARTITIONS_MAX + 1] {
            let partitions = Options {
                default_partitions: Some(wrong),
                ..Options::default()
            };
            assert!(none(partitions).contains("--default-partitions"));
        }
        let size = Options {
            event_max_bytes: Some(Size(usize::MAX)),
            ..Options::default()
        };
        assert!(none(size).contains("--event-max-bytes"));
        let memory = Options {
            memory: Some("1MiB".parse().unwrap()),
            ..Options::default()
        };
        assert!(none(memory).contains("--memory"));
    }

    #[test]
    fn the_largest_event_fits_into_the_memory() {
        let with = |event_max_bytes: Option<usize>| {
            let options = Options {
                memory: Some("64MiB".parse().unwrap()),
                event_max_bytes: event_max_bytes.map(Size),
                ..Options::default()
            };
            Settings::new(options, None)
        };
        let most = 3 * 1024 * 1024;
        assert_eq!(with(None).unwrap().event_max_bytes, most);
        assert_eq!(with(Some(most)).unwrap().event_max_bytes, most);
        assert!(with(Some(most + 1)).is_err());
        let default = Settings::new(Options::default(), None).unwrap();
        assert_eq!(default.event_max_bytes, EVENT_MAX_BYTES);
        let written = file("memory = '8MiB'\n");
        let settings = Settings::new(Options::default(), Some(written.path())).unwrap();
        assert_eq!(settings.memory, 8 * 1024 * 1024);
    }

    #[test]
    fn times_in_milliseconds_are_taken_with_a_unit_too() {
        for written in ["9000", "'9000'", "'9s'"] {
            let key = "kafka_group_min_session_timeout_ms";
            let file = file(&format!("kafka = '127.0.0.1:0'\n{key} = {written}\n"));
            let settings = Settings::new(Options::default(), Some(file.path())).unwrap();
            let session_min = settings.kafka.unwrap().session_min;
            assert_eq!(session_min, Duration::from_secs(9), "{written}");
        }
        for wrong in ["-1", "1.5", "'soon'"] {
            let file = file(&format!("kafka_group_min_session_timeout_ms = {wrong}\n"));
            let failure = Settings::new(Options::default(), Some(file.path())).unwrap_err();
            assert!(failure.to_string().contains("milliseconds"), "{failure}");
        }
    }

    #[test]
    fn a_file_says_sizes_as_numbers_or_as_texts() {
        for written in ["67108864", "'67108864'", "'64MiB'", "'65536 KiB'"] {
            let file = file(&format!("memory = {written}\n"));
            let settings = Settings::new(Options::default(), Some(file.path())).unwrap();
            assert_eq!(settings.memory, 64 * 1024 * 1024, "{written}");
        }
        for wrong in ["-1", "1.5", "true", "'64MB'"] {
            let file = file(&format!("memory = {wrong}\n"));
            let failure = Settings::new(Options::default(), Some(file.path())).unwrap_err();
            let text = failure.to_string();
            assert!(text.contains("such as 67108864"), "{wrong}: {text}");
        }
    }
}
