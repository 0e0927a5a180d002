// SPDX-License-Identifier: GPL-2.0

//! Tests of `kmod/vfs/output.rs`, which needs nothing of the kernel but its errors.

extern crate self as kernel;

/// What it takes from the prelude of the kernel crate.
pub mod prelude {
    pub type Result<T = (), E = i32> = core::result::Result<T, E>;
    pub const EIO: i32 = 5;
    pub const EINVAL: i32 = 22;
}

#[path = "../../kmod/vfs/output.rs"]
mod output;

use core::mem::MaybeUninit;
use output::Output;
use prelude::{Result, EINVAL, EIO};

/// What comes of ten bytes of memory, with `x` in it, that `fill` is to write.
fn filled(fill: impl FnOnce(&mut Output<'_>) -> Result) -> Result<String> {
    let mut memory = [MaybeUninit::new(b'x'); 10];
    Output::fill(&mut memory, fill).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

#[test]
fn what_is_written_whole_is_there() {
    let whole = filled(|output| {
        output.write(b"0123")?;
        assert_eq!((output.written(), output.size()), (4, 10));
        output.write(b"456789")
    });
    assert_eq!(whole, Ok("0123456789".into()));
}

#[test]
fn what_is_not_written_whole_is_an_error() {
    assert_eq!(filled(|_| Ok(())), Err(EIO));
    assert_eq!(filled(|output| output.write(b"012345678")), Err(EIO));
    assert_eq!(filled(|_| Err(7)), Err(7));
}

#[test]
fn what_is_too_long_changes_nothing() {
    let result = filled(|output| {
        assert_eq!(output.write(b"0123456789a"), Err(EINVAL));
        output.write(b"0123456789")?;
        assert_eq!(output.write(b"a"), Err(EINVAL));
        output.write(b"")
    });
    assert_eq!(result, Ok("0123456789".into()));
}

#[test]
fn what_is_forgotten_must_be_written_again() {
    let again = |count| {
        filled(move |output| {
            output.write(b"0123456789")?;
            output.truncate(4);
            output.truncate(8);
            output.write(&b"abcdef"[..count])
        })
    };
    assert_eq!(again(5), Err(EIO));
    assert_eq!(again(6), Ok("0123abcdef".into()));
}

#[test]
fn another_output_in_its_place_does_not_count() {
    let result = filled(|output| {
        let (bytes, written) = (Box::leak(Box::new([b'y'; 10])), Box::leak(Box::new(10)));
        *output = Output::resume(bytes, written);
        assert_eq!(output.written(), 10);
        Ok(())
    });
    assert_eq!(result, Err(EIO));
}

#[test]
fn what_was_written_before_stays() {
    let (mut bytes, mut written) = (*b"0123xxxxxx", 4);
    let mut output = Output::resume(&mut bytes, &mut written);
    assert_eq!(output.write(b"abc"), Ok(()));
    assert_eq!((&bytes, written), (b"0123abcxxx", 7));
    written = 11;
    assert_eq!(Output::resume(&mut bytes, &mut written).written(), 10);
}
