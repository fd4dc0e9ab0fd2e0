//! Medians, processor time and memory.

use std::time::Duration;

pub(crate) use crate::run::Run;

/// Bytes of the file that the disk's own overwrites go to.
pub(crate) const RAW_BYTES: u64 = 256 * 1024 * 1024;

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Processor time of this process so far, user and system, of all its threads; counted by the
/// kernel in steps of 10 ms.
pub(crate) fn processor_time() -> Duration {
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name in brackets, user and system time are the 12th and the 13th field.
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks: u32 = ticks.filter_map(|field| field.parse::<u32>().ok()).sum();
    TICK * ticks
}

/// A figure of `/proc/self/status` in bytes, such as `VmRSS`.
pub(crate) fn memory_bytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(name));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}
