//! The standing skips: `xtask/skips.toml`, a reason for each.
//!
//! Under `CI=true` nothing else may be skipped. This room may not know what a step does.

use std::path::Path;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Skip {
    step: String,
    reason: String,
}

/// The checked-in list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Skips {
    #[serde(default)]
    skip: Vec<Skip>,
}

impl Skips {
    /// Reads the list of the tree at `root`.
    ///
    /// # Errors
    /// When it cannot be read or parsed, or a reason says nothing.
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(root.join("xtask/skips.toml"))
            .map_err(|e| format!("cannot read xtask/skips.toml: {e}"))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let skips: Self = toml::from_str(text).map_err(|e| format!("xtask/skips.toml: {e}"))?;
        match skips.skip.iter().find(|s| s.reason.trim().len() < 10) {
            Some(bare) => Err(format!("xtask/skips.toml: give a reason for {}", bare.step)),
            None => Ok(skips),
        }
    }

    /// Whether `step` may be skipped: anywhere outside CI, in CI only by the list.
    ///
    /// # Errors
    /// The sentence to fail with.
    pub(crate) fn allow(&self, step: &str, why: &str, ci: bool) -> Result<(), String> {
        if !ci || self.skip.iter().any(|s| s.step == step) {
            return Ok(());
        }
        Err(format!(
            "{why}; under CI=true only xtask/skips.toml may skip"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "[[skip]]\nstep = 'advisories'\nreason = 'the database is out of reach'\n";

    #[test]
    fn in_ci_only_the_list_may_skip() {
        let skips = Skips::parse(LIST).unwrap();
        assert_eq!(skips.allow("advisories", "no network", true), Ok(()));
        assert!(skips.allow("clients", "no node", true).is_err());
        assert_eq!(skips.allow("clients", "no node", false), Ok(()));
    }

    #[test]
    fn a_skip_needs_a_reason() {
        assert!(Skips::parse("[[skip]]\nstep = 'a'\nreason = ''\n").is_err());
        assert!(Skips::parse("[[skip]]\nstep = 'a'\n").is_err());
    }
}
