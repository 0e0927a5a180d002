// SPDX-License-Identifier: Apache-2.0
//! puzzlefs node.

use puzzlefs::layout::Layout;
use puzzlefs::node::{Node, Options, Service, KEPT};
use puzzlefs::remote::Place;

use super::args;
use super::bundle::is_watched;
use super::failure::Result;
use super::{elsewhere, out};

/// Answers containers until a signal ends it.
pub fn node(args: &args::Node) -> Result<()> {
    let (layout, daemon) = (args.layout.clone(), args.daemon.clone());
    let options = args.registry.options();
    let pull = move |place: &Place, tag: &str| {
        let lazily = |layout: &Layout| is_watched(&daemon, layout);
        let to = (&*layout, tag);
        elsewhere::pull_into((place, &[]), || options.clone(), to, None, lazily)
    };
    let node = Node::new(&args.layout, KEPT, &[], false, Box::new(pull));
    let options = Options {
        socket: args.socket.clone(),
        mode: args.mode,
        allowed: args.allow.clone(),
        images: args.images.into(),
    };
    let service = Service::new(node, options, Box::new(|text: &str| out::note(text)));
    Ok(service.serve(&service.listen()?)?)
}
