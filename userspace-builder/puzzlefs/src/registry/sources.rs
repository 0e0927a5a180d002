// SPDX-License-Identifier: Apache-2.0
//! Where a repository is read: its mirrors, as registries.conf has them, and the registry itself where they
//! do not have what is asked for, or do not answer. A layout on a web server has no mirrors.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use puzzlefs_format::Digest;

use super::blob::{Blob, Ranged};
use super::client::{self, Access, Client};
use super::config::{self, Place};
use super::manifest::Found;
use super::name::Repository;
use super::options::Options;
use super::web;
use crate::base::error::{Error, Result};
use crate::layout::reference::Name;

/// A repository or a layout, to be read.
pub struct Sources {
    called: String,
    /// Each with whether it is asked for what is named by a tag, and by a digest. The last one is the registry.
    clients: Vec<(Arc<Client>, (bool, bool))>,
    /// The first one that is asked: those before it gave something wrong.
    trusted: AtomicUsize,
}

impl Sources {
    /// All places of `repository`. Only those are asked already that may be without TLS.
    ///
    /// # Errors
    ///
    /// If files with places or credentials cannot be read, or the registry is blocked.
    pub fn open(repository: &Repository, options: &Options) -> Result<Self> {
        let mut clients = Vec::new();
        for place in config::places(repository)? {
            let options = allowed(&place, options)?;
            let client = Client::new(&place.repository, &Access::Pull, &options)?;
            clients.push((client, place.by));
        }
        Ok(Self::of(repository.to_string(), clients))
    }

    /// The layout of `image` on a web server. It is asked nothing yet.
    ///
    /// # Errors
    ///
    /// If files with credentials cannot be read.
    pub fn of_layout(image: &web::Reference, options: &Options) -> Result<Self> {
        let client = Client::of_layout(image.base(), options)?;
        Ok(Self::of(
            client.called().to_owned(),
            vec![(client, (true, true))],
        ))
    }

    fn of(called: String, clients: Vec<(Arc<Client>, (bool, bool))>) -> Self {
        Sources {
            called,
            clients,
            trusted: AtomicUsize::new(0),
        }
    }

    /// The number of the first place that is asked.
    pub fn trusted(&self) -> usize {
        self.trusted.load(Ordering::Relaxed)
    }

    /// Asks a place no more that gave something else than what a digest says, while it was the first one: a
    /// mirror. Whether there is another one. The registry itself stays.
    pub fn distrust(&self, first: usize) -> bool {
        let next = first.saturating_add(1);
        let has_next = next < self.clients.len();
        if has_next {
            self.trusted.fetch_max(next, Ordering::Relaxed);
        }
        has_next
    }

    /// The registry itself, to be written to.
    pub fn writer(
        repository: &Repository,
        access: &Access,
        options: &Options,
    ) -> Result<Arc<Client>> {
        let places = config::places(repository)?;
        match places.last() {
            Some(place) => Client::new(&place.repository, access, &allowed(place, options)?),
            None => Client::new(repository, access, options),
        }
    }

    /// What it is called.
    pub fn called(&self) -> &str {
        &self.called
    }

    /// A manifest or an index, which has the digest if it is asked for by that.
    pub fn manifest(&self, name: &Name) -> Result<Found> {
        self.first(matches!(name, Name::Tag(_)), |client, _| {
            client.manifest(name)
        })
    }

    /// Begins to read a blob. Where a place fails in the middle of it, the next one gives the rest.
    pub fn blob(&self, digest: &Digest, size: Option<u64>) -> Result<Blob> {
        self.first(false, |client, others| {
            client.blob(digest, size).map(|blob| blob.or(others))
        })
    }

    /// Begins to read a part of one; the same holds.
    pub fn range(&self, digest: &Digest, size: u64, range: Range<u64>) -> Result<Ranged> {
        self.first(false, |client, others| {
            Ok(match client.range(digest, size, range.clone())? {
                Ranged::Range(blob) => Ranged::Range(blob.or(others)),
                Ranged::Whole(blob) => Ranged::Whole(blob.or(others)),
            })
        })
    }

    /// All tags, of the registry itself: a mirror has those that were asked for.
    pub fn tags(&self) -> Result<Vec<String>> {
        let last = self.clients.last();
        last.map_or(Ok(Vec::new()), |(client, _)| client.tags())
    }

    /// What the first place says that has it; what the registry says, if none does. `ask` is told who may
    /// be asked after that.
    fn first<T>(
        &self,
        by_tag: bool,
        ask: impl Fn(&Arc<Client>, &[Arc<Client>]) -> Result<T>,
    ) -> Result<T> {
        let is_asked = |by: &(bool, bool)| if by_tag { by.0 } else { by.1 };
        let trusted = self.clients.iter().skip(self.trusted());
        let asked = trusted.filter(|(_, by)| is_asked(by));
        let asked: Vec<Arc<Client>> = asked.map(|(client, _)| client.clone()).collect();
        let mut why = Error::not_found(format!("{} is nowhere", self.called));
        let mut left = &asked[..];
        while let Some((client, others)) = left.split_first() {
            match ask(client, others) {
                Ok(found) => return Ok(found),
                Err(error) => why = error,
            }
            left = others;
        }
        Err(why)
    }
}

/// What is allowed at a place: more, if registries.conf says so.
fn allowed(place: &Place, options: &Options) -> Result<Options> {
    let mut options = options.clone();
    if place.insecure && !options.plain_http {
        options.skip_verify = true;
        options.plain_http = !client::speaks_tls(&place.repository, &options)?;
    }
    Ok(options)
}
