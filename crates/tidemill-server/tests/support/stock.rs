//! Programs of others that tests drive: installed into the target folder by a script, run, and
//! read line by line. Where they cannot be installed the tests are skipped and say why, except
//! under `CI=true`, where that is a failure.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::OnceCell;

/// No script takes longer.
pub(crate) const SCRIPT_TIMEOUT: Duration = Duration::from_secs(240);

/// A folder of scripts in `tests/`, with an `install.sh`.
pub(crate) fn scripts(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

/// Runs `install.sh` of the scripts `name` once; `None` after saying why it is not possible.
pub(crate) async fn installed(
    once: &OnceCell<Result<(), String>>,
    name: &str,
    folder: &str,
) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let result = once.get_or_init(|| install(name, &folder)).await;
    match result {
        Ok(()) => Some(folder),
        Err(why) if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
            panic!("what {name} drives cannot be installed: {why}")
        }
        Err(why) => {
            eprintln!("skipped: what {name} drives cannot be installed: {why}");
            None
        }
    }
}

async fn install(name: &str, folder: &Path) -> Result<(), String> {
    let install = Command::new("sh")
        .arg(scripts(name).join("install.sh"))
        .arg(folder)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| error.to_string())?;
    if install.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&install.stderr).into_owned())
}

/// A running script that is told things and read line by line.
pub(crate) struct Script {
    pub(crate) child: Child,
    pub(crate) input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Script {
    pub(crate) fn start(mut command: Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            input,
            lines,
        }
    }

    /// The next line; none at the end.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let line = tokio::time::timeout(SCRIPT_TIMEOUT, self.lines.next_line());
        line.await.expect("a line comes in time").unwrap()
    }

    pub(crate) async fn tell(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.input.write_all(line.as_bytes()).await.unwrap();
    }
}
