// SPDX-License-Identifier: Apache-2.0
//! Archives of ordinary images, which may be hostile.

use std::fs::{self, File};
use std::io::Write;

use crate::common::command::PUZZLEFS;
use crate::common::ordinary::Place;
use tar::{Builder, EntryType, Header};

/// The header of an entry of `size` bytes.
fn header(entry_type: EntryType, name: &str, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(entry_type);
    header.set_path(name).unwrap();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header
}

/// What is said of the archive `x.tar`, with 1 GiB of memory.
fn said(place: &Place) -> String {
    let mut texts = Vec::new();
    for transport in ["oci-archive", "docker-archive"] {
        let mut command = std::process::Command::new("timeout");
        let image = format!("{}:x", place.at("none").display());
        let source = format!("{transport}:{}", place.at("x.tar").display());
        let limited = ["60", "prlimit", "--as=1073741824", PUZZLEFS];
        let output = command.args(limited).args(["convert", &source, &image]);
        let output = output.output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        texts.push(String::from_utf8(output.stderr).unwrap());
    }
    texts.join("\n")
}

/// A header that claims gigabytes, and they are there: a file takes no room for zeros.
#[test]
fn a_large_header_is_not_taken_into_memory() {
    let place = Place::new();
    for (entry_type, name) in [
        (EntryType::XHeader, "pax"),
        (EntryType::XGlobalHeader, "global"),
        (EntryType::GNULongName, "long"),
        (EntryType::GNULongLink, "link"),
    ] {
        let size = 4 << 30;
        let mut file = File::create(place.at("x.tar")).unwrap();
        file.write_all(header(entry_type, name, size).as_bytes())
            .unwrap();
        file.set_len(size + 2048).unwrap();
        let said = said(&place);
        assert_eq!(said.matches("a header of").count(), 2, "{name}: {said}");
    }
}

/// Members in any number, and names of any length, are not either.
#[test]
fn members_have_an_end() {
    let place = Place::new();
    let mut tar = Builder::new(std::io::BufWriter::new(
        File::create(place.at("x.tar")).unwrap(),
    ));
    for number in 0..=1 << 16 {
        let header = header(EntryType::Regular, &format!("{number}"), 0);
        tar.append(&header, std::io::empty()).unwrap();
    }
    tar.into_inner().unwrap().into_inner().unwrap();
    assert_eq!(said(&place).matches("65536 members").count(), 2);

    let mut tar = Builder::new(File::create(place.at("x.tar")).unwrap());
    let long = vec![b'x'; 4 << 20];
    for number in 0..20 {
        let long = [&long[..long.len() - 8], format!("{number:08}").as_bytes()].concat();
        let name = header(EntryType::GNULongName, "long", long.len() as u64);
        tar.append(&name, &long[..]).unwrap();
        tar.append(&header(EntryType::Regular, "x", 0), std::io::empty())
            .unwrap();
    }
    tar.into_inner().unwrap();
    assert_eq!(said(&place).matches("65536 members").count(), 2);
}

/// What a member has is not what a reader of holes would find.
#[test]
fn members_with_holes_and_cut_archives_are_refused() {
    let place = Place::new();
    place.sh("mkdir O; truncate -s 5M O/index.json; tar --format=posix --sparse -C O -cf x.tar .");
    assert_eq!(said(&place).matches("stored with holes").count(), 2);
    let mut file = File::create(place.at("x.tar")).unwrap();
    let header = header(EntryType::Regular, "index.json", 1000);
    file.write_all(header.as_bytes()).unwrap();
    file.write_all(&[b' '; 600]).unwrap();
    assert_eq!(said(&place).matches("cut off").count(), 2);
    fs::write(place.at("x.tar"), "no tar").unwrap();
    said(&place);
}
