// SPDX-License-Identifier: Apache-2.0
//! puzzlefs node.

use puzzlefs::node::{Options, Service, KEPT};

use super::args;
use super::failure::Result;
use super::{elsewhere, out};

/// Answers containers until a signal ends it.
pub fn node(args: &args::Node) -> Result<()> {
    let node = elsewhere::node(&args.pulled, KEPT, &args::Sources::default());
    let options = Options {
        socket: args.socket.clone(),
        mode: args.mode,
        allowed: args.allow.clone(),
        images: args.images.into(),
    };
    let service = Service::new(node, options, Box::new(|text: &str| out::note(text)));
    Ok(service.serve(&service.listen()?)?)
}
