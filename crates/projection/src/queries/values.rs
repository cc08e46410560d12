//! A request's parameters as values of a statement.

use std::collections::HashMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{LIMIT_DEFAULT, LIMIT_MAX, PrincipalScope, QueryError, statement::own_parameters};
use crate::{
    definition::{AnswerShape, DeclaredQuery},
    parameter::{ParameterKind, Value},
};

pub(crate) fn bad(name: &str, detail: impl Into<String>) -> QueryError {
    QueryError::BadParameter { name: name.to_owned(), detail: detail.into() }
}

/// Values of all parameters but the cursor's.
pub(crate) fn values_before_cursor(
    query: &DeclaredQuery,
    tenant: i32,
    principal: PrincipalScope,
    params: &HashMap<String, String>,
) -> Result<Vec<Value>, QueryError> {
    let mut values: Vec<Value> =
        vec![Box::new(tenant), Box::new(principal.customer_id), Box::new(principal.partner_id)];
    values.extend(read_parameters(query, params)?);
    if query.answer == AnswerShape::List {
        values.push(Box::new(read_limit(params)?));
    }
    Ok(values)
}

fn read_parameters(
    query: &DeclaredQuery,
    params: &HashMap<String, String>,
) -> Result<Vec<Value>, QueryError> {
    let mut unknown: Vec<_> =
        params.keys().filter(|name| !query.parameters.iter().any(|p| p.name == **name)).collect();
    unknown.sort();
    if let Some(name) = unknown.first() {
        return Err(bad(name, "is unknown here"));
    }
    own_parameters(query)
        .map(|parameter| match params.get(&parameter.name) {
            Some(text) => parameter.kind.parse(text).map_err(|detail| bad(&parameter.name, detail)),
            None if parameter.required => Err(bad(&parameter.name, "is missing")),
            None => Ok(parameter.kind.null()),
        })
        .collect()
}

fn read_limit(params: &HashMap<String, String>) -> Result<i64, QueryError> {
    params.get("limit").map_or(Ok(LIMIT_DEFAULT), |text| {
        text.parse()
            .ok()
            .filter(|limit| (1..=LIMIT_MAX).contains(limit))
            .ok_or_else(|| bad("limit", format!("must be a number from 1 to {LIMIT_MAX}")))
    })
}

/// A cursor is the place of the last row seen: a JSON array of its order columns, in base64url.
pub(super) fn read_cursor(cursor: &str, kinds: &[ParameterKind]) -> Result<Vec<Value>, QueryError> {
    let place = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| wrong_cursor())?;
    read_place(&place, kinds)
}

/// Values of a place, the JSON array inside a cursor.
pub(crate) fn read_place(place: &[u8], kinds: &[ParameterKind]) -> Result<Vec<Value>, QueryError> {
    let place: Vec<serde_json::Value> =
        serde_json::from_slice(place).map_err(|_| wrong_cursor())?;
    if place.len() != kinds.len() {
        return Err(wrong_cursor());
    }
    place
        .iter()
        .zip(kinds)
        .map(|(value, kind)| {
            let text = match value {
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Number(number) => number.to_string(),
                serde_json::Value::Bool(truth) => truth.to_string(),
                serde_json::Value::Null
                | serde_json::Value::Array(_)
                | serde_json::Value::Object(_) => return Err(wrong_cursor()),
            };
            kind.parse(&text).map_err(|_| wrong_cursor())
        })
        .collect()
}

fn wrong_cursor() -> QueryError {
    bad("cursor", "must be `next` of an earlier answer")
}

#[cfg(test)]
mod tests {
    use super::{super::statement::tests::list, *};

    #[test]
    fn wrong_requests_are_refused_by_name() {
        let refused = |params: &[(&str, &str)]| {
            let params = params.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            match read_parameters(&list(), &params).map(|_| read_limit(&params)) {
                Err(QueryError::BadParameter { name, .. })
                | Ok(Err(QueryError::BadParameter { name, .. })) => name,
                other => panic!("{:?}", other.map(|_| ())),
            }
        };
        let id = ("id", "018f2a3b-0000-7000-8000-000000000001");
        assert_eq!(refused(&[]), "id");
        assert_eq!(refused(&[("id", "7")]), "id");
        assert_eq!(refused(&[id, ("day", "soon")]), "day");
        assert_eq!(refused(&[id, ("dya", "2011-12-09")]), "dya");
        assert_eq!(refused(&[id, ("tenant", "2")]), "tenant");
        assert_eq!(refused(&[id, ("customer_id", "x")]), "customer_id");
        for limit in ["0", "501", "-1", "many"] {
            assert_eq!(refused(&[id, ("limit", limit)]), "limit");
        }
    }

    #[test]
    fn a_cursor_is_read_or_refused() {
        let kinds = [ParameterKind::Timestamptz, ParameterKind::Bigint];
        let cursor = |json: &str| URL_SAFE_NO_PAD.encode(json);
        assert!(read_cursor(&cursor("[\"2011-12-09T12:50:00.5+00:00\", 7]"), &kinds).is_ok());
        for wrong in
            ["[]", "{}", "[1]", "[null, 7]", "[\"x\", 7]", "[\"2011-12-09T12:50:00Z\", []]"]
        {
            assert!(read_cursor(&cursor(wrong), &kinds).is_err(), "{wrong}");
        }
        assert!(read_cursor("%", &kinds).is_err());
    }
}
