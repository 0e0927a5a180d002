// SPDX-License-Identifier: Apache-2.0
//! Lines that strangers cause: a few in a while, and how many there were more.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many lines are said in such a time.
const MOST: u32 = 20;
const WHILE: Duration = Duration::from_secs(10);

/// Who says them.
pub(super) struct Few {
    say: Box<dyn Fn(&str) + Send + Sync>,
    said: Mutex<Said>,
}

struct Said {
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl Few {
    pub fn new(say: Box<dyn Fn(&str) + Send + Sync>) -> Self {
        let said = Said {
            since: Instant::now(),
            lines: 0,
            left_out: 0,
        };
        Few {
            say,
            said: Mutex::new(said),
        }
    }

    /// Says a line, or counts it: the next one that is said says how many there were.
    pub fn say(&self, line: &str) {
        // It is whole between any two statements.
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.since.elapsed() >= WHILE {
            (said.since, said.lines) = (Instant::now(), 0);
        }
        if said.lines >= MOST {
            said.left_out += 1;
            return;
        }
        said.lines += 1;
        if said.left_out > 0 {
            let left_out = std::mem::take(&mut said.left_out);
            (self.say)(&format!("{left_out} lines like these were left out"));
        }
        (self.say)(line);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_thousand_lines_are_few() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&said);
        let few = Few::new(Box::new(move |line| {
            noted.lock().unwrap().push(line.to_owned())
        }));
        for number in 0..1000 {
            few.say(&number.to_string());
        }
        assert_eq!(said.lock().unwrap().len(), MOST as usize);
        few.said.lock().unwrap().since -= WHILE;
        few.say("later");
        let said = said.lock().unwrap();
        assert_eq!(
            said[MOST as usize..],
            ["980 lines like these were left out", "later"]
        );
    }
}
