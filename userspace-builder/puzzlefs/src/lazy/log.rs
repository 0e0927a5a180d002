// SPDX-License-Identifier: Apache-2.0
//! Lines for people: each once in a while, not too many, and with the images that it is about.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use puzzlefs_format::{limits, Digest, Manifest};

use super::engine::Told;
use crate::base::progress::Progress;
use crate::layout::Layout;

/// A line that was said is not said again for so long, and no more than so many others are.
const WHILE: Duration = Duration::from_secs(10);
const MOST: usize = 10;
/// Images that are named in a line.
const IMAGES: usize = 3;
/// How long it is believed which images have a pack.
const BELIEVED: Duration = Duration::from_secs(30);

/// What is to be said.
#[derive(Default)]
pub struct Log(Mutex<Lines>);

/// A line, with the pack that it is about.
type Line = (Option<Digest>, String);

#[derive(Default)]
struct Lines {
    to_say: Vec<Line>,
    /// What was said lately, and how much was not.
    said: Vec<(Instant, String)>,
    left_out: u64,
    /// What has become of the disk since it was last said.
    disk: Option<Line>,
}

impl Lines {
    /// Whether the line is said.
    fn add(&mut self, pack: Option<Digest>, line: &str) -> bool {
        self.said.retain(|(when, _)| when.elapsed() < WHILE);
        if self.said.iter().any(|(_, known)| known == line) || self.said.len() >= MOST {
            return false;
        }
        self.said.push((Instant::now(), line.into()));
        self.to_say.push((pack, line.into()));
        true
    }
}

impl Log {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        // It is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says a line, which is about a pack or about none.
    pub fn add(&self, pack: Option<Digest>, line: String) {
        let mut lines = self.lines();
        lines.left_out += u64::from(!lines.add(pack, &line));
    }

    /// Says what has become of the disk. It is told of once, so it is said later if there were too many lines.
    fn add_disk(&self, pack: Option<Digest>, line: String) {
        let mut lines = self.lines();
        lines.disk = match lines.add(pack, &line) {
            true => None,
            false => Some((pack, line)),
        };
    }

    /// Says what is wrong with packs and images.
    pub fn add_all(&self, faults: &[crate::Error]) {
        for fault in faults {
            self.add(fault.fault().digest, format!("{fault:#}"));
        }
    }

    /// Says what an engine tells that people are to know; gives a reader that waits no more, and whether what it waited for
    /// is there.
    pub fn told(&self, told: Told) -> Option<(u64, bool)> {
        match told {
            Told::Ready(waiter) => return Some((waiter, true)),
            Told::Late(waiter) => return Some((waiter, false)),
            Told::Came(_) => {}
            Told::Trouble(pack, error) => self.add(Some(pack), format!("{error:#}")),
            Told::Full(error) => {
                let text = "nothing is fetched until there is space";
                self.add_disk(error.fault().digest, format!("{error:#}; {text}"));
            }
            Told::Space => self.add_disk(None, "there is space again".into()),
        }
        None
    }

    /// Says what was added, with the images of `layouts` that it is about.
    pub fn say(&self, names: &mut Names, layouts: &[Layout], progress: &dyn Progress) {
        let (to_say, left_out) = {
            let mut lines = self.lines();
            let is_over = lines.said.iter().all(|(when, _)| when.elapsed() >= WHILE);
            let left_out = match is_over {
                true => std::mem::take(&mut lines.left_out),
                false => 0,
            };
            if let Some((pack, line)) = lines.disk.take() {
                if !lines.add(pack, &line) {
                    lines.disk = Some((pack, line));
                }
            }
            (std::mem::take(&mut lines.to_say), left_out)
        };
        for (pack, line) in to_say {
            let names = pack.map(|pack| names.of(&pack, layouts));
            let names = names.filter(|names| !names.is_empty());
            let names = names.map_or_else(String::new, |names| format!("{names}: "));
            progress.note(&format!("{names}{line}"));
        }
        if left_out > 0 {
            progress.note(&format!("{left_out} lines like these were left out"));
        }
    }
}

/// Which images have which packs.
#[derive(Default)]
pub struct Names {
    known: HashMap<Digest, String>,
    since: Option<Instant>,
}

impl Names {
    /// What images that have a pack are called.
    fn of(&mut self, pack: &Digest, layouts: &[Layout]) -> String {
        if self.since.is_none_or(|since| since.elapsed() >= BELIEVED) {
            self.known.clear();
            self.since = Some(Instant::now());
        }
        let names = self.known.entry(*pack);
        names.or_insert_with(|| images(pack, layouts)).clone()
    }
}

/// The same, of one pack. What cannot be read has no name.
fn images(pack: &Digest, layouts: &[Layout]) -> String {
    let mut names = Vec::new();
    for layout in layouts {
        for (manifest, tag) in layout.manifests().unwrap_or_default() {
            let text = layout.read_blob(&manifest, limits::MAX_MANIFEST_BYTES as u64);
            let text = text.unwrap_or_default();
            let has_it = Manifest::parse(&text).is_ok_and(|manifest| {
                let mut layers = manifest.layers().flatten();
                layers.any(|layer| layer.digest == *pack)
            });
            if has_it {
                let image =
                    tag.map_or_else(|| format!("@sha256:{manifest}"), |tag| format!(":{tag}"));
                names.push(format!("{}{image}", layout.path().display()));
            }
        }
    }
    let more = names.len().saturating_sub(IMAGES);
    names.truncate(IMAGES);
    match more {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::progress::Unit;

    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Progress for Notes {
        fn phase(&self, _: &str, _: u64, _: Unit) {}
        fn advance(&self, _: u64) {}
        fn note(&self, text: &str) {
            self.0.lock().unwrap().push(text.into());
        }
    }

    #[test]
    fn a_thousand_lines_are_ten() {
        let (log, notes) = (Log::default(), Notes::default());
        for number in 0..1000 {
            log.add(None, format!("line {}", number % 500));
            log.say(&mut Names::default(), &[], &notes);
        }
        assert_eq!(notes.0.lock().unwrap().len(), MOST);
        log.lines().said.clear();
        log.say(&mut Names::default(), &[], &notes);
        let said = notes.0.lock().unwrap();
        assert_eq!(said.last().unwrap(), "990 lines like these were left out");
    }

    #[test]
    fn what_became_of_the_disk_last_is_said_in_the_end() {
        let (log, notes) = (Log::default(), Notes::default());
        for _ in 0..3 {
            log.add_disk(None, "full".into());
            log.add_disk(None, "space".into());
            log.say(&mut Names::default(), &[], &notes);
        }
        log.add_disk(None, "full".into());
        for _ in 0..2 {
            log.say(&mut Names::default(), &[], &notes);
            assert_eq!(*notes.0.lock().unwrap(), ["full", "space"]);
        }
        // Later.
        log.lines().said.clear();
        for _ in 0..2 {
            log.say(&mut Names::default(), &[], &notes);
            assert_eq!(*notes.0.lock().unwrap(), ["full", "space", "full"]);
        }
    }
}
