//! `<path>/live`: a declared query's answer, and the next one whenever it has changed.

mod group;
mod hub;
mod places;
mod stream;

use std::collections::BTreeMap;

use daybook_identity::Principal;
use daybook_projection::{DeclaredQuery, ParameterKind};
use futures::Stream;
use uuid::Uuid;
use warp::{
    http::{HeaderName, HeaderValue, header},
    reply::Response,
};

use crate::{
    app::{App, Request, set_position},
    body, format,
    positions::{Positions, Sought},
    problem::Failure,
    queries, request,
    surface::Surface,
};

pub(crate) use hub::Hub;
pub(crate) use places::Place;
#[cfg(test)]
pub(crate) use places::Places;
pub(crate) use stream::{BEAT, HEARTBEAT, KEY_ENDED, SHUTDOWN, last, retry};

/// Media type of server-sent events.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// What is asked, by whom: subscribers with the same question share its evaluation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Question {
    query: String,
    tenant: i32,
    customer_id: Option<Uuid>,
    partner_id: Option<Uuid>,
    parameters: BTreeMap<String, String>,
}

/// A question as one subscriber asks it.
struct Asked {
    question: Question,
    /// Positions as all see them who may ask this question.
    positions: Positions,
    /// Key of the row that it is about, if it is about one.
    row: Option<String>,
}

/// Begins to follow one declared query.
pub(crate) async fn run(
    app: &App,
    surface: &Surface,
    index: usize,
    principal: &Principal,
    request: &Request,
) -> Result<Response, Failure> {
    let query = surface.query(index);
    format::check(&request.headers, EVENT_STREAM)?;
    let parameters = queries::parameters(query, &request.path, &request.query, &request.positions)?;
    let wanted = match request::min_position(&request.headers, &request.positions)? {
        Some(Sought::Position(wanted)) => Some(wanted),
        Some(Sought::Elsewhere) | None => None,
    };
    let described = surface.description(&app.queries, index).await;
    let described =
        described.map_err(|error| queries::failure(query, &request.positions, error))?;
    let row = described.key.as_ref().and_then(|name| row_key(query, name, &parameters));

    let place = app.hub.place(principal, request::bearer(&request.headers).unwrap_or_default())?;
    let scope = queries::scope(principal);
    let question = Question {
        query: query.name.clone(),
        tenant: principal.tenant,
        customer_id: scope.customer_id,
        partner_id: scope.partner_id,
        parameters: parameters.into_iter().collect(),
    };
    let answer = async || queries::answer(app, query, principal, request).await;
    let positions = request.positions.clone();
    let asked = Asked { question, positions: positions.clone(), row };
    let answers = app.hub.follow(asked, query, wanted, answer).await?;
    let position = answers.borrow().checked;
    let seen = request::last_event_id(&request.headers, &positions);
    let events = stream::events(answers, place, seen, positions.clone(), app.shutdown.clone());
    let mut response = response(events);
    set_position(&mut response, &positions, position);
    Ok(response)
}

/// Server-sent events as an answer.
pub(crate) fn response(events: impl Stream<Item = String> + Send + 'static) -> Response {
    let mut response = body::endless(events, EVENT_STREAM);
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that gather answers would keep the events back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// The key of the row that the question is about, as [`group::key_of_change`] has it. `None` where
/// it can't be compared as text: then any change of the projection counts.
fn row_key(
    query: &DeclaredQuery,
    name: &str,
    parameters: &std::collections::HashMap<String, String>,
) -> Option<String> {
    let kind = query.parameters.iter().find(|p| p.name == name)?.kind;
    let text = parameters.get(name)?;
    match kind {
        ParameterKind::Text | ParameterKind::Boolean => Some(text.clone()),
        ParameterKind::Uuid => Some(text.parse::<Uuid>().ok()?.to_string()),
        ParameterKind::Date => Some(text.parse::<chrono::NaiveDate>().ok()?.to_string()),
        ParameterKind::Integer | ParameterKind::Bigint | ParameterKind::Position => {
            Some(text.parse::<i64>().ok()?.to_string())
        }
        ParameterKind::Timestamptz => None,
    }
}

#[cfg(test)]
mod tests {
    use daybook_projection::Catalogue;

    use super::*;

    #[test]
    fn a_row_is_known_by_the_same_text_whatever_form_the_request_has() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../projections");
        let catalogue = Catalogue::load(&folder).unwrap();
        let mut queries = catalogue.projections().iter().flat_map(|p| &p.queries);
        let order = queries.find(|query| query.name == "web_order").unwrap();
        let id = "0199C2A4-5C00-7E3A-8A51-3F1F0D4B7C10";
        let parameters = std::collections::HashMap::from([("order_id".to_owned(), id.to_owned())]);
        let row = row_key(order, "order_id", &parameters).unwrap();
        assert_eq!(Some(row), group::key_of_change(&format!("[\"{}\"]", id.to_lowercase())));
    }
}
