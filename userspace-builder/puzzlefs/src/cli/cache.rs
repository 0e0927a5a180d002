// SPDX-License-Identifier: Apache-2.0
//! Where the cache is.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use puzzlefs::cache;

/// Where builds and pulls keep what they remember.
pub fn remembered(no_cache: bool) -> Option<cache::Options> {
    let dir = directory().filter(|_| !no_cache)?;
    Some(cache::Options {
        dir: dir.join("builds"),
        force: false,
    })
}

/// Where images from elsewhere are kept that are mounted: beside that.
pub fn images() -> Option<PathBuf> {
    Some(directory()?.join("images"))
}

/// $XDG_CACHE_HOME/puzzlefs, or .cache/puzzlefs in the home of whoever runs this. Root's is /var/cache/puzzlefs, if HOME is
/// that of a user, as sudo may leave it.
fn directory() -> Option<PathBuf> {
    let path = |name| std::env::var_os(name).map(PathBuf::from);
    let path = |name| path(name).filter(|path| path.is_absolute());
    let is_ours = |path: &PathBuf| {
        let owner = std::fs::metadata(path).ok().map(|home| home.uid());
        owner == Some(rustix::process::geteuid().as_raw())
    };
    let own = path("XDG_CACHE_HOME").or_else(|| {
        let home = path("HOME").filter(is_ours)?;
        Some(home.join(".cache"))
    });
    let is_root = rustix::process::geteuid().is_root();
    let all = own.or_else(|| is_root.then(|| "/var/cache".into()))?;
    Some(all.join("puzzlefs"))
}
