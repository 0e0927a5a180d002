// SPDX-License-Identifier: Apache-2.0
//! What profiles of images list, in the order in which it is fetched. A list is a hint: what it says costs time, and what
//! somebody waits for goes before it.

use std::collections::HashMap;
use std::ops::Range;

use puzzlefs_format::Digest;

use super::filling::Filling;

/// Bytes of a request.
const LARGEST: u64 = 16 << 20;
/// With so many bytes under way no other request begins: what is first in the list is not to share the line with all that
/// follows.
const UNDER_WAY: u64 = 8 << 20;
/// Requests that are under way, at most: small ones, if chunks do not lie side by side.
const REQUESTS: usize = 6;
/// Bytes between two chunks that are fetched along with them.
const GAP: u64 = 128 << 10;

/// Chunks of all lists, at most: they are 5 MB of memory.
const MOST: usize = 1 << 17;

/// The chunks that an image lists.
struct List {
    /// Of which image.
    image: Digest,
    /// Pack and chunk, by their numbers.
    chunks: Vec<(usize, usize)>,
    /// No chunk before this one is missing.
    next: usize,
    /// When somebody wanted the first of them, counted in such lists; 0: nobody did.
    begun: u64,
}

/// The lists of all images, the newest image first.
#[derive(Default)]
pub struct Lists {
    lists: Vec<List>,
    /// Which is the first list that has a chunk.
    of: HashMap<(usize, usize), usize>,
    count: u64,
    requests: usize,
    bytes: u64,
}

impl Lists {
    /// Takes other lists: of images the packs and the chunks, by their numbers, of which those count that are missing.
    /// Lists that were begun stay so.
    pub fn replace(&mut self, packs: &[Filling], lists: Vec<(Digest, Vec<(usize, usize)>)>) {
        let begun = self.lists.iter().map(|list| (list.image, list.begun));
        let begun: HashMap<Digest, u64> = begun.collect();
        let mut room = MOST;
        self.lists.clear();
        for (image, mut chunks) in lists {
            chunks.retain(|(pack, chunk)| packs.get(*pack).is_some_and(|it| it.is_missing(*chunk)));
            chunks.truncate(room);
            room -= chunks.len();
            if !chunks.is_empty() {
                let begun = begun.get(&image).copied().unwrap_or(0);
                chunks.shrink_to_fit();
                self.lists.push(List {
                    image,
                    chunks,
                    next: 0,
                    begun,
                });
            }
        }
        self.of = HashMap::new();
        for (number, list) in self.lists.iter().enumerate() {
            for chunk in &list.chunks {
                self.of.entry(*chunk).or_insert(number);
            }
        }
    }

    /// The list that somebody begins who wants chunks of a pack, if one of them is missing and listed.
    pub fn begin(
        &mut self,
        packs: &[Filling],
        pack: usize,
        mut chunks: Range<usize>,
    ) -> Option<usize> {
        if self.of.is_empty() {
            return None;
        }
        let is_missing = |chunk: &usize| packs.get(pack).is_some_and(|it| it.is_missing(*chunk));
        let number = chunks.find_map(|chunk| {
            let listed = self.of.get(&(pack, chunk)).copied();
            listed.filter(|_| is_missing(&chunk))
        })?;
        let list = &mut self.lists[number];
        if list.begun > 0 {
            return None;
        }
        self.count += 1;
        list.begun = self.count;
        Some(number)
    }

    /// The next chunks of a list, taken for a request.
    pub fn take(&mut self, packs: &mut [Filling], list: usize) -> Option<(usize, Range<usize>)> {
        let list = &mut self.lists[list];
        let is_missing = |(pack, chunk): &(usize, usize)| {
            packs.get(*pack).is_some_and(|it| it.is_missing(*chunk))
        };
        while !is_missing(list.chunks.get(list.next)?) {
            list.next += 1;
        }
        let (pack, first) = list.chunks[list.next];
        let filling = &mut packs[pack];
        let mut bytes = filling.take_one(first)?;
        let mut end = first + 1;
        for (other, chunk) in &list.chunks[list.next + 1..] {
            if *other != pack {
                break;
            }
            if (first..end).contains(chunk) {
                continue;
            }
            let between = end..*chunk;
            let gap = filling.sizes.get(between.clone());
            let gap = gap.map(|sizes| sizes.iter().map(|size| u64::from(*size)).sum::<u64>());
            let Some(gap) = gap.filter(|gap| *gap <= GAP) else {
                break;
            };
            let is_all = (end..chunk + 1).all(|chunk| filling.is_missing(chunk));
            let size = filling.sizes.get(*chunk).map_or(0, |size| u64::from(*size));
            if !is_all || bytes + gap + size > LARGEST {
                break;
            }
            for chunk in end..chunk + 1 {
                bytes += filling.take_one(chunk).unwrap_or(0);
            }
            end = chunk + 1;
        }
        Some((pack, first..end))
    }

    /// What of the lists is fetched now. First of those that somebody has begun, the last of these first; if it `fills`,
    /// also of the others, the newest image first.
    pub fn next(&mut self, packs: &mut [Filling], fills: bool) -> Option<(usize, Range<usize>)> {
        if self.requests >= REQUESTS || self.bytes >= UNDER_WAY {
            return None;
        }
        let mut order: Vec<usize> = (0..self.lists.len()).collect();
        order.retain(|list| fills || self.lists[*list].begun > 0);
        order.sort_by_key(|list| std::cmp::Reverse(self.lists[*list].begun));
        order.into_iter().find_map(|list| self.take(packs, list))
    }

    /// The same of whatever list.
    pub fn take_any(&mut self, packs: &mut [Filling]) -> Option<(usize, Range<usize>)> {
        (0..self.lists.len()).find_map(|list| self.take(packs, list))
    }

    /// Whether something of them is being fetched.
    pub fn is_under_way(&self) -> bool {
        self.requests > 0
    }

    /// Notes that a request of so many bytes has begun.
    pub fn begun(&mut self, bytes: u64) {
        self.requests += 1;
        self.bytes += bytes;
    }

    /// Notes that one has ended. What did not come is missing again.
    pub fn ended(&mut self, bytes: u64, is_done: bool) {
        self.requests -= 1;
        self.bytes -= bytes;
        if !is_done {
            self.lists.iter_mut().for_each(|list| list.next = 0);
        }
    }
}
