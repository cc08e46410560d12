//! A client of the HTTP interface with one API key.

use reqwest::{Method, header::HeaderMap};
use serde_json::Value;

/// An HTTP client with one API key. Clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    key: String,
}

/// Status, headers and body of an answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body as it came.
    pub text: String,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The position that the answer names.
    ///
    /// # Panics
    /// When it names none.
    pub fn position(&self) -> String {
        let body = self.json();
        body["position"].as_str().unwrap_or_else(|| panic!("no position in {self:?}")).to_owned()
    }

    /// The answer, if it is a success.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    #[must_use]
    pub fn ok(self) -> Self {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.text);
        self
    }
}

/// A stream of server-sent events.
#[derive(Debug)]
pub struct Followed {
    response: reqwest::Response,
    read: Vec<u8>,
}

impl Followed {
    /// The next event's data; events without are passed over.
    ///
    /// # Panics
    /// When the stream ends, or the connection fails.
    pub async fn next(&mut self) -> Value {
        loop {
            if let Some(end) = self.read.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.read.drain(..end + 2).collect();
                let event = String::from_utf8(event).expect("UTF-8");
                if let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) {
                    return serde_json::from_str(data).expect("JSON");
                }
                continue;
            }
            let more = self.response.chunk().await.expect("the connection holds");
            self.read.extend_from_slice(&more.expect("the stream goes on"));
        }
    }
}

impl Client {
    /// A client of the server at `url`; an empty key sends none.
    pub fn new(url: &str, key: &str) -> Self {
        Self { http: reqwest::Client::new(), url: url.to_owned(), key: key.to_owned() }
    }

    /// The same key at another server.
    #[must_use]
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// Sends a request as it is told to. The error is the connection's.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, reqwest::Error> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if !self.key.is_empty() {
            request = request.bearer_auth(&self.key);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.body(body).send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, text: response.text().await? })
    }

    /// Posts a command whose outcome is waited for. The error is the connection's.
    pub async fn try_command(
        &self,
        name: &str,
        key: &str,
        body: &Value,
    ) -> Result<Answer, reqwest::Error> {
        let headers =
            [("content-type", "application/json"), ("idempotency-key", key), ("prefer", "wait=20")];
        let path = format!("/v1/commands/{name}");
        self.send(Method::POST, &path, &headers, body.to_string().into_bytes()).await
    }

    /// Posts a command with a key.
    ///
    /// # Panics
    /// When the connection fails.
    pub async fn command(&self, name: &str, key: &str, body: &Value) -> Answer {
        self.try_command(name, key, body).await.expect("the server can be reached")
    }

    /// Posts a command with a key of its own, again and with the same key as long as the server
    /// is too busy, and returns what became of it.
    ///
    /// # Panics
    /// When the connection fails.
    pub async fn once(&self, name: &str, body: &Value) -> Answer {
        let key = uuid::Uuid::new_v4().to_string();
        self.once_with(name, &key, body).await
    }

    /// The same with a key that is given.
    ///
    /// # Panics
    /// When the connection fails.
    pub async fn once_with(&self, name: &str, key: &str, body: &Value) -> Answer {
        loop {
            let answer = self.command(name, key, body).await;
            if answer.status != 503 {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Gets a path.
    ///
    /// # Panics
    /// When the connection fails.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Vec::new()).await.expect("the server can be reached")
    }

    /// Opens a stream of server-sent events.
    ///
    /// # Panics
    /// When it is refused, or the connection fails.
    pub async fn follow(&self, path: &str) -> Followed {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.key);
        let response = request.header("accept", "text/event-stream").send().await;
        let response = response.expect("the server can be reached");
        assert_eq!(response.status().as_u16(), 200, "{path}");
        Followed { response, read: Vec::new() }
    }

    /// Gets a path, no older than a position.
    ///
    /// # Panics
    /// When the connection fails.
    pub async fn get_at(&self, path: &str, position: &str) -> Answer {
        let headers = [("daybook-min-position", position), ("prefer", "wait=20")];
        self.send(Method::GET, path, &headers, Vec::new()).await.expect("the server can be reached")
    }
}
