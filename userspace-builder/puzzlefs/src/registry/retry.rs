// SPDX-License-Identifier: Apache-2.0
//! How often and after what time something is tried again.

use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::{Duration, SystemTime};

use ureq::http::{HeaderMap, StatusCode};

use crate::base::error::{Error, Result};

/// The first pause.
const FIRST: Duration = Duration::from_millis(500);
/// The longest pause that is made without being asked for it.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest one that a server may ask for: who wants more is to be asked another time.
const MAX_ASKED: Duration = Duration::from_secs(120);

/// How often something may still be tried.
#[derive(Clone, Debug)]
pub struct Retry {
    done: u32,
    most: u32,
}

impl Retry {
    /// After the first try, `most` more.
    pub fn new(most: u32) -> Self {
        Retry { done: 0, most }
    }

    /// From now on as at the beginning, since there was progress.
    pub fn reset(&mut self) {
        self.done = 0;
    }

    /// Waits before the next try: twice as long each time, and never equally long for many clients that
    /// a server has sent away together; or as long as it has asked for.
    ///
    /// # Errors
    ///
    /// `why`, if it was tried often enough, or the server wants a longer pause than anyone waits for.
    pub fn wait(&mut self, asked: Option<Duration>, why: Error) -> Result<()> {
        if self.done >= self.most {
            let tries = self.done + 1;
            return Err(match tries {
                1 => why,
                _ => why.context(format!("given up after {tries} tries")),
            });
        }
        if let Some(asked) = asked.filter(|asked| *asked > MAX_ASKED) {
            let text = format!("the server asks to come back in {} s", asked.as_secs());
            return Err(why.context(text));
        }
        let pause = FIRST.saturating_mul(1 << self.done.min(10)).min(LONGEST);
        self.done += 1;
        thread::sleep(jitter(pause).max(asked.unwrap_or_default()));
        Ok(())
    }
}

/// From half of `pause` to all of it.
fn jitter(pause: Duration) -> Duration {
    // Its keys differ each time.
    let random = RandomState::new().hash_one(0u8) % 1024;
    pause / 2 + pause / 2 * u32::try_from(random).unwrap_or(0) / 1024
}

/// Whether a server that answers so may answer otherwise a little later.
pub fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// What a Retry-After says: seconds, or a date as RFC 9110 wants it.
pub fn asked(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let at = date(text)?;
    Some(Duration::from_secs(at.saturating_sub(now.ok()?.as_secs())))
}

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(text: &str) -> Option<u64> {
    let (_, text) = text.split_once(", ")?;
    let parts: Vec<&str> = text.split([' ', ':']).collect();
    let [day, month, year, hour, minute, second, "GMT"] = parts[..] else {
        return None;
    };
    let names = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = names
        .find(month)
        .filter(|at| month.len() == 3 && at % 3 == 0)? as u64
        / 3
        + 1;
    let number = |text: &str, most: u64| text.parse().ok().filter(|n: &u64| *n <= most);
    let (year, day) = (number(year, 9999)?, number(day, 31)?);
    let (hour, minute, second) = (number(hour, 23)?, number(minute, 59)?, number(second, 60)?);
    // Days of the proleptic Gregorian calendar, with years that begin in March.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year.checked_sub(1)?, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let since = days.checked_sub(719_469)?;
    Some(((since * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        for _ in 0..100 {
            let pause = jitter(FIRST);
            assert!((FIRST / 2..=FIRST).contains(&pause), "{pause:?}");
        }
        let mut retry = Retry::new(1);
        let why = || Error::trouble("down");
        retry.wait(None, why()).unwrap();
        let given_up = retry.wait(None, why()).unwrap_err();
        assert_eq!(format!("{given_up:#}"), "given up after 2 tries: down");
        retry.reset();
        let long = retry.wait(Some(Duration::from_secs(100_000)), why());
        assert!(format!("{:#}", long.unwrap_err()).contains("100000 s"));
    }

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(date("Tue, 29 Feb 2028 12:00:00 GMT"), Some(1_835_438_400));
        for bad in [
            "",
            "x",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 ovD 1994 08:49:37 GMT",
            "Sun, 99 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 0 08:49:37 GMT",
        ] {
            assert_eq!(date(bad), None, "{bad}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(asked(&headers), None);
        headers.insert("retry-after", "7".parse().unwrap());
        assert_eq!(asked(&headers), Some(Duration::from_secs(7)));
        headers.insert(
            "retry-after",
            "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap(),
        );
        assert_eq!(asked(&headers), Some(Duration::ZERO));
        headers.insert("retry-after", "99999999999999999999".parse().unwrap());
        assert_eq!(asked(&headers), None);
    }
}
