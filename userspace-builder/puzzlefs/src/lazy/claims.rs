// SPDX-License-Identifier: Apache-2.0
//! Who fetches which chunk: one that two packs lack comes once, and is copied from the one to the other.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use puzzlefs_format::Digest;

/// Chunks that somebody fetches.
#[derive(Default)]
pub struct Claims {
    coming: Mutex<HashSet<Digest>>,
    ended: Condvar,
}

/// Chunks that its owner fetches, until it is dropped.
pub struct Claim<'a> {
    claims: &'a Claims,
    chunks: Vec<Digest>,
}

impl Claims {
    fn coming(&self) -> MutexGuard<'_, HashSet<Digest>> {
        // It is whole between any two statements.
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes those of `chunks` that nobody fetches; gives the numbers of the others.
    pub fn claim(
        &self,
        chunks: impl Iterator<Item = (usize, Digest)>,
    ) -> (Claim<'_>, HashSet<usize>) {
        let (mut taken, mut others) = (Vec::new(), HashSet::new());
        let mut coming = self.coming();
        for (number, chunk) in chunks {
            match coming.insert(chunk) {
                true => taken.push(chunk),
                false => {
                    others.insert(number);
                }
            }
        }
        let chunks = taken;
        (
            Claim {
                claims: self,
                chunks,
            },
            others,
        )
    }

    /// Waits until nobody fetches any of `chunks`, but for no longer than `patience`: they may come from a source that
    /// stands still. Who waits must have no claim.
    pub fn wait(&self, chunks: &[Digest], patience: Duration) {
        let is_coming = |coming: &mut HashSet<Digest>| chunks.iter().any(|it| coming.contains(it));
        let waited = self
            .ended
            .wait_timeout_while(self.coming(), patience, is_coming);
        drop(waited);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut coming = self.claims.coming();
        for chunk in &self.chunks {
            coming.remove(chunk);
        }
        drop(coming);
        self.claims.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_fetched_by_one() {
        let (claims, chunk) = (Claims::default(), |byte| Digest::from_bytes([byte; 32]));
        let (first, others) =
            claims.claim([(0, chunk(1)), (1, chunk(2)), (2, chunk(1))].into_iter());
        assert_eq!(others, HashSet::from([2]));
        let (second, others) = claims.claim([(7, chunk(2)), (8, chunk(3))].into_iter());
        assert_eq!(others, HashSet::from([7]));
        drop(second);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| claims.wait(&[chunk(2)], Duration::MAX));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!waiter.is_finished());
            // Nobody waits for one who stands still.
            claims.wait(&[chunk(2)], Duration::from_millis(1));
            drop(first);
        });
        claims.wait(&[chunk(1), chunk(3)], Duration::MAX);
    }
}
