// SPDX-License-Identifier: Apache-2.0
//! The interface itself, by gRPC: messages in, calls of `snapshots`, messages out.

use std::pin::Pin;
use std::sync::Arc;

use puzzlefs_containerd::prost_types::Timestamp;
use puzzlefs_containerd::snapshots as api;
use puzzlefs_containerd::snapshots::snapshots_server::Snapshots as Interface;
use puzzlefs_containerd::types;
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status};

use super::fault::{Fault, Kind as Why};
use super::record::{Kind, Labels, Record, Time};
use super::shape::Mount;
use super::snapshots::Snapshots;
use crate::base::text;

/// Snapshots in a message of a list.
const BLOCK: usize = 100;

/// Who answers containerd.
pub(super) struct Service(pub Arc<Snapshots>);

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let code = match fault.kind {
            Why::NotFound => Code::NotFound,
            Why::AlreadyExists => Code::AlreadyExists,
            Why::FailedPrecondition => Code::FailedPrecondition,
            Why::InvalidArgument => Code::InvalidArgument,
            Why::Unavailable => Code::Unavailable,
            Why::Internal => Code::Internal,
        };
        // A registry may have said some of it, and it goes to a terminal.
        Status::new(code, text::line(&fault.text))
    }
}

/// Does what waits for disks and registries in a thread that may wait.
async fn blocking<T: Send + 'static>(
    service: &Service,
    work: impl FnOnce(&Arc<Snapshots>) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Status> {
    let snapshots = Arc::clone(&service.0);
    let done = tokio::task::spawn_blocking(move || work(&snapshots)).await;
    let done = done.map_err(|_| Status::internal("the call ended before its end"))?;
    done.map_err(Status::from)
}

fn mounts(all: Vec<Mount>) -> Vec<types::Mount> {
    let all = all.into_iter().map(|mount| types::Mount {
        r#type: mount.kind.into(),
        source: mount.source,
        target: String::new(),
        options: mount.options,
    });
    all.collect()
}

fn timestamp(time: Time) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: time.seconds,
        nanos: time.nanos,
    })
}

fn info(record: Record) -> api::Info {
    let kind = match record.kind {
        Kind::Active => api::Kind::Active,
        Kind::View => api::Kind::View,
        Kind::Committed => api::Kind::Committed,
    };
    api::Info {
        name: record.name,
        parent: record.parent,
        kind: kind.into(),
        created_at: timestamp(record.created),
        updated_at: timestamp(record.updated),
        labels: record.labels.into_iter().collect(),
    }
}

fn labels(all: impl IntoIterator<Item = (String, String)>) -> Labels {
    all.into_iter().collect()
}

#[tonic::async_trait]
impl Interface for Service {
    async fn prepare(
        &self,
        request: Request<api::PrepareSnapshotRequest>,
    ) -> Result<Response<api::PrepareSnapshotResponse>, Status> {
        let it = request.into_inner();
        let made = blocking(self, move |snapshots| {
            snapshots.prepare(Kind::Active, &it.key, &it.parent, labels(it.labels))
        });
        let mounts = mounts(made.await?);
        Ok(Response::new(api::PrepareSnapshotResponse { mounts }))
    }

    async fn view(
        &self,
        request: Request<api::ViewSnapshotRequest>,
    ) -> Result<Response<api::ViewSnapshotResponse>, Status> {
        let it = request.into_inner();
        let made = blocking(self, move |snapshots| {
            snapshots.prepare(Kind::View, &it.key, &it.parent, labels(it.labels))
        });
        let mounts = mounts(made.await?);
        Ok(Response::new(api::ViewSnapshotResponse { mounts }))
    }

    async fn mounts(
        &self,
        request: Request<api::MountsRequest>,
    ) -> Result<Response<api::MountsResponse>, Status> {
        let key = request.into_inner().key;
        let mounts = mounts(blocking(self, move |snapshots| snapshots.mounts(&key)).await?);
        Ok(Response::new(api::MountsResponse { mounts }))
    }

    async fn commit(
        &self,
        request: Request<api::CommitSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let it = request.into_inner();
        let done = blocking(self, move |snapshots| {
            snapshots.commit(&it.name, &it.key, labels(it.labels))
        });
        Ok(Response::new(done.await?))
    }

    async fn remove(
        &self,
        request: Request<api::RemoveSnapshotRequest>,
    ) -> Result<Response<()>, Status> {
        let key = request.into_inner().key;
        let done = blocking(self, move |snapshots| snapshots.remove(&key));
        Ok(Response::new(done.await?))
    }

    async fn stat(
        &self,
        request: Request<api::StatSnapshotRequest>,
    ) -> Result<Response<api::StatSnapshotResponse>, Status> {
        let key = request.into_inner().key;
        let record = blocking(self, move |snapshots| snapshots.stat(&key)).await?;
        let info = Some(info(record));
        Ok(Response::new(api::StatSnapshotResponse { info }))
    }

    async fn update(
        &self,
        request: Request<api::UpdateSnapshotRequest>,
    ) -> Result<Response<api::UpdateSnapshotResponse>, Status> {
        let it = request.into_inner();
        let given = it.info.unwrap_or_default();
        let paths = it.update_mask.map(|mask| mask.paths).unwrap_or_default();
        let record = blocking(self, move |snapshots| {
            snapshots.update(&given.name, &labels(given.labels), &paths)
        });
        let info = Some(info(record.await?));
        Ok(Response::new(api::UpdateSnapshotResponse { info }))
    }

    type ListStream =
        Pin<Box<dyn Stream<Item = Result<api::ListSnapshotsResponse, Status>> + Send + 'static>>;

    async fn list(
        &self,
        request: Request<api::ListSnapshotsRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let filters = request.into_inner().filters;
        let found = blocking(self, move |snapshots| snapshots.list(&filters)).await?;
        let blocks: Vec<_> = found
            .chunks(BLOCK)
            .map(|block| {
                let info = block.iter().cloned().map(info).collect();
                Ok(api::ListSnapshotsResponse { info })
            })
            .collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(blocks))))
    }

    async fn usage(
        &self,
        request: Request<api::UsageRequest>,
    ) -> Result<Response<api::UsageResponse>, Status> {
        let key = request.into_inner().key;
        let usage = blocking(self, move |snapshots| snapshots.usage(&key)).await?;
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        Ok(Response::new(api::UsageResponse {
            size: signed(usage.size),
            inodes: signed(usage.inodes),
        }))
    }

    async fn cleanup(&self, _: Request<api::CleanupRequest>) -> Result<Response<()>, Status> {
        let done = blocking(self, |snapshots| snapshots.cleanup());
        Ok(Response::new(done.await?))
    }
}
