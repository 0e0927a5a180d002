// SPDX-License-Identifier: Apache-2.0
//! puzzlefs snapshotter.

use puzzlefs::snapshotter::{self, Unpacked, KEPT};

use super::args::Snapshotter;
use super::failure::Result;
use super::{elsewhere, out};

/// Answers containerd until a signal ends it.
pub fn snapshotter(args: &Snapshotter) -> Result<()> {
    let node = elsewhere::node(&args.pulled, KEPT, &args.sources);
    let say = Box::new(|text: &str| out::note(text));
    let unpacked = match args.convert {
        true => Unpacked::IsConverted,
        false => Unpacked::Stays,
    };
    let node = Box::new(node);
    let it = snapshotter::Snapshotter::open(&args.root, &args.socket, node, unpacked, say)?;
    Ok(it.serve(std::future::pending())?)
}
