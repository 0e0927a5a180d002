// SPDX-License-Identifier: Apache-2.0

//! The metadata of real images, ours and upstream's.

use format_tests::agree::{agree, Expect};
use puzzlefs::image::Image;
use puzzlefs::layout::Layout;
use std::path::Path;

/// Reads all images of the OCI layouts that `PUZZLEFS_LAYOUTS` names, `:` between them.
#[test]
#[ignore = "needs layouts: PUZZLEFS_LAYOUTS=DIR:DIR... cargo test --test real -- --ignored"]
fn layouts() {
    let layouts = std::env::var("PUZZLEFS_LAYOUTS").expect("PUZZLEFS_LAYOUTS is set");
    for path in layouts.split(':') {
        let layout = Layout::open(Path::new(path)).unwrap();
        let manifests = layout.manifests().unwrap();
        assert!(!manifests.is_empty(), "{path} is empty");
        for (digest, _) in manifests {
            let image = Image::with_manifest(&layout, &digest).unwrap();
            let image = image.expect("an image");
            let inodes = agree(&image.message(), Expect::Valid);
            let layers = image.rootfs().unwrap().layers();
            let blocks = image.blocks().len();
            println!("{path} {digest}: {inodes} inodes in {layers} layers, {blocks} blocks agree");
        }
    }
}
