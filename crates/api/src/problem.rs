//! Problems (RFC 9457): every way in which a request can fail, and how HTTP says it.

use daybook_commands::BadCommand;
use daybook_identity::{IdentityError, Role};
use daybook_journal::{JournalError, Refusal, SubmitError};
use serde_json::{Map, Value, json};
use uuid::Uuid;
use warp::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    reply::Response,
};

use crate::request::POSITION;

/// Seconds after which a request that met an overload or an outage is worth repeating.
const RETRY_AFTER_S: u32 = 1;

/// Where in a request the fault lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Header,
    Path,
    Query,
    Body,
}

impl Part {
    fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Path => "path",
            Self::Query => "query",
            Self::Body => "body",
        }
    }
}

/// Why a request has no answer but a problem.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No route has this path.
    NoRoute,
    /// A route has this path, but not this method.
    Method {
        /// Methods it has.
        allow: String,
    },
    /// No usable API key came with the request.
    Unauthenticated {
        /// Whether one was given at all.
        given: bool,
    },
    /// The principal's role may not do this.
    Forbidden {
        /// Its role.
        role: Role,
    },
    /// A header, parameter or part of the body is missing.
    Missing {
        /// Where it belongs.
        part: Part,
        /// Its name.
        field: String,
    },
    /// A header or parameter does not have the form it must have.
    Invalid {
        /// Where it stands.
        part: Part,
        /// Its name.
        field: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The body is not the command it should be, or there is no such command.
    Command(BadCommand),
    /// The body is longer than the limit.
    TooLarge {
        /// The limit, bytes.
        limit: usize,
    },
    /// The body did not arrive in time.
    TooSlow,
    /// The body is not declared as JSON.
    MediaType,
    /// The answer has none of the formats that the request accepts.
    NotAcceptable {
        /// Media types that it has.
        offered: Vec<&'static str>,
    },
    /// As many wait for a position, or follow answers, as may at once.
    Busy {
        /// Name of the limit.
        limit: &'static str,
        /// How many it allows.
        at_most: usize,
    },
    /// The principal follows as many answers as one may.
    TooManyStreams {
        /// How many those are.
        at_most: usize,
    },
    /// Folding the journal up to the position asked for takes longer than it may.
    FoldTooLong {
        /// How long it may take, seconds.
        at_most: u64,
    },
    /// The principal has used no such idempotency key, or it is forgotten.
    UnknownKey,
    /// There is no such thing, or it is somebody else's.
    NotFound,
    /// The command has no outcome.
    Submit(SubmitError),
    /// The tenant's queue is full.
    QueueFull {
        /// Commands that may wait in it.
        limit: usize,
    },
    /// The read model has not reached the position asked for.
    Stale {
        /// Position it has reached, as whoever asks may see it.
        position: String,
    },
    /// Something the service needs can't be reached.
    Unavailable(String),
    /// Our fault. The text goes to the log alone.
    Internal(String),
}

/// An error with its causes, for the log: PostgreSQL's own words stand in the innermost.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        let text = causes(&error);
        match error {
            // A connection that an operator ended, a server that starts: it passes.
            error if error.is_transient() => Self::Unavailable(text),
            JournalError::Pool(_)
            | JournalError::Timeout(_)
            | JournalError::Database(_)
            | JournalError::DamagedRecord(_)
            | JournalError::TenantName(_)
            | JournalError::AnotherHistory
            | JournalError::DamagedCopy => Self::Internal(text),
        }
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        let text = causes(&error);
        match error {
            IdentityError::Pool(_) => Self::Unavailable(text),
            IdentityError::Database(error) => JournalError::Database(error).into(),
            IdentityError::Subject(_)
            | IdentityError::NoFreeId
            | IdentityError::Label(_)
            | IdentityError::Role { .. } => Self::Internal(text),
        }
    }
}

/// A kind of problem, as its page under `/problems/` describes it. Refusals are not listed here:
/// their codes are the domain's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) code: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
    /// What to do about it.
    pub(crate) help: &'static str,
}

macro_rules! kinds {
    ($($name:ident = $code:literal, $status:ident, $title:literal, $help:literal;)*) => {
        $(const $name: Kind = Kind {
            code: $code, status: StatusCode::$status, title: $title, help: $help,
        };)*
        /// Every kind, by code.
        pub(crate) const KINDS: &[&Kind] = &[$(&$name),*];
    };
}

kinds! {
    AS_OF_TOO_FAR = "as-of-too-far", UNPROCESSABLE_ENTITY, "Looking back so far takes too long",
        "Ask about one row, where the query can, or about an earlier position, or let whoever runs \
         the service raise `limit`, a setting in seconds.";
    BODY_TOO_LARGE = "body-too-large", PAYLOAD_TOO_LARGE, "The body is too large",
        "Send less: `limit` says how many bytes are accepted.";
    BODY_TOO_SLOW = "body-too-slow", REQUEST_TIMEOUT, "The body took too long to arrive",
        "Send it again with the same Idempotency-Key.";
    FORBIDDEN = "forbidden", FORBIDDEN, "Your role may not do this",
        "Ask with a key of another role.";
    INTERNAL = "internal", INTERNAL_SERVER_ERROR, "Something went wrong here",
        "Report `request_id`. A command may be sent again with the same Idempotency-Key.";
    INVALID_COMMAND = "invalid-command", BAD_REQUEST, "The command is not well formed",
        "Correct the member that `field` names; /openapi.json has every command's schema.";
    INVALID_REQUEST = "invalid-request", BAD_REQUEST, "The request is not well formed",
        "Correct the header or parameter that `field` names.";
    KEY_REUSED = "key-reused", UNPROCESSABLE_ENTITY, "The Idempotency-Key was used before",
        "One key belongs to one command and body. Use a new key for a new command.";
    KEY_UNKNOWN = "key-unknown", NOT_FOUND, "No command is known by this key",
        "Nothing of yours was recorded under this key, or it is forgotten. Send the command.";
    LIMIT_EXCEEDED = "limit-exceeded", UNPROCESSABLE_ENTITY, "The command passes a limit",
        "Send smaller commands: `limit` names what was passed, `actual` says by what and `at_most` \
         how much is accepted.";
    METHOD_NOT_ALLOWED = "method-not-allowed", METHOD_NOT_ALLOWED, "Not with this method",
        "The Allow header says which methods there are.";
    MISSING = "missing-field", BAD_REQUEST, "Something required is missing",
        "Send what `field` names; `in` says where.";
    NOT_ACCEPTABLE = "not-acceptable", NOT_ACCEPTABLE, "The answer has no such format",
        "Accept one of the media types that `offered` lists, or send no Accept header for JSON.";
    NOT_ACTIVATED = "not-activated", SERVICE_UNAVAILABLE, "A new kind of event is not in use yet",
        "Nothing happened. An administrator activates it when every process can read it: \
         `event_type` and `schema_version` name it.";
    NOT_FOUND = "not-found", NOT_FOUND, "There is nothing here",
        "Check path and id. What belongs to somebody else looks the same.";
    OUTCOME_UNKNOWN = "outcome-unknown", SERVICE_UNAVAILABLE, "It may or may not have happened",
        "Send the command again with the same Idempotency-Key, or ask \
         /v1/commands/by-key/<key>.";
    OVERLOADED = "overloaded", SERVICE_UNAVAILABLE, "Too many commands are waiting",
        "Nothing happened. Send the command again after Retry-After seconds.";
    STALE = "stale", SERVICE_UNAVAILABLE, "The read model is not there yet",
        "Ask again, wait longer (`Prefer: wait=10`) or take the older answer \
         (`Prefer: handling=lenient`).";
    TOO_BUSY = "too-busy", SERVICE_UNAVAILABLE, "Too many are waiting, following or looking back",
        "Ask again after Retry-After seconds; `limit` names what is full and `at_most` says how \
         many it allows. Without `Prefer: wait` and `as_of` a query is answered at once.";
    TOO_MANY_STREAMS = "too-many-streams", TOO_MANY_REQUESTS, "You follow too many answers at once",
        "Close streams that nobody looks at; `at_most` says how many one principal may have.";
    UNAUTHENTICATED = "unauthenticated", UNAUTHORIZED, "An API key is needed",
        "Send `Authorization: Bearer <key>` with a key that is neither revoked nor expired.";
    UNAVAILABLE = "unavailable", SERVICE_UNAVAILABLE, "The service can't do this now",
        "Nothing happened. Try again after Retry-After seconds.";
    UNKNOWN_COMMAND = "unknown-command", NOT_FOUND, "There is no such command",
        "/openapi.json lists the commands.";
    UNSTORABLE = "unstorable", UNPROCESSABLE_ENTITY, "The command can't be stored",
        "Its contents break a rule for stored data.";
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE,
        "The body must be JSON", "Send `Content-Type: application/json`, not compressed.";
    VERSION_CONFLICT = "version-conflict", PRECONDITION_FAILED, "The stream has moved on",
        "If-Match or If-None-Match does not hold: `actual` is the version that `stream` has. Read \
         again, decide again; nothing happened.";
}

/// A problem as it is sent.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) code: String,
    pub(crate) status: StatusCode,
    pub(crate) title: String,
    pub(crate) detail: String,
    /// Values that matter, members beside `detail`.
    pub(crate) values: Map<String, Value>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    fn new(kind: &Kind, detail: impl Into<String>) -> Self {
        Self {
            code: kind.code.to_owned(),
            status: kind.status,
            title: kind.title.to_owned(),
            detail: detail.into(),
            values: Map::new(),
            headers: Vec::new(),
        }
    }

    fn value(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.values.insert(name.to_owned(), value.into());
        self
    }

    fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    fn retry(self) -> Self {
        let after = RETRY_AFTER_S.to_string();
        self.header(header::RETRY_AFTER, &after)
    }

    /// The refusal as a problem. A refusal is no failure: it is an answer. Its code is the type, its values stand beside `detail`.
    pub(crate) fn refusal(refusal: Refusal) -> Self {
        let values = match refusal.values {
            Value::Object(values) => values,
            Value::Null => Map::new(),
            other => Map::from_iter([("values".to_owned(), other)]),
        };
        Self {
            title: title_of(&refusal.code),
            code: refusal.code,
            status: StatusCode::UNPROCESSABLE_ENTITY,
            detail: refusal.detail,
            values,
            headers: Vec::new(),
        }
    }

    /// The JSON object that is sent.
    pub(crate) fn to_json(&self) -> Value {
        let mut members = self.values.clone();
        // The standard's own members win over a value of the same name.
        members.insert("type".to_owned(), json!(format!("/problems/{}", self.code)));
        members.insert("title".to_owned(), json!(self.title));
        members.insert("status".to_owned(), json!(self.status.as_u16()));
        members.insert("detail".to_owned(), json!(self.detail));
        Value::Object(members)
    }

    pub(crate) fn into_response(self) -> Response {
        let mut response = Response::new(self.to_json().to_string().into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(self.headers);
        response
    }
}

/// `out-of-stock` as `Out of stock`.
fn title_of(code: &str) -> String {
    let mut title = code.replace('-', " ");
    if let Some(first) = title.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    title
}

impl Failure {
    /// How HTTP says it. The only place where a failure becomes a status, and where internal text
    /// stays behind: it is logged here, under `request`.
    pub(crate) fn into_problem(self, request: Uuid) -> Problem {
        match self {
            Self::NoRoute => Problem::new(&NOT_FOUND, "No route has this path."),
            Self::Method { allow } => {
                Problem::new(&METHOD_NOT_ALLOWED, format!("This path knows {allow}."))
                    .header(header::ALLOW, &allow)
            }
            Self::Unauthenticated { given: false } => {
                Problem::new(&UNAUTHENTICATED, "The request has no API key.")
                    .header(header::WWW_AUTHENTICATE, r#"Bearer realm="daybook""#)
            }
            Self::Unauthenticated { given: true } => {
                Problem::new(&UNAUTHENTICATED, "The API key is unknown, revoked or expired.")
                    .header(
                        header::WWW_AUTHENTICATE,
                        r#"Bearer realm="daybook", error="invalid_token""#,
                    )
            }
            Self::Forbidden { role } => {
                Problem::new(&FORBIDDEN, format!("The role {role} does not include this."))
                    .value("role", role.as_str())
            }
            Self::Missing { part, field } => {
                Problem::new(&MISSING, format!("The {} {field} is required.", part.as_str()))
                    .value("field", field)
                    .value("in", part.as_str())
            }
            Self::Invalid { part, field, detail } => Problem::new(&INVALID_REQUEST, detail)
                .value("field", field)
                .value("in", part.as_str()),
            Self::Command(bad) => {
                let kind = if bad.code == UNKNOWN_COMMAND.code {
                    &UNKNOWN_COMMAND
                } else {
                    &INVALID_COMMAND
                };
                let part = if kind == &UNKNOWN_COMMAND { Part::Path } else { Part::Body };
                let problem = Problem::new(kind, bad.detail).value("in", part.as_str());
                match bad.field {
                    Some(field) => problem.value("field", field),
                    None => problem,
                }
            }
            Self::TooLarge { limit } => {
                Problem::new(&BODY_TOO_LARGE, format!("At most {limit} bytes are accepted."))
                    .value("limit", limit)
            }
            Self::TooSlow => Problem::new(&BODY_TOO_SLOW, "The body did not arrive in time."),
            Self::MediaType => Problem::new(
                &UNSUPPORTED_MEDIA_TYPE,
                "Content-Type must be application/json in UTF-8, without a Content-Encoding.",
            ),
            Self::NotAcceptable { offered } => Problem::new(
                &NOT_ACCEPTABLE,
                format!("This is answered as {}.", offered.join(", ")),
            )
            .value("field", "Accept")
            .value("in", Part::Header.as_str())
            .value("offered", offered),
            Self::Busy { limit, at_most } => Problem::new(
                &TOO_BUSY,
                format!("The limit {limit} of {at_most} is reached. Nothing happened."),
            )
            .value("limit", limit)
            .value("at_most", at_most)
            .retry(),
            Self::TooManyStreams { at_most } => Problem::new(
                &TOO_MANY_STREAMS,
                format!("You follow {at_most} answers already, as many as one principal may."),
            )
            .value("limit", "streams_of_principal")
            .value("at_most", at_most)
            .retry(),
            Self::FoldTooLong { at_most } => Problem::new(
                &AS_OF_TOO_FAR,
                format!("Folding the journal up to there takes more than {at_most} s."),
            )
            .value("limit", "as_of_deadline_s")
            .value("at_most", at_most),
            Self::UnknownKey => Problem::new(&KEY_UNKNOWN, "No command of yours has this key."),
            Self::NotFound => Problem::new(&NOT_FOUND, "There is no such thing."),
            Self::Submit(error) => submit_problem(error, request),
            Self::QueueFull { limit } => Problem::new(
                &OVERLOADED,
                format!("queue_commands is {}, the limit is {limit}. Nothing happened.", limit + 1),
            )
            .value("limit", "queue_commands")
            .value("actual", limit + 1)
            .value("at_most", limit)
            .retry(),
            Self::Stale { position } => Problem::new(
                &STALE,
                format!("The read model stands at {position}, before the position asked for."),
            )
            .value("position", position.clone())
            .header(HeaderName::from_static(POSITION), &position)
            .retry(),
            Self::Unavailable(error) => {
                tracing::warn!(%request, %error, "a request failed: unavailable");
                Problem::new(&UNAVAILABLE, "A part of the service can't be reached.").retry()
            }
            Self::Internal(error) => internal(&error, request),
        }
    }
}

fn submit_problem(error: SubmitError, request: Uuid) -> Problem {
    match error {
        SubmitError::Conflict { stream, expected, actual } => Problem::new(
            &VERSION_CONFLICT,
            format!("The stream {stream} is at version {actual}, not {expected}."),
        )
        .value("stream", stream)
        .value("expected", expected)
        .value("actual", actual),
        SubmitError::KeyReused => Problem::new(
            &KEY_REUSED,
            "This Idempotency-Key was used before for another command or body.",
        )
        .value("field", "Idempotency-Key")
        .value("in", Part::Header.as_str()),
        SubmitError::Limit { name, value, limit } => {
            Problem::new(&LIMIT_EXCEEDED, format!("{name} is {value}, the limit is {limit}."))
                .value("limit", name)
                .value("actual", value)
                .value("at_most", limit)
        }
        SubmitError::Unstorable(error) => {
            tracing::warn!(%request, %error, "a command can't be stored");
            Problem::new(&UNSTORABLE, "The command's contents can't be stored.")
        }
        SubmitError::Corrupt(error) => internal(&error, request),
        SubmitError::NotActivated { kind, version } => Problem::new(
            &NOT_ACTIVATED,
            format!("This needs {kind}/{version}, which is not activated yet. Nothing happened."),
        )
        .value("event_type", kind)
        .value("schema_version", version)
        .retry(),
        SubmitError::Overloaded => {
            Problem::new(&OVERLOADED, "The queue is full. Nothing happened.").retry()
        }
        SubmitError::Expired => {
            Problem::new(&OVERLOADED, "The command waited too long. Nothing happened.").retry()
        }
        SubmitError::Unavailable(error) => {
            tracing::warn!(%request, %error, "a command failed: unavailable");
            Problem::new(&UNAVAILABLE, "The journal can't be written now. Nothing happened.")
                .retry()
        }
        SubmitError::OutcomeUnknown => Problem::new(
            &OUTCOME_UNKNOWN,
            "The command was sent and its answer was lost. Ask again with the same key.",
        )
        .retry(),
    }
}

fn internal(error: &str, request: Uuid) -> Problem {
    tracing::error!(%request, %error, "a request failed");
    Problem::new(&INTERNAL, "The fault is ours and has been logged.")
        .value("request_id", request.to_string())
}

#[cfg(test)]
mod tests;
