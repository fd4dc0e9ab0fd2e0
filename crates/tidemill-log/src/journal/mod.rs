//! The journal: one append-only log of everything that must be durable, in files that are used
//! again and again.
//!
//! The layout of its bytes is in `FORMAT.md`; this room encodes, decodes and scans them, and
//! keeps account of the files. It may not know what an effect means, or call a disk while the
//! log runs.

pub(crate) mod commit;
pub(crate) mod entry;
pub(crate) mod group;
pub(crate) mod rewrite;
pub(crate) mod scan;
pub(crate) mod writer;

#[cfg(test)]
mod tests;
