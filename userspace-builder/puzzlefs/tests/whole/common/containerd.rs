// SPDX-License-Identifier: Apache-2.0
//! containerd's side of the snapshotter's interface, and images of which a file says that they are mounted.

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use puzzlefs::base::digest::sha256;
use puzzlefs::layout::stand_in::StandIn;
use puzzlefs::snapshotter::{Images, Snapshotter, Unpacked, Usage};
use puzzlefs::{Error, Result};
use puzzlefs_containerd::prost_types::FieldMask;
use puzzlefs_containerd::snapshots::snapshots_client::SnapshotsClient;
use puzzlefs_containerd::snapshots::*;
use puzzlefs_containerd::types::Mount;
use puzzlefs_format::Digest;
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::Code;

pub const REF: &str = "containerd.io/snapshot.ref";

/// Images of which a file says that they are mounted.
#[derive(Clone, Default)]
pub struct Fake {
    pub kept: Arc<Mutex<BTreeSet<Digest>>>,
    /// Nobody gives an image.
    pub is_down: Arc<AtomicBool>,
    /// Somebody lets go of what is converted before a snapshot has it.
    pub is_forgotten: Arc<AtomicBool>,
    /// No conversion ends.
    pub is_slow: Arc<AtomicBool>,
    /// Whom it was asked of.
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl Images for Fake {
    fn is_here(&self, image: &StandIn) -> Result<bool> {
        Ok(self.kept.lock().unwrap().contains(&image.manifest))
    }
    fn bring(&self, image: &StandIn, places: &[String]) -> Result<()> {
        self.asked.lock().unwrap().extend_from_slice(places);
        if self.is_down.load(Ordering::Relaxed) {
            let down = std::io::Error::from(std::io::ErrorKind::HostUnreachable);
            return Err(Error::from(down));
        }
        self.kept.lock().unwrap().insert(image.manifest);
        Ok(())
    }
    fn convert(&self, files: &Path) -> Result<StandIn> {
        while self.is_slow.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
        if self.is_down.load(Ordering::Relaxed) {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(Error::from(full));
        }
        let names = fs::read_dir(files)?.map(|it| it.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        if self.is_forgotten.load(Ordering::Relaxed) {
            return StandIn::new(&sha256(&[b"collected"]), "");
        }
        let manifest = sha256(&[format!("{names:?}").as_bytes()]);
        self.kept.lock().unwrap().insert(manifest);
        StandIn::new(&manifest, "")
    }
    fn mount(&self, _: &StandIn, target: &Path) -> Result<()> {
        Ok(fs::write(target.join("mounted"), "")?)
    }
    fn is_mounted(&self, target: &Path) -> Result<bool> {
        Ok(target.join("mounted").exists())
    }
    fn unmount(&self, target: &Path) -> Result<()> {
        let _ = fs::remove_file(target.join("mounted"));
        Ok(())
    }
    fn release(&self, manifest: &Digest) -> Result<()> {
        self.kept.lock().unwrap().remove(manifest);
        Ok(())
    }
    fn kept(&self) -> Result<BTreeSet<Digest>> {
        Ok(self.kept.lock().unwrap().clone())
    }
    fn usage(&self, _: &StandIn) -> Result<Usage> {
        Ok(Usage {
            size: 4096,
            inodes: 3,
        })
    }
}

/// A snapshotter that answers, and who asks it.
pub struct It {
    pub root: PathBuf,
    pub images: Fake,
    pub client: SnapshotsClient<Channel>,
}

/// A snapshotter for as long as `work` takes.
pub fn with<F: Future>(root: &Path, images: &Fake, work: impl FnOnce(It) -> F) -> F::Output {
    with_layers(root, images, Unpacked::Stays, work)
}

/// The same, and what becomes of ordinary layers.
pub fn with_layers<F: Future>(
    root: &Path,
    images: &Fake,
    unpacked: Unpacked,
    work: impl FnOnce(It) -> F,
) -> F::Output {
    let socket = root.with_extension("sock");
    let say = |_: &str| ();
    // A program that another test starts has this one's files for a moment, and so the lock of one that has ended.
    let it = super::soon(|| {
        let images = Box::new(images.clone());
        Snapshotter::open(root, &socket, images, unpacked, Box::new(say))
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        let until = async move {
            let _ = stopped.await;
        };
        it.serve(until).unwrap();
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let done = runtime.block_on(async {
        let connect = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = endpoint.connect_with_connector(connect).await.unwrap();
        let client = SnapshotsClient::new(channel);
        let (root, images) = (root.to_owned(), images.clone());
        work(It {
            root,
            images,
            client,
        })
        .await
    });
    drop(runtime);
    stop.send(()).unwrap();
    server.join().unwrap();
    done
}

pub fn labels(of: &[(&str, &str)]) -> std::collections::HashMap<String, String> {
    let own = |text: &str| text.to_owned();
    of.iter()
        .map(|(name, value)| (own(name), own(value)))
        .collect()
}

impl It {
    pub async fn prepare(
        &mut self,
        key: &str,
        parent: &str,
        of: &[(&str, &str)],
    ) -> Result<Vec<Mount>, Code> {
        let request = PrepareSnapshotRequest {
            snapshotter: "puzzlefs".into(),
            key: key.into(),
            parent: parent.into(),
            labels: labels(of),
        };
        let done = self.client.prepare(request).await;
        done.map(|it| it.into_inner().mounts)
            .map_err(|it| it.code())
    }

    pub async fn view(&mut self, key: &str, parent: &str) -> Result<Vec<Mount>, Code> {
        let request = ViewSnapshotRequest {
            key: key.into(),
            parent: parent.into(),
            ..Default::default()
        };
        let done = self.client.view(request).await;
        done.map(|it| it.into_inner().mounts)
            .map_err(|it| it.code())
    }

    pub async fn mounts(&mut self, key: &str) -> Result<Vec<Mount>, Code> {
        let request = MountsRequest {
            key: key.into(),
            ..Default::default()
        };
        let done = self.client.mounts(request).await;
        done.map(|it| it.into_inner().mounts)
            .map_err(|it| it.code())
    }

    pub async fn commit(&mut self, name: &str, key: &str) -> Result<(), Code> {
        let request = CommitSnapshotRequest {
            name: name.into(),
            key: key.into(),
            labels: labels(&[("containerd.io/snapshot/a", "b")]),
            ..Default::default()
        };
        let done = self.client.commit(request).await;
        done.map(|_| ()).map_err(|it| it.code())
    }

    pub async fn remove(&mut self, key: &str) -> Result<(), Code> {
        let request = RemoveSnapshotRequest {
            key: key.into(),
            ..Default::default()
        };
        let done = self.client.remove(request).await;
        done.map(|_| ()).map_err(|it| it.code())
    }

    pub async fn stat(&mut self, key: &str) -> Result<Info, Code> {
        let request = StatSnapshotRequest {
            key: key.into(),
            ..Default::default()
        };
        let done = self.client.stat(request).await;
        done.map(|it| it.into_inner().info.unwrap())
            .map_err(|it| it.code())
    }

    pub async fn usage(&mut self, key: &str) -> (i64, i64) {
        let request = UsageRequest {
            key: key.into(),
            ..Default::default()
        };
        let usage = self.client.usage(request).await.unwrap().into_inner();
        (usage.size, usage.inodes)
    }

    pub async fn update(
        &mut self,
        name: &str,
        of: &[(&str, &str)],
        paths: &[&str],
    ) -> Result<Info, Code> {
        let request = UpdateSnapshotRequest {
            info: Some(Info {
                name: name.into(),
                labels: labels(of),
                ..Default::default()
            }),
            update_mask: Some(FieldMask {
                paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            }),
            ..Default::default()
        };
        let done = self.client.update(request).await;
        done.map(|it| it.into_inner().info.unwrap())
            .map_err(|it| it.code())
    }

    pub async fn list(&mut self, filters: &[&str]) -> Result<Vec<String>, Code> {
        let request = ListSnapshotsRequest {
            filters: filters.iter().map(|filter| (*filter).to_owned()).collect(),
            ..Default::default()
        };
        let stream = self.client.list(request).await;
        let mut stream = stream.map_err(|it| it.code())?.into_inner();
        let mut names = Vec::new();
        while let Some(block) = stream.message().await.unwrap() {
            names.extend(block.info.into_iter().map(|info| info.name));
        }
        Ok(names)
    }

    pub async fn cleanup(&mut self) {
        let request = CleanupRequest::default();
        self.client.cleanup(request).await.unwrap();
    }

    /// The directories of snapshots.
    pub fn directories(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.join("snapshots")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// Waits until what is done in the background has come to this.
    pub async fn until(&self, what: impl Fn(&It) -> bool) {
        for _ in 0..500 {
            if what(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it does not come");
    }
}

/// What an option of an overlayfs says.
pub fn option<'a>(mounts: &'a [Mount], name: &str) -> Option<&'a str> {
    let mut options = mounts[0].options.iter();
    options.find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
}

pub fn stand_in(number: u8) -> (StandIn, String) {
    let it = StandIn::new(
        &Digest::from_bytes([number; 32]),
        "docker://h.example/a/web",
    )
    .unwrap();
    let name = format!("sha256:{}", it.digest());
    (it, name)
}
