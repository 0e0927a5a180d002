// SPDX-License-Identifier: Apache-2.0
//! What stays as it is in a directory that an image is extracted into.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Paths that stay.
pub(super) struct Kept {
    paths: HashSet<PathBuf>,
    /// The directories above them.
    above: HashSet<PathBuf>,
}

impl Kept {
    /// These paths, from the directory.
    pub(super) fn new(paths: &[PathBuf]) -> Self {
        let above = paths.iter().flat_map(|path| path.ancestors().skip(1));
        Kept {
            paths: paths.iter().cloned().collect(),
            above: above.map(Path::to_owned).collect(),
        }
    }

    /// Whether `path` is one of them. Nobody asks about what is below one.
    pub(super) fn is_it(&self, path: &Path) -> bool {
        self.paths.contains(path)
    }

    /// Whether one of them is below `path`: so a directory is there, whatever the image has.
    pub(super) fn is_above(&self, path: &Path) -> bool {
        self.above.contains(path)
    }
}
