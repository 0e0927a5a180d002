// SPDX-License-Identifier: Apache-2.0
//! Requests of object_store go the way that those of registries go: the same limits, certificates and proxies, and no
//! second HTTP and TLS. Each is made by the thread that waits for it.

use std::fmt;
use std::future::Future;
use std::io::Read;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use object_store::ClientOptions;
use ureq::http::StatusCode;

use crate::registry::{Failure, Http};

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
/// Bytes of what says what is wrong.
const MAX_COMPLAINT: u64 = 64 << 10;

/// Connections to servers.
#[derive(Clone)]
pub struct Connections(pub Arc<Http>);

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connections")
    }
}

impl HttpConnector for Connections {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for Connections {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
    {
        let answer = self.exchange(request);
        Box::pin(std::future::ready(answer))
    }
}

impl Connections {
    fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Nothing of ours sends more than this.
        let request = request.map(|body| body.as_bytes().cloned().unwrap_or_default());
        let answer = self.0.send(request).map_err(|failure| match failure {
            Failure::Passing(error) => HttpError::new(HttpErrorKind::Request, error),
            Failure::Lasting(error) => HttpError::new(HttpErrorKind::Unknown, error),
        })?;
        let (mut head, body) = answer.into_parts();
        // A part is one by what it says of itself, which object_store checks: rclone's server gives it this status.
        if head.status == StatusCode::OK && head.headers.contains_key("content-range") {
            head.status = StatusCode::PARTIAL_CONTENT;
        }
        let most = match head.status.is_success() {
            true => u64::MAX,
            false => MAX_COMPLAINT,
        };
        let reader = Box::new(body.into_reader().take(most));
        let body = HttpResponseBody::new(Pieces(Mutex::new(reader)));
        Ok(HttpResponse::from_parts(head, body))
    }
}

/// A body as it is read.
struct Pieces(Mutex<Box<dyn Read + Send>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let mut reader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut piece = vec![0; PIECE];
        Poll::Ready(match reader.read(&mut piece) {
            Ok(0) => None,
            Ok(read) => {
                piece.truncate(read);
                Some(Ok(Frame::data(piece.into())))
            }
            // It goes on with the rest in another request.
            Err(error) => Some(Err(HttpError::new(HttpErrorKind::Interrupted, error))),
        })
    }
}
