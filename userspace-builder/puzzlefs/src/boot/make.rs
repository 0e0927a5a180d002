// SPDX-License-Identifier: Apache-2.0
//! A boot image is made, and goes to a registry together with the PuzzleFS image that it starts: under one tag, of which
//! tools that know nothing of PuzzleFS take the boot image.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{ensure, Context, Result};
use flate2::write::GzEncoder;
use oci_spec::image::MediaType;
use puzzlefs_format::{Digest, Kind};
use serde::Serialize;
use serde_json::json;
use tar::{Builder, EntryType, Header};

use super::config::rewritten;
use super::places::{CERTS, DIR, PROGRAM, ROOT, STATE};
use super::state::State;
use crate::base::cleanup;
use crate::base::digest::{Blob, Hashing};
use crate::base::error::{Error, Where};
use crate::base::progress::Progress;
use crate::base::text;
use crate::image::walk::{Step, Walk};
use crate::image::Image;
use crate::layout::reference::{self, Name};
use crate::layout::staging::Staging;
use crate::layout::Layout;
use crate::registry::{self, trusted, Reference};
use crate::remote::push::{self, Push};
use crate::remote::with::With;
use crate::remote::{Local, Remote};

/// Where the program is looked for, from the directory of the command: as it is built, and as it is installed.
const PLACES: [&str; 2] = ["puzzlefs-boot", "../libexec/puzzlefs/boot"];
/// Bytes of the program, at most: a start waits for it.
const MAX_PROGRAM: u64 = 16 << 20;
const TAG: &str = "boot";
/// The directory besides the root that has links to directories in most images.
const VAR: &str = "var";
/// How many links go into the layer, and how many bytes each has of its path and of what it leads to, as any tar holds them.
const MAX_LINKS: usize = 256;
const MAX_LINK: usize = 100;

/// What the user chooses.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program, in place of the one that is installed.
    pub program: Option<PathBuf>,
    /// How the images go. What `with` and `stand_in` say is not looked at.
    pub push: Push,
}

/// A boot image that was made.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The digest of its manifest.
    pub boot: String,
    /// The bytes of its layer, compressed: what a runtime pulls.
    pub layer_bytes: u64,
    /// The bytes of the program.
    pub program_bytes: u64,
    /// What went to the registry.
    #[serde(flatten)]
    pub pushed: push::Report,
}

/// Makes a boot image for the image `name` of `layout`, and pushes both to `to`.
///
/// # Errors
///
/// The program is not there; as of [`push::push`].
pub fn make(
    layout: &Layout,
    name: &Name,
    to: &Reference,
    options: &Options,
    progress: &dyn Progress,
) -> crate::Result<Report> {
    let program = program(options.program.as_deref())?;
    let _kept = layout.keep_blobs(progress)?;
    let (dir, removal) = temporary()?;
    let made = work(layout, name, to, options, &program, &dir, progress);
    removal.finish(|| cleanup::remove_dir(&dir));
    made
}

fn work(
    layout: &Layout,
    name: &Name,
    to: &Reference,
    options: &Options,
    program: &[u8],
    dir: &Path,
    progress: &dyn Progress,
) -> crate::Result<Report> {
    // As it is pushed: that of an image that was pulled is not the one by which it is found here.
    let manifest = Local::new(layout.clone()).manifest(name)?.digest;
    let image = Image::open(&reference::Reference {
        layout: layout.path().to_owned(),
        name: name.clone(),
    })?;
    let kept = image.kept()?;
    let (_, taken) = rewritten(kept.text.as_deref(), &manifest)?;
    let registry = &options.push.registry;
    let state = State {
        manifest,
        source: Reference {
            repository: to.repository.clone(),
            name: Name::Digest(manifest),
        },
        plain_http: registry.plain_http,
        user: taken.user,
        has_home: taken.has_home,
    };
    let certs = certs(to, registry)?;
    let links = links(&image)?;

    let own = Layout::open_or_create(dir)?;
    let staging = Staging::new(&own)?;
    let mut draft = staging.begin()?;
    let diff_id = layer(&mut draft, program, &state.text()?, &certs, &links)?;
    let layer = staging.end(draft)?;
    let (config, _) = rewritten(kept.text.as_deref(), &diff_id)?;
    let config = staging.put_with(|out| Ok(out.write_all(&config)?))?;
    let text = manifest_text(&config, &layer)?;
    let boot = staging.put_with(|out| Ok(out.write_all(&text)?))?;
    staging.commit()?;
    let media_type = MediaType::ImageManifest.to_string();
    own.set_tag_as(TAG, &media_type, &boot.digest, boot.size)?;
    let push = Push {
        with: Some(With::Layout(reference::Reference::of_tag(dir, TAG))),
        stand_in: false,
        ..options.push.clone()
    };
    let pushed = push::push(layout, name, to, &push, progress)?;
    Ok(Report {
        boot: boot.digest.to_string(),
        layer_bytes: layer.size,
        program_bytes: program.len() as u64,
        pushed,
    })
}

/// The program.
fn program(named: Option<&Path>) -> crate::Result<Vec<u8>> {
    let own = std::env::current_exe().context("the command's own file")?;
    let usual = || PLACES.map(|place| own.with_file_name(place)).to_vec();
    let paths = named.map_or_else(usual, |path| vec![path.to_owned()]);
    for path in &paths {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            file => file.with_context(|| text::path(path)).at(path)?,
        };
        return read_program(file)
            .with_context(|| text::path(path))
            .at(path);
    }
    let paths: Vec<String> = paths.iter().map(|path| text::path(path)).collect();
    Err(Error::not_found(format!(
        "the program of boot images is not there: {}",
        paths.join(", ")
    )))
}

fn read_program(file: File) -> Result<Vec<u8>> {
    let mut program = Vec::new();
    file.take(MAX_PROGRAM + 1).read_to_end(&mut program)?;
    ensure!(
        program.len() as u64 <= MAX_PROGRAM && program.starts_with(b"\x7fELF"),
        Error::refused("it is no program, or one that is too large")
    );
    Ok(program)
}

/// A directory for a layout that only this process knows.
fn temporary() -> crate::Result<(PathBuf, cleanup::Guard)> {
    let all = std::env::temp_dir();
    let mut number = 0u32;
    loop {
        let dir = all.join(format!("puzzlefs-boot-{}-{number}", std::process::id()));
        let doomed = dir.clone();
        let make = || DirBuilder::new().mode(0o700).create(&dir);
        match cleanup::make(make, move || cleanup::remove_dir(&doomed)) {
            Ok(((), guard)) => return Ok((dir, guard)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && number < 1000 => number += 1,
            Err(error) => return Err(error).with_context(|| text::path(&dir)).at(&dir),
        }
    }
}

/// Whom the program is to trust: the authorities that this machine trusts for the registry, by names of files.
fn certs(to: &Reference, options: &registry::Options) -> crate::Result<Vec<(String, Vec<u8>)>> {
    if options.plain_http {
        return Ok(Vec::new());
    }
    let files = trusted(&to.repository.host, options.cert_dir.as_deref())?;
    let named = |(number, text)| (format!("{number}.crt"), text);
    Ok(files.into_iter().enumerate().map(named).collect())
}

/// The links that are in the image's root and in its /var, with what they lead to: runtimes mount at /var/run/secrets what
/// is to be in /run/secrets, and in a container that has no such link yet a directory would take its place.
fn links(image: &Image) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut links = Vec::new();
    let mut walk = Walk::new(image)?;
    while let Some(step) = walk.next()? {
        let Step::Enter(inode) = step else { continue };
        let path = walk.path();
        let bytes = |path: &Path| path.as_os_str().len();
        match inode.kind()? {
            Kind::Symlink(to) => {
                let to = Path::new(OsStr::from_bytes(to)).to_owned();
                // Longer ones are no directories that anybody mounts at.
                let is_short = bytes(path) <= MAX_LINK && bytes(&to) <= MAX_LINK;
                if is_short
                    && links.len() < MAX_LINKS
                    && Path::new("/").join(path) != Path::new(DIR)
                {
                    links.push((path.to_owned(), to));
                }
            }
            Kind::Dir(_) if bytes(path) > 0 && path != Path::new(VAR) => walk.skip(),
            _ => {}
        }
    }
    Ok(links)
}

/// Writes the layer: the same one for the same content. Gives the digest of what was compressed.
fn layer(
    out: &mut dyn Write,
    program: &[u8],
    state: &[u8],
    certs: &[(String, Vec<u8>)],
    links: &[(PathBuf, PathBuf)],
) -> Result<Digest> {
    let compressed = GzEncoder::new(out, flate2::Compression::best());
    let mut tar = Builder::new(Hashing::new(compressed));
    let relative = |path: &str| path.trim_start_matches('/').to_owned();
    add(&mut tar, &relative(DIR), None)?;
    // For roots that may not be written to.
    add(&mut tar, &relative(ROOT), None)?;
    add(&mut tar, &relative(PROGRAM), Some((program, 0o755)))?;
    add(&mut tar, &relative(STATE), Some((state, 0o644)))?;
    if !certs.is_empty() {
        add(&mut tar, &relative(CERTS), None)?;
    }
    for (name, text) in certs {
        let path = relative(&format!("{CERTS}/{name}"));
        add(&mut tar, &path, Some((text, 0o644)))?;
    }
    if links.iter().any(|(path, _)| path.starts_with(VAR)) {
        add(&mut tar, VAR, None)?;
    }
    for (path, to) in links {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, path, to)?;
    }
    let (compressed, content) = tar.into_inner()?.finish();
    compressed.finish().context("compressing the layer")?;
    Ok(content.digest)
}

/// What root has, of no time in particular.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// A directory, or a file with its content and its mode.
fn add(tar: &mut Builder<impl Write>, path: &str, file: Option<(&[u8], u32)>) -> Result<()> {
    let (content, mode) = file.unwrap_or((&[], 0o755));
    let kind = match file {
        Some(_) => EntryType::Regular,
        None => EntryType::Directory,
    };
    let mut header = header(kind, mode, content.len() as u64);
    header.set_path(path)?;
    header.set_cksum();
    Ok(tar.append(&header, content)?)
}

fn manifest_text(config: &Blob, layer: &Blob) -> crate::Result<Vec<u8>> {
    let descriptor = |media_type: MediaType, blob: &Blob| {
        json!({
            "mediaType": media_type,
            "digest": format!("sha256:{}", blob.digest),
            "size": blob.size,
        })
    };
    Ok(serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MediaType::ImageManifest,
        "config": descriptor(MediaType::ImageConfig, config),
        "layers": [descriptor(MediaType::ImageLayerGzip, layer)],
    }))?)
}
