//! Certificates for tests, made by `openssl`. Where that is not there tests are skipped and say so,
//! except under `CI=true`.

use std::path::{Path, PathBuf};

use tidemill_server::TlsConfig;
use tokio::process::Command;

/// An authority, and a certificate of it for this machine; `None` where there is no `openssl`.
pub(crate) async fn certificates(folder: &Path) -> Option<(PathBuf, TlsConfig)> {
    let path = |name: &str| folder.join(name);
    let authority = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=authority",
    ];
    let certificate = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
        "-subj",
        "/CN=localhost",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-addext",
        "basicConstraints=CA:FALSE",
    ];
    for words in [&authority[..], &certificate] {
        let mut openssl = Command::new("openssl");
        let made = openssl.args(words).current_dir(folder).output().await;
        let Ok(made) = made else {
            let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!ci, "openssl is not installed");
            eprintln!("skipped: openssl is not installed");
            return None;
        };
        assert!(made.status.success(), "{made:?}");
    }
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    Some((path("ca.pem"), TlsConfig { cert, key }))
}
