//! The signals that ask the process to come to an end.

use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;
use crate::output;

/// Resolves at the first Ctrl-C or SIGTERM. The second Ctrl-C ends the process at once, with what
/// `left` says of that: what stays behind, and what to do about it.
///
/// # Errors
/// When the system does not let signals be watched.
pub(crate) fn shutdown(
    left: Option<String>,
) -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tokio::spawn(async move {
            interrupt.recv().await;
            output::remark("interrupted again: ending without draining");
            if let Some(left) = left {
                output::remark(left);
            }
            std::process::exit(130);
        });
    })
}
