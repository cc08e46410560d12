//! A light HTTP/1.1 client: it shares the machine with what it measures, so it does no more than
//! write a request and read its answer on connections that stay open.

use std::sync::Mutex;

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1::{SendRequest, handshake},
    http::request::Builder,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use uuid::Uuid;

/// One server, asked as one principal.
pub(super) struct Http {
    address: String,
    bearer: String,
    idle: Mutex<Vec<Connection>>,
}

/// A connection that stays open between requests.
pub(super) struct Connection(SendRequest<Full<Bytes>>);

/// An answer, read whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Http {
    /// # Errors
    /// If the address is not one of plain HTTP: what is measured is Daybook, not a proxy.
    pub(super) fn new(url: &str, key: &str) -> anyhow::Result<Self> {
        let address = url
            .strip_prefix("http://")
            .context("the address must begin with http://")?
            .trim_end_matches('/');
        let address =
            if address.contains(':') { address.to_owned() } else { format!("{address}:80") };
        Ok(Self { address, bearer: format!("Bearer {key}"), idle: Mutex::default() })
    }

    /// A request to a path, with the principal's key.
    pub(super) fn request(&self, method: &str, path: &str) -> Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.address)
            .header("authorization", &self.bearer)
    }

    pub(super) async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(&self.address).await.context("no connection")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection(sender))
    }

    /// Sends on an idle connection, or on a new one where all are busy.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        let mut connection = loop {
            let idle = self.idle.lock().expect("no code panics while holding it").pop();
            let Some(mut connection) = idle else { break self.connect().await? };
            // it may have been closed meanwhile
            if connection.0.ready().await.is_ok() {
                break connection;
            }
        };
        let answer = connection.send(request).await?;
        self.idle.lock().expect("no code panics while holding it").push(connection);
        Ok(answer)
    }

    /// Sends a command under a key of its own; its answer.
    pub(super) async fn command(
        &self,
        name: &str,
        body: &serde_json::Value,
    ) -> anyhow::Result<serde_json::Value> {
        let request = self
            .request("POST", &format!("/v1/commands/{name}"))
            .header("idempotency-key", Uuid::now_v7().to_string())
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))?;
        let answer = self.send(request).await?;
        let text = String::from_utf8_lossy(&answer.body);
        anyhow::ensure!(answer.status.is_success(), "{name}: {}: {text}", answer.status);
        serde_json::from_str(&text).context("the answer is no JSON")
    }
}

impl Connection {
    /// Sends a request whose answer goes on without an end.
    pub(super) async fn follow(
        mut self,
        request: Request<Full<Bytes>>,
    ) -> anyhow::Result<(Self, Incoming)> {
        self.0.ready().await?;
        let response = self.0.send_request(request).await?;
        anyhow::ensure!(response.status().is_success(), "{}", response.status());
        Ok((self, response.into_body()))
    }

    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        self.0.ready().await?;
        let response: hyper::Response<Incoming> = self.0.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok(Answer { status, body })
    }
}
