// SPDX-License-Identifier: GPL-2.0

use crate::chunk::{content, manifest, name, pack, sha256, Zstd};
use crate::message::{extent, files};
use crate::*;
use vfs::{lower::Layout, Lines, PageCache};

#[test]
fn one() {
    let data = content(200_000, 1);
    let chunk = Zstd::PLAIN.chunk(&data);
    let rootfs = files(6, vec![vec![extent(&chunk, true, 0, 200_000)]]).write(1 << 16);
    let pack = pack(&[chunk]);
    let manifest = manifest(&rootfs, &[pack.clone()]);
    let layout = Layout::new();
    for blob in [&rootfs, &pack, &manifest] {
        layout.insert(&name(blob), blob.clone());
    }
    let machine = Machine::new().unwrap();
    let lines = Lines::new(10);
    let image = Image::mount(&machine, &layout, &sha256(&manifest), None, &lines);
    println!("{:?}", lines.take());
    let image = image.unwrap();
    let inode = image.inode(2).unwrap();
    let file = inode.open().unwrap();
    let mut pages = PageCache::default();
    let (bytes, result) = file.read(
        &mut pages,
        0,
        u64::MAX,
        How {
            window: 1 << 17,
            seed: 1,
        },
    );
    println!("{:?}", lines.take());
    assert_eq!(result, Ok(()));
    assert!(bytes == data);
}

#[test]
fn any() {
    let mut seed = 1u64;
    for _ in 0..300 {
        let mut bytes = Vec::new();
        for _ in 0..300 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.push((seed >> 40) as u8);
        }
        let name = format!("{:x}", seed);
        std::fs::write("/tmp/host-last", &bytes).unwrap();
        let _ = name;
        crate::ways::check(&bytes);
    }
}

#[test]
fn case() {
    if let Ok(path) = std::env::var("HOST_CASE") {
        crate::ways::check(&std::fs::read(path).unwrap());
    }
}

#[test]
fn show() {
    let Ok(path) = std::env::var("HOST_CASE") else { return };
    let bytes = std::fs::read(path).unwrap();
    let mut choices = crate::recipe::Choices::new(&bytes);
    let recipe = crate::recipe::Recipe::new(&mut choices);
    println!("packs {} sound {} files {:?}", recipe.packs, recipe.is_sound, recipe.files.iter().map(Vec::len).collect::<Vec<_>>());
    let lines = Lines::new(100);
    for attempt in 0..2 {
    let machine = Machine::new().unwrap();
    let image = Image::mount(&machine, &recipe.layout, &recipe.digest, None, &lines).unwrap();
    for ino in 2..2 + recipe.files.len() as u64 {
        let inode = image.inode(ino).unwrap();
        let file = match inode.open() { Ok(file) => file, Err(error) => { println!("{ino}: {error:?}"); continue } };
        for (end, extent) in file.opened().extents().all().unwrap().extents() {
            match extent {
                None => println!("{ino}: hole to {end}"),
                Some(extent) => {
                    let chunk = extent.chunk(&image.content, crate::report::Purpose::Inode(ino)).unwrap();
                    let size = chunk.stored().size().unwrap();
                    let mut stored = vec![0; size];
                    chunk.stored().read(&mut stored).unwrap();
                    println!("{ino}: to {end} offset {} compressed {} stored {size} {:02x?} .. {:02x?}", extent.offset, extent.compressed, &stored[..30.min(size)], &stored[size.saturating_sub(60)..]);
                    println!("    {:?}", puzzlefs_format::Encoding::parse(&stored, 6));
                }
            }
        }
        let mut cache = PageCache::default();
        let mut order: Vec<u64> = (0..file.size().div_ceil(4096)).collect();
        if attempt == 1 { order.reverse(); }
        let said: Vec<String> = order.iter().map(|page| {
            let (_, result) = file.read(&mut cache, page * 4096, 4096, How { window: 0, seed: 0 });
            format!("{page}:{result:?}")
        }).collect();
        println!("{ino}: {} {:?}", said.join(" "), lines.take());
    }
    }
}
