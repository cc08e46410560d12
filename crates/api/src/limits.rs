//! The named limits of the HTTP side.

use std::time::Duration;

/// Bounds of everything that a client may make large or slow.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; more wait in the listener's backlog.
    pub connections: usize,
    /// Bytes of a request's line and headers, at least 8,192.
    pub header_bytes: usize,
    /// Time for a request's headers to arrive; an idle connection is closed after it too.
    pub header_wait: Duration,
    /// Bytes of a command's body.
    pub body_bytes: usize,
    /// Time for a body to arrive.
    pub body_wait: Duration,
    /// Time in which a client must take something of what is sent to it; a connection that takes
    /// nothing for so long is cut.
    pub write_wait: Duration,
    /// Time that a command may wait in the queue.
    pub command_deadline: Duration,
    /// Time for which the outcome of a client's command is remembered.
    pub keep_keys: Duration,
    /// Longest `Prefer: wait`.
    pub prefer_wait: Duration,
    /// Requests that may wait for a position at once.
    pub waiters: usize,
    /// Streams that follow a query at once.
    pub streams: usize,
    /// The same of one principal.
    pub streams_of_principal: usize,
    /// Followed queries that may be evaluated at once; the other connections are for requests.
    pub stream_queries: usize,
    /// Commands that may wait in front of a tenant's writer; the writer refuses more, and what it
    /// is told here says so to the client.
    pub queue_commands: usize,
    /// Events on one page of a stream.
    pub page_events: i64,
    /// Events that one request may read of all events.
    pub replay_events: i64,
    /// Positions that one request for all events looks at, where it wants fewer events.
    pub scan_positions: i64,
    /// Time for requests in flight to end after shutdown has begun.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            header_bytes: 32 * 1024,
            header_wait: Duration::from_secs(30),
            body_bytes: 1024 * 1024,
            body_wait: Duration::from_secs(30),
            write_wait: Duration::from_secs(30),
            command_deadline: Duration::from_secs(5),
            keep_keys: Duration::from_hours(30 * 24),
            prefer_wait: Duration::from_secs(30),
            waiters: 5_000,
            streams: 5_000,
            streams_of_principal: 100,
            stream_queries: 4,
            queue_commands: 4_096,
            page_events: 10_000,
            replay_events: 1_000_000,
            scan_positions: 100_000,
            drain: Duration::from_secs(35),
        }
    }
}
