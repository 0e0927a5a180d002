// SPDX-License-Identifier: Apache-2.0
//! Which of several images of one name: for which operating system and architecture (OCI
//! image-spec, image-index.md, "platform").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An operating system and an architecture, in the names of the Go language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// As `linux`.
    pub os: String,
    /// As `amd64`.
    pub architecture: String,
    /// As `v7`; any if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Which images of an index are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The one for this platform.
    One(Platform),
    /// Each.
    All,
}

impl Platform {
    /// This machine's.
    pub fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: None,
        }
    }

    /// What an entry of an index, or a config, is for, if it says so.
    pub fn of(value: &Value) -> Option<Self> {
        Self::deserialize(value).ok()
    }

    /// Whether what is for `other` runs here.
    pub fn takes(&self, other: &Platform) -> bool {
        let is_variant = self.variant.is_none() || self.variant == other.variant;
        self.os == other.os && self.architecture == other.architecture && is_variant
    }
}

impl From<&oci_spec::image::Platform> for Platform {
    fn from(said: &oci_spec::image::Platform) -> Self {
        Platform {
            os: said.os().to_string(),
            architecture: said.architecture().to_string(),
            variant: said.variant().clone(),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant.to_owned())),
            _ => return Err("expected OS/ARCHITECTURE[/VARIANT], as in linux/arm64".into()),
        };
        Ok(Platform {
            os: os.into(),
            architecture: architecture.into(),
            variant,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn platforms_are_read_and_written_alike() {
        let arm: Platform = "linux/arm/v7".parse().unwrap();
        let value = json!({ "os": "linux", "architecture": "arm", "variant": "v7" });
        assert_eq!(Platform::of(&value), Some(arm.clone()));
        assert_eq!(serde_json::to_value(&arm).unwrap(), value);
        assert_eq!(arm.to_string(), "linux/arm/v7");
        let any: Platform = "linux/arm".parse().unwrap();
        let value = json!({ "os": "linux", "architecture": "arm", "os.version": "1" });
        assert_eq!(Platform::of(&value), Some(any.clone()));
        assert!(any.takes(&arm) && !arm.takes(&any));
        for none in [json!(null), json!({ "os": "linux" }), json!("linux/arm")] {
            assert_eq!(Platform::of(&none), None, "{none}");
        }
    }
}
