// SPDX-License-Identifier: Apache-2.0
//! The config of a boot image: that of the image that it starts, with the program before what is to be run.

use anyhow::{Context, Result};
use puzzlefs_format::Digest;
use serde_json::{json, Map, Value};

use super::places::PROGRAM;
use crate::base::error::damage;
use crate::layout::platform::Platform;

/// What of an image's config the program takes care of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// As whom to run.
    pub(super) user: String,
    /// Whether its variables say where the home is.
    pub(super) has_home: bool,
}

/// The config of a boot image of one layer, whose content has the digest `diff_id`, for an image with the config `text`, if
/// it has one; and what is not in it any more.
///
/// Runtimes look for users in the files of the image, and fill volumes from it before its first program runs: those of a
/// boot image are empty then. So the program becomes the user, and what would be a volume is a directory of the container.
pub(super) fn rewritten(text: Option<&[u8]>, diff_id: &Digest) -> crate::Result<(Vec<u8>, Taken)> {
    damage(rewrite(text, diff_id).context("the config of the image"))
}

fn rewrite(text: Option<&[u8]>, diff_id: &Digest) -> Result<(Vec<u8>, Taken)> {
    let mut whole: Map<String, Value> = match text {
        Some(text) => serde_json::from_slice(text)?,
        // Any machine may have made the tree; that it is for this one is what most mean.
        None => match serde_json::to_value(Platform::here())? {
            Value::Object(platform) => platform,
            _ => Map::new(),
        },
    };
    let config = whole.entry("config").or_insert_with(|| json!({}));
    if config.is_null() {
        *config = json!({});
    }
    let config = config.as_object_mut().context("its member config")?;
    let words = |value: Option<Value>| -> Result<Vec<String>> {
        Ok(match value {
            None | Some(Value::Null) => Vec::new(),
            Some(value) => serde_json::from_value(value)?,
        })
    };
    let entrypoint = words(config.remove("Entrypoint")).context("its Entrypoint")?;
    let entrypoint = [PROGRAM.to_owned()].into_iter().chain(entrypoint);
    config.insert("Entrypoint".into(), entrypoint.collect());
    let user = match config.remove("User") {
        None | Some(Value::Null) => String::new(),
        Some(user) => serde_json::from_value(user).context("its User")?,
    };
    let env = words(config.get("Env").cloned()).context("its Env")?;
    let has_home = env.iter().any(|entry| entry.starts_with("HOME="));
    config.remove("Volumes");
    whole.insert(
        "rootfs".into(),
        json!({ "type": "layers", "diff_ids": [format!("sha256:{diff_id}")] }),
    );
    // As in what puzzlefs export makes: umoci stat wants a time of each step.
    let created = whole.get("created").cloned();
    let created = created.filter(Value::is_string);
    whole.insert(
        "history".into(),
        json!([{
            "created": created.unwrap_or_else(|| "1970-01-01T00:00:00Z".into()),
            "created_by": "puzzlefs boot-image",
        }]),
    );
    Ok((serde_json::to_vec(&whole)?, Taken { user, has_home }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> (Value, Taken) {
        let diff_id = Digest::from_bytes([1; 32]);
        let (text, taken) = rewritten(Some(text.as_bytes()), &diff_id).unwrap();
        (serde_json::from_slice(&text).unwrap(), taken)
    }

    #[test]
    fn the_program_comes_first_and_all_else_stays() {
        let (config, taken) = of(
            r#"{"architecture":"arm64","os":"linux","created":"2026-01-02T03:04:05Z","own":[1],
            "config":{"User":"web","Env":["A=1","HOME=/h"],"Entrypoint":["/e","-x"],"Cmd":["c"],"Volumes":{"/v":{}},
            "WorkingDir":"/w","Labels":{"l":"m"},"StopSignal":"SIGQUIT"},
            "rootfs":{"type":"layers","diff_ids":["sha256:00"]},"history":[{"created_by":"x"}]}"#,
        );
        let inner = &config["config"];
        assert_eq!(inner["Entrypoint"], json!([PROGRAM, "/e", "-x"]));
        assert_eq!(inner["Cmd"], json!(["c"]));
        assert_eq!(inner["Env"], json!(["A=1", "HOME=/h"]));
        assert_eq!(
            (&inner["WorkingDir"], &inner["StopSignal"]),
            (&json!("/w"), &json!("SIGQUIT"))
        );
        assert_eq!(inner["Labels"]["l"], "m");
        assert!(inner.get("User").is_none() && inner.get("Volumes").is_none());
        assert_eq!(
            (&config["own"], &config["architecture"]),
            (&json!([1]), &json!("arm64"))
        );
        let layers = config["rootfs"]["diff_ids"].as_array().unwrap();
        assert_eq!(*layers, [format!("sha256:{}", "01".repeat(32))]);
        assert_eq!(config["history"].as_array().unwrap().len(), 1);
        let is = Taken {
            user: "web".into(),
            has_home: true,
        };
        assert_eq!(taken, is);
    }

    #[test]
    fn little_is_enough() {
        for text in [
            "{}",
            r#"{"config":null}"#,
            r#"{"config":{"Entrypoint":null,"User":null,"Env":null}}"#,
        ] {
            let (config, taken) = of(text);
            assert_eq!(config["config"]["Entrypoint"], json!([PROGRAM]), "{text}");
            assert_eq!(taken, Taken::default());
        }
        let (text, _) = rewritten(None, &Digest::from_bytes([1; 32])).unwrap();
        let config: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(config["os"], "linux");
        for wrong in [
            "[]",
            r#"{"config":5}"#,
            r#"{"config":{"Entrypoint":"sh"}}"#,
            r#"{"config":{"User":5}}"#,
            r#"{"config":{"Env":[5]}}"#,
        ] {
            let made = rewritten(Some(wrong.as_bytes()), &Digest::from_bytes([1; 32]));
            assert!(matches!(made, Err(crate::Error::Damaged(_))), "{wrong}");
        }
    }
}
