// SPDX-License-Identifier: Apache-2.0
//! The proxy snapshotter as containerd sees it: by gRPC at its socket. Images are mounted by nobody here: a file says that
//! one is (case 61 has the kernel).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::containerd::*;
use puzzlefs::layout::reference::Name;
use puzzlefs::layout::stand_in::{StandIn, FILE, LABEL};
use puzzlefs::layout::Layout;
use puzzlefs::node::Node;
use puzzlefs::remote::Place;
use puzzlefs::snapshotter::{Images, Snapshotter, Unpacked, KEPT};
use puzzlefs::{Error, Result};
use puzzlefs_containerd::snapshots::Kind;
use puzzlefs_format::Digest;
use tonic::Code;

#[test]
fn ordinary_layers_are_overlayfs() {
    let dir = crate::common::scratch();
    let root = dir.path().join("root");
    with(&root, &Fake::default(), |mut it| async move {
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(it.root.with_extension("sock")), 0o600);
        assert_eq!(mode(it.root.clone()), 0o700);

        let first = it
            .prepare("ns/1/extract-1 sha256:a", "", &[])
            .await
            .unwrap();
        assert_eq!((first.len(), first[0].r#type.as_str()), (1, "bind"));
        assert_eq!(first[0].options, ["rw", "rbind"]);
        let files = PathBuf::from(&first[0].source);
        fs::write(files.join("file"), [1; 10_000]).unwrap();
        fs::create_dir(files.join("dir")).unwrap();
        let (size, inodes) = it.usage("ns/1/extract-1 sha256:a").await;
        assert!(size >= 10_000 && size % 512 == 0, "{size}");
        assert_eq!(inodes, 3);
        fs::set_permissions(&files, fs::Permissions::from_mode(0o750)).unwrap();
        it.commit("ns/2/sha256:a", "ns/1/extract-1 sha256:a")
            .await
            .unwrap();
        assert_eq!(it.usage("ns/2/sha256:a").await, (size, 3));
        let info = it.stat("ns/2/sha256:a").await.unwrap();
        assert_eq!((info.kind(), info.parent.as_str()), (Kind::Committed, ""));
        assert_eq!(info.labels, labels(&[("containerd.io/snapshot/a", "b")]));
        assert_eq!(
            it.stat("ns/1/extract-1 sha256:a").await,
            Err(Code::NotFound)
        );

        let second = it
            .prepare("two", "ns/2/sha256:a", &[("x", "y")])
            .await
            .unwrap();
        assert_eq!(second[0].r#type, "overlay");
        assert_eq!(option(&second, "lowerdir"), Some(first[0].source.as_str()));
        let upper = option(&second, "upperdir").unwrap();
        assert_eq!(
            mode(upper.into()),
            0o750,
            "the root's mode is that of the parent's"
        );
        assert!(Path::new(option(&second, "workdir").unwrap()).is_dir());
        assert_eq!(it.mounts("two").await.unwrap(), second);
        it.commit("three", "two").await.unwrap();
        let third = it.prepare("four", "three", &[]).await.unwrap();
        let lower = format!("{upper}:{}", first[0].source);
        assert_eq!(
            option(&third, "lowerdir"),
            Some(lower.as_str()),
            "the upper one is the first"
        );

        // Views can be read.
        let one = it.view("five", "ns/2/sha256:a").await.unwrap();
        assert_eq!(
            (one[0].r#type.as_str(), &one[0].source),
            ("bind", &first[0].source)
        );
        assert_eq!(one[0].options, ["ro", "rbind"]);
        let both = it.view("six", "three").await.unwrap();
        assert_eq!(option(&both, "lowerdir"), Some(lower.as_str()));
        assert_eq!(option(&both, "upperdir"), None);
        let none = it.view("seven", "").await.unwrap();
        assert_eq!(none[0].options, ["ro", "rbind"]);

        // As containerd's own snapshotters say it.
        assert_eq!(
            it.prepare("four", "three", &[]).await,
            Err(Code::AlreadyExists)
        );
        assert_eq!(it.prepare("eight", "nine", &[]).await, Err(Code::NotFound));
        assert_eq!(
            it.prepare("eight", "four", &[]).await,
            Err(Code::InvalidArgument)
        );
        assert_eq!(it.mounts("three").await, Err(Code::FailedPrecondition));
        assert_eq!(it.mounts("eight").await, Err(Code::NotFound));
        assert_eq!(
            it.commit("eight", "six").await,
            Err(Code::FailedPrecondition)
        );
        assert_eq!(it.commit("eight", "nine").await, Err(Code::NotFound));
        assert_eq!(it.commit("three", "four").await, Err(Code::AlreadyExists));
        assert_eq!(it.remove("three").await, Err(Code::FailedPrecondition));
        assert_eq!(it.remove("eight").await, Err(Code::NotFound));
        assert_eq!(it.stat("").await, Err(Code::NotFound));

        for key in ["four", "five", "six", "seven", "three", "ns/2/sha256:a"] {
            it.remove(key).await.unwrap();
        }
        assert_eq!(it.list(&[]).await.unwrap(), [""; 0]);
        assert_eq!(it.directories(), [""; 0]);
    });
}

#[test]
fn labels_are_changed_and_found() {
    let dir = crate::common::scratch();
    let root = dir.path().join("root");
    with(&root, &Fake::default(), |mut it| async move {
        it.prepare("a", "", &[("x", "1"), ("y", "2")])
            .await
            .unwrap();
        it.commit("b", "a").await.unwrap();
        it.view("c", "b").await.unwrap();
        let info = it.update("b", &[("x", "3")], &["labels.x"]).await.unwrap();
        assert_eq!(
            info.labels,
            labels(&[("containerd.io/snapshot/a", "b"), ("x", "3")])
        );
        // An empty value takes a label away.
        let info = it.update("b", &[], &["labels.x"]).await.unwrap();
        assert_eq!(info.labels, labels(&[("containerd.io/snapshot/a", "b")]));
        for paths in [&["labels"][..], &[]] {
            let info = it
                .update("b", &[("z", "4"), ("u.v", "5")], paths)
                .await
                .unwrap();
            assert_eq!(info.labels, labels(&[("z", "4"), ("u.v", "5")]));
            it.update("b", &[("w", "6")], paths).await.unwrap();
        }
        let before = it.stat("b").await.unwrap();
        for path in ["kind", "parent", "name", "labelsx", ""] {
            assert_eq!(
                it.update("b", &[], &[path]).await,
                Err(Code::InvalidArgument),
                "{path}"
            );
        }
        assert_eq!(it.update("d", &[], &["labels"]).await, Err(Code::NotFound));
        assert_eq!(it.stat("b").await.unwrap(), before);
        assert!(before.updated_at.unwrap().seconds >= before.created_at.unwrap().seconds);

        let found = |filters: &'static [&'static str]| {
            let mut client = It {
                client: it.client.clone(),
                root: it.root.clone(),
                images: it.images.clone(),
            };
            async move { client.list(filters).await }
        };
        assert_eq!(
            found(&["kind==view", "labels.w==6"]).await.unwrap(),
            ["b", "c"]
        );
        assert_eq!(found(&["parent==b"]).await.unwrap(), ["c"]);
        assert_eq!(found(&["labels.w==7"]).await.unwrap(), [""; 0]);
        assert_eq!(found(&["labels.w="]).await, Err(Code::InvalidArgument));
        // More than go into one message.
        for number in 0..205 {
            it.view(&format!("v{number}"), "b").await.unwrap();
        }
        assert_eq!(it.list(&["kind==view"]).await.unwrap().len(), 206);
    });
}

#[test]
fn an_image_need_not_be_unpacked() {
    let dir = crate::common::scratch();
    let root = dir.path().join("root");
    let images = Fake::default();
    let (image, name) = stand_in(1);
    with(&root, &images, |mut it| async move {
        let pulled = "containerd.io/snapshot/cri.image-ref";
        let of = [
            (REF, name.as_str()),
            (LABEL, image.text.as_str()),
            (pulled, "m.example/web:1"),
        ];
        it.images.is_down.store(true, Ordering::Relaxed);
        assert_eq!(it.prepare("ns/1/x", "", &of).await, Err(Code::Unavailable));
        assert_eq!(it.directories(), [""; 0]);
        it.images.is_down.store(false, Ordering::Relaxed);
        for key in ["ns/1/x", "ns/2/y"] {
            assert_eq!(it.prepare(key, "", &of).await, Err(Code::AlreadyExists));
        }
        assert_eq!(it.images.asked.lock().unwrap()[0], "docker://m.example/web");
        // What containerd asks next (metadata/snapshot.go).
        let filter = format!("labels.\"{REF}\"=={name},parent==\"\"");
        let found = it.list(&[&filter]).await.unwrap();
        assert_eq!(found.len(), 1);
        let top = found[0].clone();
        assert_eq!(it.stat(&top).await.unwrap().kind(), Kind::Committed);
        assert_eq!(it.usage(&top).await, (4096, 3));
        let mounts = it.prepare("container", &top, &[]).await.unwrap();
        let lower = option(&mounts, "lowerdir").unwrap().to_owned();
        assert!(Path::new(&lower).join("mounted").exists() && lower.ends_with("/image"));
        let view = it.view("view", &top).await.unwrap();
        assert_eq!(
            (&view[0].source, view[0].options[0].as_str()),
            (&lower, "ro")
        );

        // Who says of a name that it is that of another image is not believed: it is a layer as any other.
        let (other, _) = stand_in(2);
        let of = [(REF, "sha256:base"), (LABEL, other.text.as_str())];
        let mounts = it.prepare("ns/3/z", "", &of).await.unwrap();
        assert_eq!(mounts[0].r#type, "bind");
        let of = [(REF, "sha256:base"), (LABEL, "{}")];
        it.prepare("ns/4/z", "", &of).await.unwrap();

        for key in ["container", "view"] {
            assert_eq!(it.remove(&top).await, Err(Code::FailedPrecondition));
            it.remove(key).await.unwrap();
        }
        assert_eq!(it.images.kept.lock().unwrap().len(), 1);
        it.remove(&top).await.unwrap();
        assert!(it.images.kept.lock().unwrap().is_empty());
        for key in ["ns/3/z", "ns/4/z"] {
            it.remove(key).await.unwrap();
        }
        assert_eq!(it.directories(), [""; 0]);
    });
}

#[test]
fn an_unpacked_stand_in_is_the_image() {
    let dir = crate::common::scratch();
    let root = dir.path().join("root");
    let (image, name) = stand_in(1);
    with(&root, &Fake::default(), |mut it| async move {
        let mut number = 0;
        let mut unpack = async |it: &mut It, name: &str, fill: &dyn Fn(&Path)| {
            number += 1;
            let key = format!("ns/{number}/extract-1 {name}");
            let mounts = it.prepare(&key, "", &[]).await.unwrap();
            fill(Path::new(&mounts[0].source));
            let name = format!("ns/{number}b/{name}");
            it.commit(&name, &key).await.unwrap();
            name
        };
        let text = image.text.clone();
        let whole = |files: &Path| fs::write(files.join(FILE), &text).unwrap();
        it.images.is_down.store(true, Ordering::Relaxed);
        let top = unpack(&mut it, &name, &whole).await;
        // The pull does not wait for it, the container does.
        assert_eq!(it.prepare("c", &top, &[]).await, Err(Code::Unavailable));
        it.images.is_down.store(false, Ordering::Relaxed);
        let mounts = it.prepare("c", &top, &[]).await.unwrap();
        let lower = option(&mounts, "lowerdir").unwrap();
        assert!(Path::new(lower).join("mounted").exists());

        // What a container can make is no image.
        let (_, other) = stand_in(2);
        let link = |files: &Path| {
            fs::write(files.with_file_name("elsewhere"), &text).unwrap();
            std::os::unix::fs::symlink("../elsewhere", files.join(FILE)).unwrap();
        };
        let more = |files: &Path| {
            whole(files);
            fs::write(files.join("more"), "").unwrap();
        };
        for (name, fill) in [
            (&other, &whole as &dyn Fn(&Path)),
            (&name, &link),
            (&name, &more),
        ] {
            let top = unpack(&mut it, name, fill).await;
            let mounts = it.view(&format!("view of {top}"), &top).await.unwrap();
            assert!(mounts[0].source.ends_with("/fs"), "{mounts:?}");
        }
    });
}

#[test]
fn snapshots_outlive_the_process() {
    let dir = crate::common::scratch();
    let root = dir.path().join("root");
    let images = Fake::default();
    let (image, name) = stand_in(1);
    let (of, inner) = (name.clone(), image.clone());
    let before = with(&root, &images, |mut it| async move {
        let of = [(REF, of.as_str()), (LABEL, inner.text.as_str())];
        it.prepare("x", "", &of).await.unwrap_err();
        it.prepare("container", &name, &[("a", "b")]).await.unwrap();
        it.prepare("plain", "", &[]).await.unwrap();
        it.commit("layer", "plain").await.unwrap();
        it.view("view", "layer").await.unwrap();
        let infos = [
            it.stat("container").await,
            it.stat("view").await,
            it.stat(&name).await,
        ];
        (it.mounts("container").await, infos, name)
    });
    // The machine was started again: nothing is mounted, and something was half made.
    let (mounts, infos, name) = before;
    let lower = PathBuf::from(option(mounts.as_ref().unwrap(), "lowerdir").unwrap());
    fs::remove_file(lower.join("mounted")).unwrap();
    let snapshots = root.join("snapshots");
    fs::create_dir_all(snapshots.join("77/fs/dir")).unwrap();
    fs::create_dir_all(snapshots.join("78/image")).unwrap();
    fs::write(snapshots.join("78/image/mounted"), "").unwrap();
    fs::write(snapshots.join("1/info.json.new"), "{").unwrap();
    fs::create_dir(snapshots.join("79")).unwrap();
    fs::write(snapshots.join("79/info.json"), "{").unwrap();
    images
        .kept
        .lock()
        .unwrap()
        .insert(Digest::from_bytes([9; 32]));
    with(&root, &images, |mut it| async move {
        let again = [
            it.stat("container").await,
            it.stat("view").await,
            it.stat(&name).await,
        ];
        assert_eq!(again, infos);
        assert!(lower.join("mounted").exists());
        assert_eq!(it.mounts("container").await, mounts);
        let kept: Vec<Digest> = it.images.kept.lock().unwrap().iter().copied().collect();
        assert_eq!(kept, [image.manifest]);
        // What cannot be read is not touched.
        let there = it.directories();
        assert!(
            !there.contains(&"77".into()) && !there.contains(&"78".into()),
            "{there:?}"
        );
        assert!(there.contains(&"79".into()));
        it.prepare("new", "layer", &[]).await.unwrap();
        assert!(it.directories().contains(&"80".into()));
        it.cleanup().await;
        for key in ["new", "view", "layer", "container"] {
            it.remove(key).await.unwrap();
        }
        it.remove(&name).await.unwrap();
        it.until(|it| it.images.kept.lock().unwrap().is_empty())
            .await;
        assert_eq!(it.directories(), ["79"]);
    });
    // Two at once would take each other's snapshots for left over.
    let say = || Box::new(|_: &str| ());
    let socket = dir.path().join("other.sock");
    let open = || {
        Snapshotter::open(
            &root,
            &socket,
            Box::new(images.clone()),
            Unpacked::Stays,
            say(),
        )
    };
    let first = crate::common::soon(open);
    let second = Snapshotter::open(
        &root,
        &socket,
        Box::new(images.clone()),
        Unpacked::Stays,
        say(),
    );
    assert!(matches!(second, Err(Error::Refused(_))));
    drop(first);
    let bad = dir.path().join("a:b");
    let bad = Snapshotter::open(&bad, &socket, Box::new(images), Unpacked::Stays, say());
    assert!(matches!(bad, Err(Error::Refused(_))));
}

/// A committed layer, whose only file is called `file`.
async fn layer(it: &mut It, name: &str, parent: &str, file: &str) -> PathBuf {
    let key = format!("extract {name}");
    let mounts = it.prepare(&key, parent, &[]).await.unwrap();
    let files = match option(&mounts, "upperdir") {
        Some(upper) => PathBuf::from(upper),
        None => PathBuf::from(&mounts[0].source),
    };
    fs::write(files.join(file), file).unwrap();
    it.commit(name, &key).await.unwrap();
    files
}

#[test]
fn ordinary_layers_become_images() {
    let dir = crate::common::scratch();
    let root = dir.path().join("root");
    let images = Fake::default();
    let kept = |it: &It| it.images.kept.lock().unwrap().len();
    // What was there before stays as it is as long as a container has it.
    let used = with(&root, &images, |mut it| async move {
        let used = layer(&mut it, "used", "", "a").await;
        layer(&mut it, "unused", "", "b").await;
        it.prepare("before", "used", &[]).await.unwrap();
        used
    });
    with_layers(&root, &images, Unpacked::IsConverted, |mut it| async move {
        it.until(|it| kept(it) == 1).await;
        assert!(used.join("a").exists());
        // Nobody waits for a conversion in the commit. Whoever builds on the layer does, and gets the image.
        let slow = Arc::clone(&it.images.is_slow);
        slow.store(true, Ordering::Relaxed);
        let low = layer(&mut it, "low", "", "c").await;
        assert_eq!((kept(&it), low.join("c").exists()), (1, true));
        let waker = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            slow.store(false, Ordering::Relaxed);
        });
        let high = layer(&mut it, "high", "low", "d").await;
        waker.join().unwrap();
        let mounts = it.prepare("c", "high", &[]).await.unwrap();
        let lower = option(&mounts, "lowerdir").unwrap();
        let mounted = |path: &str| Path::new(path).join("mounted").exists();
        assert!(
            lower.split(':').count() == 2 && lower.split(':').all(mounted),
            "{lower}"
        );
        it.until(|_| !high.exists() && !low.exists()).await;
        // Its usage is that of the image.
        assert_eq!(it.usage("low").await, (4096, 3));
        // One that cannot be converted is used as it is.
        it.images.is_down.store(true, Ordering::Relaxed);
        let plain = layer(&mut it, "plain", "", "e").await;
        let mounts = it.view("v", "plain").await.unwrap();
        assert_eq!(PathBuf::from(&mounts[0].source), plain);
        it.images.is_down.store(false, Ordering::Relaxed);
        // Nor is one whose image was collected meanwhile.
        it.images.is_forgotten.store(true, Ordering::Relaxed);
        let collected = layer(&mut it, "collected", "", "g").await;
        it.view("w", "collected").await.unwrap();
        assert!(collected.join("g").exists());
        it.images.is_forgotten.store(false, Ordering::Relaxed);
        // One that is removed while it is converted leaves nothing.
        it.images.is_slow.store(true, Ordering::Relaxed);
        let gone = layer(&mut it, "gone", "", "f").await;
        it.remove("gone").await.unwrap();
        it.images.is_slow.store(false, Ordering::Relaxed);
        it.until(|_| !gone.parent().unwrap().exists()).await;
        for key in [
            "w",
            "collected",
            "v",
            "plain",
            "c",
            "high",
            "low",
            "before",
            "used",
            "unused",
        ] {
            it.remove(key).await.unwrap();
        }
        it.until(|it| kept(it) == 0).await;
        assert_eq!(it.directories(), [""; 0]);
    });
}

#[test]
fn a_conversion_that_was_interrupted_is_done_again() {
    let dir = crate::common::scratch();
    let root = dir.path().join("root");
    let images = Fake::default();
    let files = with(&root, &images, |mut it| async move {
        layer(&mut it, "layer", "", "a").await
    });
    // Before the record said so, and after that.
    fs::create_dir(files.with_file_name("image")).unwrap();
    for _ in 0..2 {
        let left = &files;
        with_layers(&root, &images, Unpacked::IsConverted, |mut it| async move {
            it.until(|_| !left.exists()).await;
            let mounts = it.view("v", "layer").await.unwrap();
            assert!(mounts[0].source.ends_with("/image"), "{mounts:?}");
            it.remove("v").await.unwrap();
        });
        assert!(!files.exists());
        fs::create_dir(&files).unwrap();
        fs::write(files.join("a"), "left").unwrap();
    }
}

#[test]
fn who_needs_a_layer_of_before_does_not_wait_for_its_turn() {
    let dir = crate::common::scratch();
    let root = dir.path().join("root");
    let images = Fake::default();
    with(&root, &images, |mut it| async move {
        layer(&mut it, "a", "", "a").await;
        layer(&mut it, "b", "", "b").await;
    });
    images.is_slow.store(true, Ordering::Relaxed);
    with_layers(&root, &images, Unpacked::IsConverted, |mut it| async move {
        let mounts = it.view("v", "b").await.unwrap();
        let files = PathBuf::from(&mounts[0].source);
        it.images.is_slow.store(false, Ordering::Relaxed);
        it.until(|it| it.images.kept.lock().unwrap().len() == 1)
            .await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(files.ends_with("fs") && files.join("b").exists());
        assert_eq!(it.images.kept.lock().unwrap().len(), 1);
    });
}

#[test]
fn names_are_no_paths() {
    let dir = crate::common::scratch();
    let root = dir.path().join("root");
    with(&root, &Fake::default(), |mut it| async move {
        let long = "x".repeat(32 << 10);
        let names = [
            "../../../out",
            "/etc/passwd",
            "a\0b",
            "..",
            "a\nb",
            "\u{202e}x",
            &long,
        ];
        for name in names {
            it.prepare(name, "", &[]).await.unwrap();
            assert_eq!(it.stat(name).await.unwrap().name, name);
        }
        assert!(it
            .directories()
            .iter()
            .all(|name| name.parse::<u64>().is_ok()));
        let inside = fs::read_dir(it.root.parent().unwrap()).unwrap().count();
        assert_eq!(inside, 2, "the root and the socket");
        assert_eq!(it.prepare("", "", &[]).await, Err(Code::InvalidArgument));
        let longer = "x".repeat((32 << 10) + 1);
        assert_eq!(
            it.prepare(&longer, "", &[]).await,
            Err(Code::InvalidArgument)
        );
        let value = "x".repeat(4096);
        assert_eq!(
            it.prepare("a", "", &[("y", &value)]).await,
            Err(Code::InvalidArgument)
        );
        assert_eq!(
            it.prepare("a", "", &[("y", &value[1..])]).await.map(|_| ()),
            Ok(())
        );
        assert_eq!(
            it.update("a", &[("z", &value)], &["labels.z"]).await,
            Err(Code::InvalidArgument)
        );
        for name in names {
            it.remove(name).await.unwrap();
        }
    });
}

#[test]
fn places_are_asked_in_order() {
    let dir = crate::common::scratch();
    let layout = dir.path().join("images/layout");
    let (image, _) = stand_in(1);
    let digest = image.manifest;
    let ask = |only_from: bool| {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let pull = move |place: &Place, tag: &str| {
            seen.lock().unwrap().push(place.to_string());
            assert_eq!(tag, format!("containerd/{digest}"));
            Err(Error::from(std::io::Error::other("nobody is there")))
        };
        let from = ["docker://m.example/any:1".parse().unwrap()];
        let node = Node::new(&layout, KEPT, &from, only_from, Box::new(pull));
        // Only registries: an image could have the node look into its own files otherwise.
        let places = ["docker://cri.example/web".to_owned(), "oci:/etc".to_owned()];
        let error = node.bring(&image, &places).unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains("nobody is there") && error.contains(&digest.to_string()),
            "{error}"
        );
        let asked = asked.lock().unwrap().clone();
        asked
    };
    let at = |place: &str| format!("docker://{place}@sha256:{digest}");
    let all = [
        at("m.example/any"),
        at("cri.example/web"),
        at("h.example/a/web"),
    ];
    assert_eq!(ask(false), all);
    assert_eq!(ask(true), all[..1]);
}

#[test]
fn what_is_here_is_not_pulled() {
    let dir = crate::common::scratch();
    let (root, layout) = (dir.path().join("root"), dir.path().join("layout"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), crate::common::noise(300_000, 1)).unwrap();
    crate::common::build_into(&root, &layout, "tag", &crate::common::options());
    let manifest = Layout::open(&layout)
        .unwrap()
        .resolve(&Name::Tag("tag".into()));
    let image = StandIn::new(&manifest.unwrap().digest, "docker://h.example/a").unwrap();
    let pull = |_: &Place, _: &str| -> Result<Digest> { panic!("it is here") };
    let node = Node::new(&layout, KEPT, &[], false, Box::new(pull));
    assert!(node.kept().unwrap().is_empty());
    node.bring(&image, &[]).unwrap();
    // It stays when the other tag goes.
    let opened = Layout::open(&layout).unwrap();
    opened.remove_tag(&Name::Tag("tag".into())).unwrap();
    assert!(node.is_here(&image).unwrap());
    assert_eq!(node.kept().unwrap(), BTreeSet::from([image.manifest]));
    let usage = node.usage(&image).unwrap();
    assert!(usage.size >= 300_000 && usage.inodes >= 3, "{usage:?}");
    node.release(&image.manifest).unwrap();
    node.release(&image.manifest).unwrap();
    assert!(node.kept().unwrap().is_empty() && !node.is_here(&image).unwrap());
    // No other image is here.
    let (other, _) = stand_in(1);
    assert!(!node.is_here(&other).unwrap() && node.usage(&other).is_err());
}
