//! Declared queries: who may ask, for whose rows, how new the answer must be.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use daybook_identity::{Principal, Role};
use daybook_journal::JournalError;
use daybook_projection::{
    Answer, AnswerShape, AsOf, DeclaredQuery, Format, ParameterKind, Place, PrincipalScope,
    QueryError,
};
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use crate::{
    app::{App, Request, set_position},
    format,
    positions::{Positions, Sought},
    problem::{Failure, Part, causes},
    request,
    request::Prefer,
    service,
    surface::Surface,
};

/// Parameter of queries that may be asked as of a position.
const AS_OF: &str = "as_of";
/// What a cursor must be.
const CURSOR_WANTED: &str = "must be `next` of an earlier answer";

/// Answers one declared query.
pub(crate) async fn run(
    app: &App,
    surface: &Surface,
    index: usize,
    principal: &Principal,
    request: &Request,
) -> Result<Response, Failure> {
    let query = surface.query(index);
    let format = format::choose(&request.headers, &query.formats)?;
    let answer = answer(app, query, principal, request).await?;

    let position = answer.position;
    let next = answer.next.as_ref().map(|cursor| next_page(request, cursor));
    let link = next.map(|next| format!("<{next}>; rel=\"next\"")).unwrap_or_default();
    let body = match format {
        Format::Json => body(query.answer, answer),
        Format::Ndjson => format::ndjson(&answer.json)?,
        Format::Csv => {
            let described = surface.description(&app.queries, index).await;
            let described = described.map_err(|error| failure(query, &request.positions, error))?;
            let columns: Vec<String> = described.columns.iter().map(|c| c.name.clone()).collect();
            format::csv(&answer.json, &columns)?
        }
    };
    let etag = service::etag_of(&[&body, &link]);
    let mut response = if request::etag_matches(&request.headers, &etag) {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        service::text(format::media_type(format), body)
    };
    let headers = response.headers_mut();
    service::set_etag(headers, &etag);
    headers.insert(header::VARY, HeaderValue::from_static("Authorization, Accept"));
    if let Ok(link) = HeaderValue::from_str(&link)
        && !link.is_empty()
    {
        headers.insert(header::LINK, link);
    }
    set_position(&mut response, &request.positions, position);
    Ok(response)
}

/// What the query finds for the principal, as new as the request wants it.
pub(crate) async fn answer(
    app: &App,
    query: &DeclaredQuery,
    principal: &Principal,
    request: &Request,
) -> Result<Answer, Failure> {
    let mut given = request::query(&request.query)?;
    let looks_back = query.offers_as_of(principal.role.as_str());
    let asked = if looks_back { given.remove(AS_OF) } else { None };
    let positions = &request.positions;
    let parameters = opened(query, positions, declared(query, &request.path, given)?)?;
    if let Some(asked) = asked {
        let since = Instant::now();
        let longest = app.queries.as_of_longest(query, &parameters);
        let as_of = as_of(app, principal.tenant, &request.headers, asked, longest).await?;
        let scope = scope(principal);
        let tenant = principal.tenant;
        let answer = app.queries.run_as_of(query, tenant, scope, &parameters, &as_of, since);
        let answer = answer.await.map_err(|error| failure(query, positions, error))?;
        return shown(query, positions, answer);
    }
    let prefer = request::prefer(&request.headers, app.limits.prefer_wait)?;
    let tenant = principal.tenant;
    let wanted = reachable(app, tenant, request).await?;
    let scope = scope(principal);
    let wait = prefer.wait.unwrap_or_default();

    let waits = wanted.is_some_and(|wanted| {
        !wait.is_zero() && app.queries.positions().position(&query.projection, tenant) < wanted
    });
    let room = if waits {
        let full = |_| Failure::Busy { limit: "waiters", at_most: app.limits.waiters };
        Some(app.waiters.try_acquire().map_err(full)?)
    } else {
        None
    };
    let mut answer = app.queries.run(query, tenant, scope, &parameters, wanted, wait).await;
    drop(room);
    if accepts_older(&answer, prefer) {
        // The client has waited as long as it would and prefers the older answer to none.
        answer = app.queries.run(query, tenant, scope, &parameters, None, Duration::ZERO).await;
    }
    shown(query, positions, answer.map_err(|error| failure(query, positions, error))?)
}

/// What is found, with its positions as whoever asks may see them.
pub(crate) fn shown(
    query: &DeclaredQuery,
    positions: &Positions,
    mut answer: Answer,
) -> Result<Answer, Failure> {
    answer.next = answer.next.map(|cursor| positions.show_cursor(&query.name, cursor));
    if !query.positions.is_empty() {
        let show = |position| positions.show(position);
        answer.json = format::with_positions(&answer.json, query.answer, &query.positions, show)?;
    }
    Ok(answer)
}

/// What `as_of` means; the journal may take so long to say it.
async fn as_of(
    app: &App,
    tenant: i32,
    headers: &warp::http::HeaderMap,
    asked: String,
    longest: Duration,
) -> Result<AsOf, Failure> {
    if request::min_position(headers, &Positions::default())?.is_some() {
        return Err(Failure::Invalid {
            part: Part::Header,
            field: "Daybook-Min-Position".to_owned(),
            detail: "as_of says already which position is wanted: send one of the two.".to_owned(),
        });
    }
    let position = tokio::time::timeout(longest, position_of(app, tenant, &asked)).await;
    let position = position.map_err(|_elapsed| JournalError::Timeout(longest))??;
    Ok(AsOf { position, asked })
}

/// The position that is meant: one up to the head, or that of a time up to now.
async fn position_of(app: &App, tenant: i32, asked: &str) -> Result<i64, Failure> {
    let invalid =
        |detail: String| Failure::Invalid { part: Part::Query, field: AS_OF.to_owned(), detail };
    if asked.bytes().all(|b| b.is_ascii_digit()) && !asked.is_empty() {
        let head = app.reader.head(tenant).await?;
        let within = asked.parse().ok().filter(|position| *position <= head);
        within.ok_or_else(|| {
            invalid(format!("The journal ends at position {head}: nothing is known beyond."))
        })
    } else {
        let at = DateTime::parse_from_rfc3339(asked).map_err(|_| {
            invalid("as_of is a position or a time as 2011-12-09T12:50:00Z.".to_owned())
        })?;
        let at = at.with_timezone(&Utc);
        if at > Utc::now() {
            return Err(invalid("This time is still to come.".to_owned()));
        }
        Ok(app.reader.position_at(tenant, at).await?)
    }
}

/// The JSON that is sent: the object itself, or a page with the cursor of the next.
pub(crate) fn body(shape: AnswerShape, answer: Answer) -> String {
    match shape {
        AnswerShape::One => answer.json,
        AnswerShape::List => {
            let next = serde_json::Value::from(answer.next);
            format!(r#"{{"items":{},"next":{next}}}"#, answer.json)
        }
    }
}

/// The same request, going on at a cursor.
fn next_page(request: &Request, cursor: &str) -> String {
    let kept =
        form_urlencoded::parse(request.query.as_bytes()).filter(|(name, _)| name != "cursor");
    let query = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(kept)
        .append_pair("cursor", cursor)
        .finish();
    format!("{}?{query}", request.target)
}

/// The position asked for, if this journal can ever reach it: a token from beyond the head (of
/// another history) is answered at once with what there is.
async fn reachable(app: &App, tenant: i32, request: &Request) -> Result<Option<i64>, Failure> {
    let wanted = request::min_position(&request.headers, &request.positions)?;
    let Some(Sought::Position(wanted)) = wanted else { return Ok(None) };
    let heard = *app.heads.watch(tenant).borrow();
    if wanted <= heard || wanted <= app.reader.head(tenant).await? {
        return Ok(Some(wanted));
    }
    Ok(None)
}

fn accepts_older<T>(answer: &Result<T, QueryError>, prefer: Prefer) -> bool {
    prefer.lenient && matches!(answer, Err(QueryError::Stale { .. }))
}

/// Whose rows the principal sees; the server says so, never the request.
pub(crate) fn scope(principal: &Principal) -> PrincipalScope {
    let only = |role| principal.subject.filter(|_| principal.role == role);
    PrincipalScope { customer_id: only(Role::Customer), partner_id: only(Role::Partner) }
}

/// Values of path and query string, none of them unknown, none missing.
pub(crate) fn parameters(
    query: &DeclaredQuery,
    path: &HashMap<String, String>,
    raw: &str,
    positions: &Positions,
) -> Result<HashMap<String, String>, Failure> {
    opened(query, positions, declared(query, path, request::query(raw)?)?)
}

/// The same, with positions and cursor as the query takes them.
fn opened(
    query: &DeclaredQuery,
    positions: &Positions,
    mut values: HashMap<String, String>,
) -> Result<HashMap<String, String>, Failure> {
    let invalid = |name: &str, detail: &str| Failure::Invalid {
        part: Part::Query,
        field: name.to_owned(),
        detail: format!("{name} {detail}."),
    };
    let own = query.parameters.iter().filter(|p| p.kind == ParameterKind::Position);
    for name in own.map(|parameter| &parameter.name) {
        let Some(value) = values.get_mut(name) else { continue };
        *value = match positions.read(value) {
            Some(Sought::Position(position)) => position.to_string(),
            Some(Sought::Elsewhere) => {
                return Err(invalid(
                    name,
                    "is of a history that has been replaced since: begin anew, without it",
                ));
            }
            None => return Err(invalid(name, "must be a position that an answer carried")),
        };
    }
    if query.answer == AnswerShape::List
        && let Some(cursor) = values.remove("cursor")
    {
        let cursor = positions.read_cursor(&query.name, cursor);
        let cursor = cursor.ok_or_else(|| invalid("cursor", CURSOR_WANTED))?;
        values.insert("cursor".to_owned(), cursor);
    }
    Ok(values)
}

fn declared(
    query: &DeclaredQuery,
    path: &HashMap<String, String>,
    mut values: HashMap<String, String>,
) -> Result<HashMap<String, String>, Failure> {
    let mut unknown: Vec<&String> = values
        .keys()
        .filter(|name| {
            let mut own = query.parameters.iter().filter(|p| p.place == Place::Query);
            !own.any(|p| p.name == **name)
        })
        .collect();
    unknown.sort_unstable();
    if let Some(name) = unknown.first() {
        return Err(Failure::Invalid {
            part: Part::Query,
            field: (*name).clone(),
            detail: "There is no such parameter here.".to_owned(),
        });
    }
    values.extend(path.iter().map(|(name, value)| (name.clone(), value.clone())));
    let missing = query.parameters.iter().find(|p| p.required && !values.contains_key(&p.name));
    match missing {
        None => Ok(values),
        Some(p) => Err(Failure::Missing { part: part(p.place), field: p.name.clone() }),
    }
}

fn part(place: Place) -> Part {
    match place {
        Place::Path => Part::Path,
        Place::Query => Part::Query,
    }
}

pub(crate) fn failure(query: &DeclaredQuery, positions: &Positions, error: QueryError) -> Failure {
    let text = causes(&error);
    match error {
        QueryError::NotFound => Failure::NotFound,
        QueryError::BadParameter { name, detail } => {
            let declared = query.parameters.iter().find(|p| p.name == name);
            Failure::Invalid {
                part: declared.map_or(Part::Query, |p| part(p.place)),
                detail: format!("{name} {detail}."),
                field: name,
            }
        }
        QueryError::Stale { position } => Failure::Stale { position: positions.show(position) },
        QueryError::Busy { folds } => Failure::Busy { limit: "as_of_folds", at_most: folds },
        QueryError::FoldTooLong { deadline } => {
            Failure::FoldTooLong { at_most: deadline.as_secs() }
        }
        QueryError::Database(e) if e.is_closed() => Failure::Unavailable(text),
        QueryError::Journal(e) if !e.is_transient() => Failure::Internal(text),
        QueryError::TooSlow
        | QueryError::Journal(_)
        | QueryError::Pool(_)
        | QueryError::Changing(_) => Failure::Unavailable(text),
        // it was dropped a moment ago
        QueryError::Unknown(_) => Failure::NoRoute,
        QueryError::Database(_) | QueryError::BadOrder { .. } => Failure::Internal(text),
    }
}

#[cfg(test)]
mod tests {
    use daybook_projection::Catalogue;
    use uuid::Uuid;

    use super::*;

    /// The repository's own query of that name.
    fn of_name(name: &str) -> DeclaredQuery {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../projections");
        let catalogue = Catalogue::load(&folder).unwrap();
        let mut queries = catalogue.projections().iter().flat_map(|p| &p.queries);
        queries.find(|query| query.name == name).unwrap().clone()
    }

    fn field(failure: Failure) -> (Part, String) {
        match failure {
            Failure::Missing { part, field } | Failure::Invalid { part, field, .. } => {
                (part, field)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn customers_and_partners_see_their_own_rows_and_the_server_says_which_those_are() {
        let id = Uuid::from_u128(3);
        let scope_of = |role, subject| {
            scope(&Principal { tenant: 1, id: "owner:x".to_owned(), role, subject })
        };
        let customer = scope_of(Role::Customer, Some(id));
        assert_eq!((customer.customer_id, customer.partner_id), (Some(id), None));
        let partner = scope_of(Role::Partner, Some(id));
        assert_eq!((partner.customer_id, partner.partner_id), (None, Some(id)));
        for role in [Role::Operator, Role::Analyst, Role::Auditor, Role::Admin] {
            assert_eq!(scope_of(role, None), PrincipalScope::default());
        }
    }

    #[test]
    fn parameters_come_from_their_place_and_no_other() {
        let query = of_name("web_order");
        let path = HashMap::from([("order_id".to_owned(), "7".to_owned())]);
        assert_eq!(parameters(&query, &path, "", &Positions::default()).unwrap()["order_id"], "7");
        for wrong in ["order_id=8", "customer_id=8", "tenant=2", "limit=5"] {
            let refused = parameters(&query, &path, wrong, &Positions::default()).unwrap_err();
            let name = wrong.split('=').next().unwrap().to_owned();
            assert_eq!(field(refused), (Part::Query, name));
        }
        let list = of_name("web_orders");
        let none = HashMap::new();
        let read = parameters(&list, &none, "limit=5&cursor=x&status=paid", &Positions::default())
            .unwrap();
        assert_eq!((read["limit"].as_str(), read["status"].as_str()), ("5", "paid"));
    }

    #[test]
    fn a_wrong_value_is_named_with_its_place_and_trouble_of_ours_stays_inside() {
        let query = of_name("web_order");
        let bad = QueryError::BadParameter {
            name: "order_id".to_owned(),
            detail: "must be a UUID".to_owned(),
        };
        assert_eq!(
            field(failure(&query, &Positions::default(), bad)),
            (Part::Path, "order_id".to_owned())
        );
        assert!(matches!(
            failure(&query, &Positions::default(), QueryError::TooSlow),
            Failure::Unavailable(_)
        ));
        let changing = QueryError::Changing("x".to_owned());
        assert!(matches!(
            failure(&query, &Positions::default(), changing),
            Failure::Unavailable(_)
        ));
        let full = QueryError::Busy { folds: 2 };
        assert!(matches!(
            failure(&query, &Positions::default(), full),
            Failure::Busy { limit: "as_of_folds", at_most: 2 }
        ));
        let slow = QueryError::FoldTooLong { deadline: Duration::from_secs(20) };
        assert!(matches!(
            failure(&query, &Positions::default(), slow),
            Failure::FoldTooLong { at_most: 20 }
        ));
        let dropped = QueryError::Unknown("x".to_owned());
        assert!(matches!(failure(&query, &Positions::default(), dropped), Failure::NoRoute));
    }

    #[test]
    fn a_list_is_sent_with_the_cursor_of_the_next_page() {
        let answer = |next: Option<&str>| Answer {
            json: "[1]".to_owned(),
            position: 1,
            next: next.map(str::to_owned),
        };
        assert_eq!(body(AnswerShape::List, answer(Some("c"))), r#"{"items":[1],"next":"c"}"#);
        assert_eq!(body(AnswerShape::List, answer(None)), r#"{"items":[1],"next":null}"#);
        assert_eq!(body(AnswerShape::One, answer(None)), "[1]");
    }
}
