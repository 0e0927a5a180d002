// SPDX-License-Identifier: GPL-2.0

//! The fuzz target `read_path` on some bytes that are always the same.

#[test]
fn any_image_is_read_alike_in_every_way() {
    let mut seed = 1_u64;
    for _ in 0..150 {
        let mut bytes = Vec::new();
        for _ in 0..300 {
            seed = vfs::folio::next(seed);
            bytes.push((seed >> 40) as u8);
        }
        crate::ways::check(&bytes);
    }
}
