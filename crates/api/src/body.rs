//! Answers that are sent while they are read: in memory is what the connection takes next.

use std::{
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll},
};

use futures::{Stream, StreamExt, TryStreamExt, stream};
use warp::{
    http::{HeaderValue, header},
    reply::{Reply, Response},
};

use crate::problem::Failure;

/// Ends a connection in the middle of an answer: its status was sent long ago, so only this tells
/// the client that the rest is missing.
#[derive(Debug, thiserror::Error)]
#[error("the answer can't be finished")]
struct Cut;

/// An answer in pieces, each asked for when the connection has taken the one before it. A failure
/// of the first one is the answer; a later one cuts the connection and is logged.
pub(crate) async fn flowing(
    pieces: impl Stream<Item = Result<String, Failure>> + Send + 'static,
    media_type: &'static str,
) -> Result<Response, Failure> {
    let mut pieces = Box::pin(pieces);
    let first = pieces.try_next().await?.unwrap_or_default();
    let pieces = stream::once(async { Ok(first) }).chain(pieces.map_err(|failure| {
        tracing::error!(?failure, "an answer was cut in the middle");
        Cut
    }));
    let pieces = Owned { inner: Mutex::new(Box::pin(pieces)) };
    let mut response = warp::reply::stream(pieces).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(response)
}

/// An answer that goes on until its pieces end, each sent at once.
pub(crate) fn endless(
    pieces: impl Stream<Item = String> + Send + 'static,
    media_type: &'static str,
) -> Response {
    let pieces = Owned { inner: Mutex::new(Box::pin(pieces.map(Ok::<_, Cut>))) };
    let mut response = warp::reply::stream(pieces).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// Makes a stream shareable in type: it is polled by its one owner, who needs no lock.
struct Owned<S> {
    inner: Mutex<Pin<Box<S>>>,
}

impl<S: Stream> Stream for Owned<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.get_mut().expect("no code panics while holding it").as_mut().poll_next(cx)
    }
}
