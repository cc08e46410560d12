//! `POST /v1/commands/<Name>` and what became of a command by its key.

use std::time::Duration;

use daybook_commands::{Authority, BadCommand, Command};
use daybook_identity::{Principal, Role};
use daybook_journal::{Accepted, Outcome, SubmitError, Verdict};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;
use warp::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    reply::Response,
};

use crate::{
    app::{App, Request, json, set_position},
    positions::Positions,
    problem::{Failure, Part, Problem},
    request,
};

/// What in an idempotency key would end or change a path segment.
const IN_SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Longest pause between two looks at a payment while waiting for its outcome: a lost wake-up
/// costs this much.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Events of a payment that are read to find its outcome: it stands among the first.
const PAYMENT_EVENTS: i64 = 20;

/// Sends a command and says what became of it.
pub(crate) async fn execute(
    app: &App,
    principal: &Principal,
    name: &'static str,
    request: Request,
) -> Result<Response, Failure> {
    let Request { id, headers, body, positions, .. } = request;
    let key = request::idempotency_key(&headers)?;
    let if_match = request::if_match(&headers)?;
    let prefer = request::prefer(&headers, app.limits.prefer_wait)?;
    request::check_json(&headers)?;
    let body = app.body(&headers, body).await?;
    request::check_depth(&body)?;
    let command = Command::parse(name, &body).map_err(Failure::Command)?;
    let authority = authority(principal).ok_or(Failure::Forbidden { role: principal.role })?;
    if !authority.may_send(&command) {
        return Err(Failure::Forbidden { role: principal.role });
    }
    let outcome = app
        .shop
        .execute(
            principal.tenant,
            daybook_commands::Request {
                command,
                authority,
                principal: principal.id.clone(),
                key: key.clone(),
                correlation: id,
                causation: None,
                traceparent: request::traceparent(&headers),
                occurred_at: None,
                if_match,
                deadline: app.limits.command_deadline,
                keep: Some(app.limits.keep_keys),
            },
        )
        .await
        .map_err(|error| match error {
            SubmitError::Overloaded => Failure::QueueFull { limit: app.limits.queue_commands },
            other => Failure::Submit(other),
        })?;
    let Outcome { verdict, repeated } = outcome;
    let mut response = match verdict {
        Verdict::Refused(refusal) => Problem::refusal(refusal).into_response(),
        Verdict::Accepted(accepted) => {
            app.heads.note(principal.tenant, accepted.position);
            let wait = prefer.wait.unwrap_or_default();
            let accepted = settled(app, principal.tenant, accepted, repeated, wait).await;
            accepted_response(&accepted, &key, &positions)
        }
    };
    if repeated {
        response
            .headers_mut()
            .insert(HeaderName::from_static(request::REPLAYED), HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// The failure of a name that no command has.
pub(crate) fn unknown(name: &str) -> Failure {
    // The sender knows the name; only a short one is worth repeating.
    let named = if name.len() <= 64 { format!(" {name:?}") } else { String::new() };
    Failure::Command(BadCommand {
        code: "unknown-command",
        field: Some("name".to_owned()),
        detail: format!("There is no command{named}."),
    })
}

/// What became of the principal's own command with a key.
pub(crate) async fn by_key(
    app: &App,
    principal: &Principal,
    request: &Request,
) -> Result<Response, Failure> {
    request::none_left(&request::query(&request.query)?)?;
    let key = &request.path["key"];
    if !request::valid_key(key) {
        return Err(Failure::Invalid {
            part: Part::Path,
            field: "key".to_owned(),
            detail: "An Idempotency-Key has 1 to 255 visible ASCII characters.".to_owned(),
        });
    }
    let found = app.reader.command(principal.tenant, &principal.id, key).await?;
    let found = found.ok_or(Failure::UnknownKey)?;
    // An answer from here counts as the command's own, so it must be as certain.
    app.reader.await_durable().await?;
    match found.verdict {
        Verdict::Refused(refusal) => {
            let problem = Problem::refusal(refusal).to_json();
            let body = json!({"outcome": "refused", "problem": problem});
            Ok(json(StatusCode::OK, body.to_string()))
        }
        Verdict::Accepted(accepted) => {
            let accepted = settled(app, principal.tenant, accepted, true, Duration::ZERO).await;
            let mut body = answer(&accepted, &request.positions);
            body["outcome"] = json!("accepted");
            body["open"] = json!(accepted.open);
            let mut response = json(StatusCode::OK, body.to_string());
            set_position(&mut response, &request.positions, accepted.position);
            Ok(response)
        }
    }
}

/// In whose name the domain is asked; `None` for roles that send no commands.
fn authority(principal: &Principal) -> Option<Authority> {
    match principal.role {
        Role::Customer => principal.subject.map(Authority::Customer),
        Role::Partner => principal.subject.map(Authority::Partner),
        Role::Operator => Some(Authority::Operator),
        Role::Analyst | Role::Auditor | Role::Admin => None,
    }
}

fn answer(accepted: &Accepted, positions: &Positions) -> Value {
    let streams: Vec<Value> = accepted
        .streams
        .iter()
        .filter(|(stream, _)| positions.show_stream(stream))
        .map(|(stream, version)| json!({"stream": stream, "version": version}))
        .collect();
    json!({
        "position": positions.show(accepted.position),
        "streams": streams,
        "result": accepted.result,
    })
}

fn accepted_response(accepted: &Accepted, key: &str, positions: &Positions) -> Response {
    let status = if accepted.open { StatusCode::ACCEPTED } else { StatusCode::OK };
    let mut response = json(status, answer(accepted, positions).to_string());
    set_position(&mut response, positions, accepted.position);
    if accepted.open {
        let location = format!("/v1/commands/by-key/{}", utf8_percent_encode(key, IN_SEGMENT));
        let location = HeaderValue::from_str(&location).expect("encoded to ASCII");
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// How a payment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Captured,
    Declined,
    /// A person must look: it stays open.
    Unresolved,
}

/// An answer whose payment was still open, with that payment's outcome if it is known by now or
/// within `wait`. What was remembered is looked at afresh: the world may have moved on since.
async fn settled(
    app: &App,
    tenant: i32,
    mut accepted: Accepted,
    repeated: bool,
    wait: Duration,
) -> Accepted {
    let Some(payment) = open_payment(&accepted) else { return accepted };
    if !repeated && wait.is_zero() {
        return accepted;
    }
    let stream = format!("payment-{payment}");
    let mut heads = app.heads.watch(tenant);
    let deadline = Instant::now() + wait;
    loop {
        // Before the look: what is appended during it wakes the next one.
        heads.mark_unchanged();
        let events = match app.reader.stream(tenant, &stream, 2, PAYMENT_EVENTS).await {
            Ok(events) => events,
            Err(error) => {
                // The command was accepted whatever can't be read now: it is open.
                tracing::warn!(%error, %payment, "an outcome can't be looked for");
                return accepted;
            }
        };
        let said = events.iter().map(|event| outcome_of(&event.kind));
        if let Some((outcome, index)) = latest(said) {
            let event = &events[index];
            settle(&mut accepted, outcome, event.position, event.version, stream);
            return accepted;
        }
        let next = deadline.min(Instant::now() + LOOK_EVERY);
        tokio::select! {
            biased;
            () = app.shutdown.cancelled() => return accepted,
            () = tokio::time::sleep_until(next) => {
                if next == deadline {
                    return accepted;
                }
            }
            Ok(()) = heads.changed() => {}
        }
    }
}

/// The payment that an answer left open.
fn open_payment(accepted: &Accepted) -> Option<Uuid> {
    let open = accepted.open && accepted.result["status"] == "open";
    open.then(|| accepted.result["payment_id"].as_str()?.parse().ok())?
}

/// What an event of a payment says about how it ended.
fn outcome_of(kind: &str) -> Option<Settled> {
    match kind {
        "PaymentCaptured" => Some(Settled::Captured),
        "PaymentDeclined" => Some(Settled::Declined),
        "PaymentUnresolved" => Some(Settled::Unresolved),
        _ => None,
    }
}

/// The outcome that stands after all that was said, and where it was said: a later capture or
/// decline settles what was unresolved, and a doubt unsettles neither.
fn latest(said: impl Iterator<Item = Option<Settled>>) -> Option<(Settled, usize)> {
    let said: Vec<_> = said.enumerate().filter_map(|(index, said)| Some((said?, index))).collect();
    let certain = said.iter().rfind(|(said, _)| *said != Settled::Unresolved);
    certain.or(said.last()).copied()
}

fn settle(accepted: &mut Accepted, outcome: Settled, position: i64, version: i32, stream: String) {
    let (status, open) = match outcome {
        Settled::Captured => ("captured", false),
        Settled::Declined => ("declined", false),
        Settled::Unresolved => ("unresolved", true),
    };
    accepted.result["status"] = json!(status);
    accepted.open = open;
    // Reading at this position shows the outcome.
    accepted.position = accepted.position.max(position);
    match accepted.streams.iter_mut().find(|(name, _)| *name == stream) {
        Some((_, known)) => *known = version.max(*known),
        None => accepted.streams.push((stream, version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(role: Role, subject: Option<Uuid>) -> Principal {
        Principal { tenant: 1, id: "owner:x".to_owned(), role, subject }
    }

    fn open_charge() -> Accepted {
        let payment = Uuid::from_u128(5);
        Accepted {
            position: 10,
            streams: vec![(format!("payment-{payment}"), 1), ("order-1".to_owned(), 2)],
            result: json!({"payment_id": payment, "order_id": "o", "status": "open"}),
            open: true,
        }
    }

    #[test]
    fn only_customers_partners_and_operators_send_commands_and_each_as_itself() {
        let id = Uuid::from_u128(9);
        assert!(matches!(
            authority(&principal(Role::Customer, Some(id))),
            Some(Authority::Customer(bound)) if bound == id
        ));
        assert!(matches!(
            authority(&principal(Role::Partner, Some(id))),
            Some(Authority::Partner(bound)) if bound == id
        ));
        assert!(matches!(authority(&principal(Role::Operator, None)), Some(Authority::Operator)));
        assert!(authority(&principal(Role::Customer, None)).is_none(), "bound to nobody");
        for role in [Role::Analyst, Role::Auditor, Role::Admin] {
            assert!(authority(&principal(role, None)).is_none());
        }
    }

    #[test]
    fn an_accepted_command_is_200_with_its_position_as_text_and_an_open_one_202_with_a_place() {
        let mut accepted = open_charge();
        let response = accepted_response(&accepted, "a/b?%", &Positions::default());
        assert_eq!(response.status(), StatusCode::ACCEPTED);
        assert_eq!(response.headers()[header::LOCATION], "/v1/commands/by-key/a%2Fb%3F%25");
        assert_eq!(response.headers()[request::POSITION], "10");
        accepted.open = false;
        let response = accepted_response(&accepted, "k", &Positions::default());
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!response.headers().contains_key(header::LOCATION));
        let body = answer(&accepted, &Positions::default());
        assert_eq!(body["position"], "10");
        assert_eq!(body["streams"][1], json!({"stream": "order-1", "version": 2}));
    }

    #[test]
    fn only_an_open_payment_is_waited_for() {
        assert_eq!(open_payment(&open_charge()), Some(Uuid::from_u128(5)));
        assert_eq!(open_payment(&Accepted { open: false, ..open_charge() }), None);
        assert_eq!(open_payment(&Accepted { result: json!({}), ..open_charge() }), None);
        assert_eq!(open_payment(&Accepted { result: Value::Null, ..open_charge() }), None);
    }

    #[test]
    fn what_a_person_or_a_late_answer_settled_stands() {
        use Settled::{Captured as C, Declined as D, Unresolved as U};
        for (said, stands) in [
            (vec![], None),
            (vec![None, Some(U)], Some((U, 1))),
            (vec![Some(U), None, Some(C)], Some((C, 2))),
            (vec![Some(U), Some(D)], Some((D, 1))),
            (vec![Some(D), Some(C), Some(U)], Some((C, 1))),
        ] {
            assert_eq!(latest(said.into_iter()), stands);
        }
    }

    #[test]
    fn a_settled_payment_closes_the_answer_and_moves_its_position() {
        let stream = format!("payment-{}", Uuid::from_u128(5));
        for (kind, status, open) in [
            ("PaymentCaptured", "captured", false),
            ("PaymentDeclined", "declined", false),
            ("PaymentUnresolved", "unresolved", true),
        ] {
            let mut accepted = open_charge();
            settle(&mut accepted, outcome_of(kind).unwrap(), 14, 2, stream.clone());
            assert_eq!((accepted.open, accepted.position), (open, 14));
            assert_eq!(accepted.result["status"], status);
            assert_eq!(accepted.streams[0], (stream.clone(), 2));
        }
        assert_eq!(outcome_of("PaymentRefundRequested"), None);
    }

    #[test]
    fn an_unknown_command_is_named_if_the_name_is_short() {
        let detail = |name: &str| match unknown(name) {
            Failure::Command(bad) => bad.detail,
            other => panic!("{other:?}"),
        };
        assert!(detail("Nope").contains("Nope"));
        assert!(!detail(&"N".repeat(100)).contains('N'));
    }
}
