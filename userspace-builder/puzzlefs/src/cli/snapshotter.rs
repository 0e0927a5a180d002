// SPDX-License-Identifier: Apache-2.0
//! puzzlefs snapshotter.

use puzzlefs::layout::Layout;
use puzzlefs::node::Node;
use puzzlefs::remote::Place;
use puzzlefs::snapshotter::{self, KEPT};

use super::args::Snapshotter;
use super::bundle::is_watched;
use super::failure::Result;
use super::{elsewhere, out};

/// Answers containerd until a signal ends it.
pub fn snapshotter(args: &Snapshotter) -> Result<()> {
    let (layout, daemon) = (args.layout.clone(), args.daemon.clone());
    let (from, options) = (args.from.clone(), args.registry.options());
    let pull = move |place: &Place, tag: &str| {
        let lazily = |layout: &Layout| is_watched(&daemon, layout);
        let to = (&*layout, tag);
        elsewhere::pull_into((place, &from), || options.clone(), to, None, lazily)
    };
    let pull = Box::new(pull);
    let node = Node::new(&args.layout, KEPT, &args.from, args.only_from, pull);
    let say = Box::new(|text: &str| out::note(text));
    let it = snapshotter::Snapshotter::open(&args.root, &args.socket, Box::new(node), say)?;
    Ok(it.serve(std::future::pending())?)
}
