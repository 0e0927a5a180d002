// SPDX-License-Identifier: Apache-2.0
//! What is wrong with a mounted image, for its log: a chunk once, and no more lines than anybody can read.

use std::collections::HashSet;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use puzzlefs_format::Digest;

/// Lines within [`PERIOD`].
const LINES: u32 = 10;
const PERIOD: Duration = Duration::from_secs(5);
/// Chunks that are remembered to have been logged. An image that has more damaged ones is logged by the
/// rate alone.
const REMEMBERED: usize = 4096;

/// Where a line is written.
pub type Log = Box<dyn Fn(&str) + Send + Sync>;

/// The log of an image.
pub struct Faults {
    image: String,
    log: Log,
    state: Mutex<State>,
}

struct State {
    begun: Instant,
    lines: u32,
    /// Lines that were left out.
    lost: u64,
    chunks: HashSet<Digest>,
}

impl Faults {
    /// That of `image`, by which name lines begin.
    pub fn new(image: String, log: Log) -> Self {
        let state = State {
            begun: Instant::now(),
            lines: 0,
            lost: 0,
            chunks: HashSet::new(),
        };
        Faults {
            image,
            log,
            state: Mutex::new(state),
        }
    }

    /// Says what is wrong with a chunk of inode `ino`, unless it was said before.
    pub fn of_chunk(&self, ino: u64, chunk: &Digest, what: impl Display) {
        self.say(Some(chunk), &|| {
            format!("inode {ino}: chunk sha256:{chunk}: {what}")
        });
    }

    /// Says what is wrong with the metadata of inode `ino`.
    pub fn of_inode(&self, ino: u64, what: impl Display) {
        self.say(None, &|| format!("inode {ino}: {what}"));
    }

    fn say(&self, chunk: Option<&Digest>, text: &dyn Fn() -> String) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if chunk.is_some_and(|chunk| state.chunks.contains(chunk)) {
            return;
        }
        let now = Instant::now();
        if now.duration_since(state.begun) > PERIOD {
            if state.lost > 0 {
                let lost = state.lost;
                (self.log)(&format!("{}: {lost} more faults", self.image));
            }
            (state.begun, state.lines, state.lost) = (now, 0, 0);
        }
        if state.lines == LINES {
            state.lost += 1;
            return;
        }
        state.lines += 1;
        if let Some(chunk) = chunk.filter(|_| state.chunks.len() < REMEMBERED) {
            state.chunks.insert(*chunk);
        }
        drop(state);
        (self.log)(&format!("{}: {}", self.image, text()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_chunk_is_logged_once_and_lines_are_limited() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let into = lines.clone();
        let log: Log = Box::new(move |line| into.lock().unwrap().push(line.to_owned()));
        let faults = Faults::new("/l:tag".into(), log);
        let digest = Digest::from_bytes([7; 32]);
        (0..5).for_each(|_| faults.of_chunk(3, &digest, "bad"));
        (0..20).for_each(|ino| faults.of_inode(ino, "bad"));
        let lines = lines.lock().unwrap();
        assert_eq!(lines.len(), LINES as usize);
        assert_eq!(
            lines[0],
            format!("/l:tag: inode 3: chunk sha256:{digest}: bad")
        );
        assert_eq!(lines[1], "/l:tag: inode 0: bad");
    }
}
