//! The house limits in numbers. What they mean is said in CONTRIBUTING.md.
//!
//! This room may not know how anything is measured.

/// A file of this many lines is as long as it should be.
pub(crate) const FILE_AIM_LINES: usize = 400;

/// `cargo xtask tidy --largest` marks files above this.
pub(crate) const FILE_LONG_LINES: usize = 600;

/// A file above this fails.
pub(crate) const FILE_MAX_LINES: usize = 1000;

/// A function above this fails, counted from its first line to its closing brace; tests are free.
pub(crate) const FUNCTION_MAX_LINES: usize = 70;

/// A line above this many characters fails.
pub(crate) const LINE_MAX_COLUMNS: usize = 100;

/// A module header shorter than this says nothing.
pub(crate) const HEADER_MIN_CHARS: usize = 20;

/// How many files and functions `--largest` lists.
pub(crate) const LARGEST_LISTED: usize = 12;

/// Seconds that all fuzz targets get together in `cargo xtask test`, their build not counted.
pub(crate) const FUZZ_SECONDS: u64 = 120;

/// The release binary is not larger than this; the aim is 20 MB (ARCHITECTURE.md).
pub(crate) const BINARY_MAX_BYTES: u64 = 24_000_000;

/// Where two of the limits must stand to each other.
const _: () = assert!(FILE_AIM_LINES < FILE_LONG_LINES && FILE_LONG_LINES < FILE_MAX_LINES);
