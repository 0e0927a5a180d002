// SPDX-License-Identifier: Apache-2.0
//! puzzlefs layer-store.

use std::io::{self, Write};

use puzzlefs::base::text;
use puzzlefs::layer_store::{self, Layer};
use puzzlefs::remote::Place;
use puzzlefs::source::Platform;
use serde::Serialize;

use super::args::LayerStore;
use super::failure::Result;
use super::{elsewhere, out, pull, show};

/// A layer.
#[derive(Serialize)]
struct Shown {
    layer: String,
    manifest: String,
    names: Vec<String>,
    mounted: bool,
}

impl Shown {
    fn of(store: &layer_store::LayerStore, layer: &Layer) -> puzzlefs::Result<Self> {
        Ok(Shown {
            layer: format!("sha256:{}", layer.digest()),
            manifest: format!("sha256:{}", layer.stand_in.manifest),
            names: layer.names.clone(),
            mounted: store.is_mounted(layer)?,
        })
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let state = if self.mounted { "" } else { ", not mounted" };
        writeln!(out, "layer     {}{state}", self.layer)?;
        writeln!(out, "manifest  {}", self.manifest)?;
        for name in &self.names {
            writeln!(out, "image     {}", text::line(name))?;
        }
        Ok(())
    }
}

/// Does what is to be done with the store.
pub fn layer_store(args: &LayerStore) -> Result<()> {
    let store = opened(args)?;
    if let Some(image) = &args.image {
        return add(args, &store, image);
    }
    if let Some(name) = &args.remove {
        let place: std::result::Result<Place, String> = name.parse();
        // The digest of a layer is no place.
        let name = match (name.starts_with("sha256:"), place) {
            (false, Ok(place)) => place.to_string(),
            _ => name.clone(),
        };
        let names = store.remove(&name)?;
        if !names.is_empty() {
            let names = show::tags(&names);
            out::note(&format!("the layer stays for {names}"));
        }
        return Ok(());
    }
    if args.restore {
        return ended(store.restore()?);
    }
    let (mut shown, mut failures) = (Vec::new(), Vec::new());
    for layer in store.layers()?.into_values() {
        match layer.and_then(|layer| Shown::of(&store, &layer)) {
            Ok(layer) => shown.push(layer),
            Err(error) => failures.push(error),
        }
    }
    show::report(args.format, &shown, |out| {
        shown.iter().try_for_each(|layer| layer.print(out))
    })?;
    ended(failures)
}

/// One layer's fault keeps nobody from the others.
fn ended(mut failures: Vec<puzzlefs::Error>) -> Result<()> {
    let last = failures.pop();
    for error in &failures {
        out::note(&format!("{error:#}"));
    }
    last.map_or(Ok(()), |error| Err(error.into()))
}

fn add(args: &LayerStore, store: &layer_store::LayerStore, image: &Place) -> Result<()> {
    let from = pull::opened(image, &[], args.pulled.registry.options())?;
    let found = layer_store::find(&*from.remote, &from.name, &Platform::here())?;
    let places = match image {
        Place::Docker(image) => vec![image.repository.to_string()],
        _ => Vec::new(),
    };
    let layer = store.add(&found, &image.to_string(), &places)?;
    let shown = Shown::of(store, &layer)?;
    show::done(args.format, &shown, |out| shown.print(out))
}

fn opened(args: &LayerStore) -> Result<layer_store::LayerStore> {
    let kept = format!("layers/{}/", layer_store::id(&args.store)?);
    let node = Box::new(elsewhere::node(&args.pulled, &kept, &args.sources));
    let opened = layer_store::LayerStore::open(&args.store, &args.mounts, node);
    Ok(opened?)
}
