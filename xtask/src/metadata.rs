//! What `cargo metadata --no-deps` says of the workspace, as far as the chores use it.
//!
//! This room may not know what anybody does with it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::tools;

#[derive(Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
}

#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: String,
    pub(crate) dependencies: Vec<Dependency>,
    #[serde(default)]
    pub(crate) features: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `null` for a normal dependency, else `dev` or `build`.
    pub(crate) kind: Option<String>,
    /// Where a workspace dependency lies.
    pub(crate) path: Option<String>,
}

impl Metadata {
    /// Asks Cargo about the workspace at `root`.
    ///
    /// # Errors
    /// When Cargo cannot be asked or its answer is not understood.
    pub(crate) fn read(root: &Path) -> Result<Self, String> {
        let args = ["metadata", "--format-version", "1", "--no-deps"];
        let text = tools::cargo_stdout(root, &args)?;
        serde_json::from_str(&text).map_err(|e| format!("cannot read cargo metadata: {e}"))
    }
}
