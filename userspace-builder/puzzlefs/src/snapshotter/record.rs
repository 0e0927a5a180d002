// SPDX-License-Identifier: Apache-2.0
//! What is kept of a snapshot on the disk.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// What containerd calls the kinds of snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// It can be written to.
    Active,
    /// It can be read.
    View,
    /// It can be what others are made of, and does not change.
    Committed,
}

impl Kind {
    /// As filters name it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Active => "active",
            Kind::View => "view",
            Kind::Committed => "committed",
        }
    }
}

/// A time since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Time {
    pub seconds: i64,
    pub nanos: i32,
}

impl Time {
    pub fn now() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default();
        Time {
            seconds: now.as_secs() as i64,
            nanos: now.subsec_nanos() as i32,
        }
    }
}

/// What a snapshot takes on the disk, without its parents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes that are allocated.
    pub size: u64,
    /// Files, directories and all else, each once.
    pub inodes: u64,
}

pub(crate) type Labels = BTreeMap<String, String>;

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its name, or key, as containerd says. It is never a part of a path.
    pub name: String,
    /// The name of its parent; empty if it has none.
    pub parent: String,
    pub kind: Kind,
    pub created: Time,
    pub updated: Time,
    pub labels: Labels,
    /// Of a committed one of files.
    #[serde(default)]
    pub usage: Usage,
    /// The text of the stand-in, if it is an image and no files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}
