//! The live view of a long run on a terminal: a bench, or files that are read. Where nobody
//! looks, it shows nothing.

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

/// A bar of bytes that are read; hidden when standard error is no terminal.
pub(crate) struct Reading {
    bar: ProgressBar,
}

impl Reading {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar }
    }

    /// Shows how far it is.
    pub(crate) fn show(&self, file: &str, done_bytes: u64, total_bytes: u64) {
        self.bar.set_length(total_bytes);
        self.bar.set_position(done_bytes);
        self.bar.set_message(file.to_owned());
    }

    /// Takes the line away.
    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
