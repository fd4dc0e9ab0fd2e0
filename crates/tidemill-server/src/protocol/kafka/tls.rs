//! The certificate that clients are shown, and their handshakes. TLS is the crate `rustls`'s, 1.2
//! and 1.3, with the cryptography of `ring`.
//!
//! The two files are looked at now and then while clients come, and read again when they have
//! changed; what cannot be used then is told, and the old certificate stays. This room may not know
//! what is said over a connection.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

use crate::config::TlsConfig;
use crate::error::ServeError;
use crate::limits::KAFKA_TLS_LOOK_EVERY;

const CERT: &str = "--kafka-tls-cert";
const KEY: &str = "--kafka-tls-key";

/// A certificate that is shown.
pub(super) struct Tls {
    files: TlsConfig,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    stamps: Stamps,
    looked: Instant,
}

/// What tells files from what they were before: when and how long they were written.
type Stamps = [Option<(SystemTime, u64)>; 2];

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`ServeError::Certificate`].
    pub(super) fn open(files: &TlsConfig) -> Result<Self, ServeError> {
        let stamps = stamps(files);
        let current = Current {
            config: read(files)?,
            stamps,
            looked: Instant::now(),
        };
        Ok(Self {
            files: files.clone(),
            current: Mutex::new(current),
        })
    }

    /// Shakes hands with a client.
    ///
    /// # Errors
    /// It does not speak TLS, or not as it has to.
    pub(super) async fn accept(
        self: &Arc<Self>,
        stream: TcpStream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let this = Arc::clone(self);
        if self.is_due() {
            let looked = tokio::task::spawn_blocking(move || this.look());
            looked.await.map_err(io::Error::other)?;
        }
        let config = Arc::clone(&self.current().config);
        TlsAcceptor::from(config).accept(stream).await
    }

    /// Whether it is time to look at the files; then who asks does so.
    fn is_due(&self) -> bool {
        let mut current = self.current();
        let due = current.looked.elapsed() >= KAFKA_TLS_LOOK_EVERY;
        if due {
            current.looked = Instant::now();
        }
        due
    }

    /// Reads the files again if they have changed.
    fn look(&self) {
        let stamps = stamps(&self.files);
        if stamps == self.current().stamps {
            return;
        }
        match read(&self.files) {
            Ok(config) => {
                let mut current = self.current();
                current.config = config;
                current.stamps = stamps;
                tracing::info!("clients of Kafka are shown another certificate");
            }
            // The two are changed one after the other: the next look may find them whole.
            Err(error) => tracing::warn!(
                %error,
                "the certificate for clients of Kafka has changed and cannot be used; the old \
                 one is shown"
            ),
        }
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamps(files: &TlsConfig) -> Stamps {
    [&files.cert, &files.key].map(|path| {
        let found = fs::metadata(path).ok()?;
        Some((found.modified().ok()?, found.len()))
    })
}

fn read(files: &TlsConfig) -> Result<Arc<ServerConfig>, ServeError> {
    let certs = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unread(CERT, &files.cert, &error))?;
    if certs.is_empty() {
        return Err(unread(CERT, &files.cert, &PemError::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| unread(KEY, &files.key, &error))?;
    let provider = Arc::new(default_provider());
    // A chain is used as it comes: what is wrong with it is told of the certificate, but for a
    // key that is another's.
    let versions = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(CERT, &files.cert, error))?;
    let config = versions.with_no_client_auth().with_single_cert(certs, key);
    use tokio_rustls::rustls::Error::InconsistentKeys;
    let config = config.map_err(|error| match error {
        InconsistentKeys(_) => {
            let why = format!(
                "this is not the private key of the certificate in {}; name the two that belong \
                 together",
                files.cert.display()
            );
            wrong(KEY, &files.key, why)
        }
        error => wrong(CERT, &files.cert, error),
    })?;
    Ok(Arc::new(config))
}

fn wrong(flag: &'static str, path: &Path, why: impl ToString) -> ServeError {
    ServeError::Certificate {
        flag,
        path: path.display().to_string(),
        why: why.to_string(),
    }
}

fn unread(flag: &'static str, path: &Path, error: &PemError) -> ServeError {
    let why = match error {
        PemError::Io(error) => format!("{error}; name a file in PEM that the server may read"),
        PemError::NoItemsFound if flag == KEY => {
            "there is no private key in PEM in it that is not encrypted; name one".to_owned()
        }
        PemError::NoItemsFound => "there is no certificate in PEM in it; name one".to_owned(),
        error => format!("this is no file in PEM ({error}); name one"),
    };
    wrong(flag, path, why)
}
