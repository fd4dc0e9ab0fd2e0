//! The live view of a bench run on a terminal. Where nobody looks, it shows nothing.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::bench::Sample;

/// A line that is written over each second.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A view of a run of `time`; hidden when `quiet`, or when standard error is no terminal.
    pub(crate) fn new(time: Duration, quiet: bool) -> Self {
        if quiet {
            return Self {
                bar: ProgressBar::hidden(),
            };
        }
        let bar = ProgressBar::new(time.as_secs().max(1));
        let style = ProgressStyle::with_template("{bar:30} {pos:>4}/{len} s  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar }
    }

    /// Shows a second that ended.
    pub(crate) fn show(&self, sample: &Sample) {
        let ms = |us: u64| us as f64 / 1000.0;
        self.bar.set_position(sample.second);
        self.bar.set_message(format!(
            "published {}/s, handled {}/s, p50 {:.2} ms, p99 {:.2} ms, waiting {}",
            sample.accepted,
            sample.handled,
            ms(sample.end_to_end_us.p50),
            ms(sample.end_to_end_us.p99),
            sample.waiting
        ));
    }

    /// Takes the line away.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
