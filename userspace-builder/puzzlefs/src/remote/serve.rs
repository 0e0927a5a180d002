// SPDX-License-Identifier: Apache-2.0
//! `puzzlefs serve`: a layout answers over a pair of pipes.

use std::io::{self, BufRead, Read, Write};
use std::path::Path;

use super::layout::Local;
use super::seam::{Part, Remote};
use super::wire::{self, Request};
use crate::base::error::{Error, Result};
use crate::layout::Layout;

/// Answers requests about the layout at `path` until there is no other one.
///
/// # Errors
///
/// If something comes that is no request, or whoever asks has gone. What the layout does not have is an
/// answer, and so is that it is none.
pub fn serve(path: &Path, from: &mut dyn BufRead, to: &mut dyn Write) -> Result<()> {
    writeln!(to, "{}", wire::HELLO)?;
    let layout = match Layout::open(path) {
        Ok(layout) => Local::new(layout),
        Err(error) => {
            wire::write_error(to, &error)?;
            return Ok(to.flush()?);
        }
    };
    to.flush()?;
    while let Some(line) = wire::read_line(from)? {
        match Request::parse(&line) {
            Some(request) => answer(&layout, &request, to)?,
            None => {
                let error = Error::refused("this is no request of a puzzlefs that this one knows");
                wire::write_error(to, &error)?;
                to.flush()?;
                return Err(error);
            }
        }
        to.flush()?;
    }
    Ok(())
}

fn answer(layout: &Local, request: &Request, to: &mut dyn Write) -> io::Result<()> {
    let found: Result<(String, Box<dyn Read + '_>)> = match request {
        Request::Manifest(name) => layout.manifest(name).map(|document| {
            let text: Box<dyn Read> = Box::new(io::Cursor::new(document.text));
            (format!("ok {}", document.media_type), text)
        }),
        Request::Blob {
            digest,
            size,
            range,
        } => layout.range(digest, *size, range.clone()).map(|part| {
            let (Part::Range(body) | Part::Whole(body)) = part;
            let body: Box<dyn Read> = body;
            ("ok".into(), body)
        }),
    };
    match found {
        Err(error) => wire::write_error(to, &error),
        Ok((line, body)) => {
            writeln!(to, "{line}")?;
            body_in_frames(body, to)
        }
    }
}

fn body_in_frames(mut body: impl Read, to: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; wire::MAX_FRAME];
    loop {
        match body.read(&mut buffer) {
            Ok(count) => {
                wire::write_frame(to, &buffer[..count])?;
                if count == 0 {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                to.write_all(&wire::FAILED.to_be_bytes())?;
                return wire::write_error(to, &error.into());
            }
        }
    }
}
