// SPDX-License-Identifier: Apache-2.0
//! Manifests, indexes and tags of a repository.

use oci_spec::image::MediaType;
use puzzlefs_format::{limits, Digest, MEDIA_TYPE_MANIFEST};
use serde::Deserialize;
use ureq::http::{Method, StatusCode};

use super::client::{drain, Client};
use super::http::{complaint, header, Ask, Sent};
use super::name::{prefixed, tail};
use crate::base::digest::sha256;
use crate::base::error::{Error, Result};
use crate::base::text;
use crate::layout::manifest::{DOCKER_LIST, DOCKER_MANIFEST};
use crate::layout::reference::Name;

/// Bytes of a list of tags, and how many such lists there may be.
const MAX_LIST: u64 = 4 << 20;
const MAX_LISTS: u32 = 1000;

/// A manifest or an index, as it came.
#[derive(Clone, Debug)]
pub struct Found {
    /// That of its bytes.
    pub digest: Digest,
    /// What the registry says that it is.
    pub media_type: String,
    /// Its bytes.
    pub text: Vec<u8>,
}

impl Client {
    /// A manifest or an index, which has the digest if it is asked for by that.
    pub fn manifest(&self, name: &Name) -> Result<Found> {
        if self.is_layout() {
            return self.manifest_of_layout(name);
        }
        let url = self.url(&format!("manifests/{}", tail(name)))?;
        let ask = Ask::new(Method::GET).with("accept", accepted());
        let found = self.small(&ask, &url, limits::MAX_MANIFEST_BYTES as u64);
        let (_, headers, text) = found
            .map_err(|error| error.context(format!("{}: the manifest {name}", self.called())))?;
        let digest = sha256(&[&text]);
        let said = header(&headers, "docker-content-digest").map(str::to_owned);
        let wanted = match name {
            Name::Digest(wanted) => Some(prefixed(wanted)),
            // One by another algorithm may be as true.
            Name::Tag(_) => said.filter(|said| said.starts_with("sha256:")),
        };
        if let Some(wanted) = wanted.filter(|wanted| *wanted != prefixed(&digest)) {
            let text = format!(
                "{}: the manifest {name} has the digest sha256:{digest}, and not {}",
                self.called(),
                text::quoted(wanted.as_bytes())
            );
            return Err(Error::damaged(text));
        }
        let media_type = header(&headers, "content-type").unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        Ok(Found {
            digest,
            media_type: media_type.to_owned(),
            text,
        })
    }

    /// The digest that the registry says a manifest to have; `None` if it has none of that name.
    pub fn manifest_digest(&self, name: &Name) -> Result<Option<Digest>> {
        let url = self.url(&format!("manifests/{}", tail(name)))?;
        let ask = Ask::new(Method::HEAD).with("accept", accepted());
        let (response, at) = self.send(&ask, &url, None)?;
        let said = header(response.headers(), "docker-content-digest");
        let digest =
            said.and_then(|said| Digest::parse(said.strip_prefix("sha256:")?.as_bytes()).ok());
        match response.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(digest),
            _ => Err(complaint(response, &at)),
        }
    }

    /// Stores a manifest or an index under a tag or its digest.
    pub fn put_manifest(&self, name: &Name, media_type: &str, text: &[u8]) -> Result<()> {
        let url = self.url(&format!("manifests/{}", tail(name)))?;
        let mut ask = Ask::new(Method::PUT).with("content-type", media_type);
        ask.body = Sent::Bytes(text);
        let (response, at) = self.send(&ask, &url, None)?;
        if !response.status().is_success() {
            let context = format!("{}: storing the manifest {name}", self.called());
            return Err(complaint(response, &at).context(context));
        }
        let wanted = prefixed(&sha256(&[text]));
        let said = header(response.headers(), "docker-content-digest").map(str::to_owned);
        drain(response);
        match said.filter(|said| said.starts_with("sha256:") && *said != wanted) {
            None => Ok(()),
            Some(said) => Err(Error::damaged(format!(
                "{} has stored the manifest {name} as {}, and not as {wanted}",
                self.called(),
                text::quoted(said.as_bytes())
            ))),
        }
    }

    /// All tags of the repository, in their order: registries give them in any.
    pub fn tags(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct List {
            tags: Option<Vec<String>>,
        }
        let mut url = self.url("tags/list")?;
        let mut tags = Vec::new();
        for _ in 0..MAX_LISTS {
            let found = self.small(&Ask::new(Method::GET), &url, MAX_LIST);
            let context = || format!("{}: its tags", self.called());
            let (_, headers, text) = found.map_err(|error| error.context(context()))?;
            let wrong = |e| Error::damaged(e).context(context());
            let list: List = serde_json::from_slice(&text).map_err(wrong)?;
            tags.extend(list.tags.unwrap_or_default());
            let next = header(&headers, "link")
                .and_then(next)
                .map(|to| url.join(to));
            match next.transpose()? {
                Some(to) if to != url && to.origin() == url.origin() => url = to,
                _ => {
                    tags.sort_unstable();
                    return Ok(tags);
                }
            }
        }
        let text = format!("{} has no end of tags", self.called());
        Err(Error::refused(text))
    }
}

/// What is taken of an image: OCI's types, and Docker's, which are the same under other names.
fn accepted() -> String {
    let index = MediaType::ImageIndex.to_string();
    [&*index, MEDIA_TYPE_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST].join(", ")
}

/// Where the next part of a list is: `</v2/...>; rel="next"` (RFC 8288).
fn next(link: &str) -> Option<&str> {
    let (to, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    let rel: String = rest.chars().filter(|c| !"\" ".contains(*c)).collect();
    rel.split(';').any(|part| part == "rel=next").then_some(to)
}
