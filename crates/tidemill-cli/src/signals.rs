//! The signals that ask the process to come to an end.

use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::failure::Failure;
use crate::output;

/// How long after the first signal another one is still the same: who sends it to a process and to
/// its group, as shells and `timeout` do, sends it twice.
const SAME_WITHIN: Duration = Duration::from_secs(1);

/// Resolves at the first Ctrl-C or SIGTERM. The next one of either, at least [`SAME_WITHIN`] later,
/// ends the process at once, with what `left` says of that: what stays behind, and what to do about
/// it. Once what is given back was dropped, as when the work came to an end by itself and is being
/// put away, the first one ends the process so.
///
/// # Errors
/// When the system does not let signals be watched.
pub(crate) fn shutdown(
    left: Option<String>,
) -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        let mut either = async || {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        either().await;
        let heard = tell.send(()).is_ok();
        let first = Instant::now();
        if heard {
            either().await;
            while first.elapsed() < SAME_WITHIN {
                either().await;
            }
        }
        output::remark(match heard {
            true => "interrupted again: ending without draining",
            false => "interrupted: ending without draining",
        });
        if let Some(left) = left {
            output::remark(left);
        }
        std::process::exit(130);
    });
    Ok(async move {
        if told.await.is_err() {
            // The watching is gone with its runtime; there is nobody to tell.
            std::future::pending::<()>().await;
        }
    })
}
