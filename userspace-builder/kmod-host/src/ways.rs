// SPDX-License-Identifier: GPL-2.0

//! Every way to read a file, and what must hold of all of them: the fuzz target `read_path` and a
//! test go through them.

use crate::recipe::{Choices, Recipe};
use crate::{File, How, Image, Inode, Kind, Machine, Request};
use kernel::{alloc, prelude::*};
use vfs::{folio::Pressure, parallel::Tasks, task, Lines, PageCache};

const PAGE: u64 = kernel::page::PAGE_SIZE as u64;

/// Pages of a file that are looked at: a hole may have any size.
const MAX_PAGES: u64 = 64;

/// Memory that the module may have in use for one of these images, in bytes: idle slots, and
/// one large chunk, of which a damaged table says as much as it may, in its three forms.
const MAX_MEMORY: isize = (12 + 5) << 20;

/// What each page of a file is: its bytes, or why they cannot be had.
type Pages = Vec<Result<Vec<u8>>>;

/// Reads the image of `bytes` in every way.
///
/// # Panics
///
/// If they do not agree, or take more than they may.
pub fn check(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let recipe = Recipe::new(&mut choices);
    undisturbed();
    let lines = Lines::new(usize::MAX);
    let before = alloc::in_use();
    alloc::restart();
    {
        let machine = Machine::new().expect("there is memory");
        let plain = Image::mount(
            &machine,
            &recipe.layout,
            &recipe.digest,
            Request::default(),
            &lines,
        );
        let Ok(plain) = plain else {
            assert!(!recipe.is_sound, "it does not mount: {:?}", lines.take());
            return;
        };
        let machine = Machine::new().expect("there is memory");
        for ino in 2..2 + recipe.files.len() as u64 {
            let expected = recipe.files.get(ino as usize - 2);
            let expected = expected.and_then(Option::as_deref);
            let Ok((pages, ..)) = reference(&plain, &recipe, ino, expected, &lines) else {
                continue;
            };
            let mount = || {
                Image::mount(
                    &machine,
                    &recipe.layout,
                    &recipe.digest,
                    Request::default(),
                    &lines,
                )
            };
            let _ = lines.take();
            let other = mount().expect("it was mounted before");
            disturbed(&mut choices, &recipe, &other, ino, &pages);
        }
    }
    undisturbed();
    let most = alloc::peak() - before;
    assert!(most <= MAX_MEMORY, "{most} bytes at a time");
    assert_eq!(alloc::in_use(), before, "memory is lost");
}

/// Nothing fails, nobody is killed, and there is memory.
fn undisturbed() {
    Pressure::NONE.set();
    Tasks::Alone(1).set();
    alloc::fail_in(None);
    task::dies_in(None);
}

/// Reads file `ino` page by page, and holds it against what is known of it.
fn reference(
    image: &Image,
    recipe: &Recipe,
    ino: u64,
    expected: Option<&[u8]>,
    lines: &Lines,
) -> Result<(Pages, u64)> {
    let opened = image.inode(ino);
    let result = opened.and_then(|inode| {
        let file = inode.open()?;
        Ok((by_page(recipe, &file), file.size()))
    });
    let (pages, size) = match result {
        Ok(read) => read,
        Err(error) => {
            assert!(!recipe.is_sound, "cannot be opened: {error:?}");
            return Err(error);
        }
    };
    let is_all = pages.iter().all(Result::is_ok);
    assert!(
        is_all || !recipe.is_sound,
        "cannot be read: {:?}",
        lines.take()
    );
    // A message that was damaged may say what it likes.
    if recipe.is_sound {
        let expected = expected.expect("nothing is damaged");
        assert_eq!(size, expected.len() as u64);
        for (page, known) in pages.iter().zip(expected.chunks(PAGE as usize)) {
            assert!(
                page.as_ref().is_ok_and(|page| page == known),
                "other bytes than were put there"
            );
        }
    }
    Ok((pages, size))
}

fn by_page(recipe: &Recipe, file: &File<'_>) -> Pages {
    let mut cache = PageCache::default();
    let count = file.size().div_ceil(PAGE).min(MAX_PAGES);
    let page = |index| {
        let before = recipe.layout.counts().0;
        let how = How { window: 0, seed: 0 };
        let (bytes, result) = file.read(&mut cache, index * PAGE, PAGE, how);
        let reads = recipe.layout.counts().0 - before;
        let most = max_reads(recipe, file);
        assert!(
            reads <= most,
            "{reads} reads for one page, more than {most}"
        );
        result.map(|()| bytes)
    };
    (0..count).map(page).collect()
}

/// How often the layout may be read for one call: each extent's chunk in each pack, once for the
/// window, and once more for each of some pages; the packs' indexes, and metadata.
fn max_reads(recipe: &Recipe, file: &File<'_>) -> u64 {
    let extents = file.extents().unwrap_or(100) as u64;
    let packs = recipe.packs as u64 + 1;
    (2 * extents + 16) * packs * 2
}

/// Reads file `ino` in some other ways.
fn disturbed(choices: &mut Choices<'_>, recipe: &Recipe, image: &Image, ino: u64, pages: &Pages) {
    for _ in 0..4 {
        let max_order = u32::from(choices.byte() % 10);
        let one_in = [0, 0, 4, 16][choices.below(4)];
        let pressure = Pressure {
            max_order,
            one_in,
            seed: choices.byte().into(),
        };
        pressure.set();
        Tasks::Alone(1 + choices.below(4)).set();
        match choices.byte() % 4 {
            0 => alloc::fail_in(Some(choices.below(60) as u64)),
            1 => task::dies_in(Some(choices.below(60) as u64)),
            _ => {}
        }
        let is_passing = |error| matches!(error, ENOMEM | EINTR);
        match image.inode(ino) {
            Ok(inode) => some_way(choices, &inode, pages, max_order),
            Err(error) => assert!(is_passing(error), "no inode now: {error:?}"),
        }
        undisturbed();
    }
    // Whatever has failed meanwhile has left nothing behind.
    let inode = image.inode(ino).expect("it was there before");
    let file = inode.open().expect("it was opened before");
    for (index, (then, now)) in pages.iter().zip(by_page(recipe, &file)).enumerate() {
        let is_same = *then == now;
        let errors = (then.as_ref().err(), now.err());
        assert!(
            is_same,
            "page {index} reads otherwise later: {errors:?} {:?}",
            image.lines()
        );
    }
}

fn some_way(choices: &mut Choices<'_>, inode: &Inode<'_>, pages: &Pages, max_order: u32) {
    let Kind::File(size) = *inode.kind() else {
        panic!("it was a file");
    };
    let file = match inode.open() {
        Ok(file) => file,
        Err(ENOMEM | EINTR) => return,
        Err(error) => panic!("cannot be opened now: {error:?}"),
    };
    let mut cache = PageCache::default();
    let end = size.min(MAX_PAGES * PAGE);
    for _ in 0..4 {
        let position = match choices.one_in(2) {
            true => 0,
            false => choices.below(end as usize) as u64,
        };
        let len = match choices.byte() % 3 {
            0 => 1 + choices.below(9000) as u64,
            1 => 128 << 10,
            _ => end,
        };
        let len = len.min(end.saturating_sub(position));
        let how = How {
            window: [0, 4096, 16 << 10, 128 << 10, 1 << 20][choices.below(5)],
            seed: choices.byte().into(),
        };
        let (bytes, result) = match choices.byte() % 4 {
            0 if file.is_small() => {
                let (bytes, all) = file.copy_shared(position, len);
                if all == Ok(true) {
                    assert_eq!(bytes.len() as u64, len);
                }
                (bytes, all.map(|_| ()))
            }
            1 => {
                cache.forget();
                file.read(&mut cache, position, len, how)
            }
            _ => file.read(&mut cache, position, len, how),
        };
        agrees(&bytes, result, position, pages, max_order);
    }
}

/// What was read from `position` on is what was read page by page.
fn agrees(bytes: &[u8], result: Result, position: u64, pages: &Pages, max_order: u32) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = position + (bytes.len() - rest.len()) as u64;
        match &pages[(at / PAGE) as usize] {
            Ok(page) => {
                let page = &page[(at % PAGE) as usize..];
                let (now, behind) = rest.split_at(page.len().min(rest.len()));
                assert!(page.starts_with(now), "other bytes from {at} on");
                rest = behind;
            }
            Err(error) => panic!("what fails by {error:?} can be read at {at}"),
        }
    }
    let Err(error) = result else { return };
    if matches!(error, ENOMEM | EINTR) {
        return;
    }
    let at = ((position + bytes.len() as u64) / PAGE) as usize;
    let there = pages.get(at..).unwrap_or_default();
    let expected = there.first().and_then(|page| page.as_ref().err());
    if max_order == 0 {
        assert_eq!(expected, Some(&error), "page {at} fails otherwise");
        return;
    }
    // A folio fails as a whole, by what is wrong with any page of it.
    let mut fails = pages.iter().filter_map(|page| page.as_ref().err());
    assert!(
        fails.any(|other| *other == error),
        "page {at} fails by {error:?}"
    );
}
