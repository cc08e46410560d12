//! What is sent to PostgreSQL for a declared query.

use std::time::Duration;

use tokio_postgres::{Column, types::Type};
use uuid::Uuid;

use super::{LIMIT_DEFAULT, QueryError};
use crate::{
    catalogue::Catalogue,
    definition::{AnswerShape, BOUND, DeclaredQuery, PAGING},
    lexer,
    parameter::{ParameterKind, Value},
};

/// What is sent for the first page of a query, in order; `$1` is the tenant, `$2` and `$3` are the
/// principal's customer and partner, then come the query's own parameters. `None`: there is no such
/// query. For measurements.
pub fn statements(catalogue: &Catalogue, query: &str) -> Option<[String; 2]> {
    let mut queries = catalogue.projections().iter().flat_map(|p| &p.queries);
    let query = queries.find(|declared| declared.name == query)?;
    Some([SETTINGS.to_owned(), statement(query, None)])
}

/// What holds for the statement that is sent behind it on the same connection, which is a transaction
/// of its own: what [`begin`] says of one that it begins. `$1` is the tenant. All of it is set anew
/// for each statement: the one before may have changed what it liked.
pub(super) const SETTINGS: &str = include_str!("../../sql/settings.sql");

/// Nothing is written, no rows but the tenant's are seen (by the tables' row security, where the
/// login is not their owner's), names mean what they say, and JSON has its times in UTC.
pub(crate) fn begin(tenant: i32, longest: Duration) -> String {
    format!(
        "begin transaction isolation level repeatable read read only; \
         set local daybook.tenant = '{tenant}'; set local search_path = pg_catalog; \
         set local statement_timeout = {}; set local timezone = 'UTC'",
        longest.as_millis().max(1)
    )
}

/// Parameters of the SQL file, without those of paging, which come after them.
pub(super) fn own_parameters(query: &DeclaredQuery) -> impl Iterator<Item = &crate::Parameter> {
    let is_list = query.answer == AnswerShape::List;
    query.parameters.iter().filter(move |p| !(is_list && PAGING.contains(&p.name.as_str())))
}

/// Types of all parameters, since a file need not use each of the server's own.
pub(crate) fn parameter_types(query: &DeclaredQuery, following: &[ParameterKind]) -> Vec<Type> {
    let mut types = vec![Type::INT4, Type::UUID, Type::UUID];
    types.extend(own_parameters(query).map(|parameter| parameter.kind.sql_type()));
    if query.answer == AnswerShape::List {
        types.push(Type::INT8);
    }
    types.extend(following.iter().map(|kind| kind.sql_type()));
    types
}

/// The SQL file with numbered, typed parameters.
pub(crate) fn bound_sql(query: &DeclaredQuery) -> String {
    bind(query, &query.sql_of_version())
}

fn bind(query: &DeclaredQuery, sql: &str) -> String {
    let bound = lexer::bind_named(sql, |name| {
        if let Some(at) = BOUND.iter().position(|(bound, _)| *bound == name) {
            return Ok(format!("${}::{}", at + 1, BOUND[at].1));
        }
        own_parameters(query)
            .enumerate()
            .find(|(_, parameter)| parameter.name == name)
            .map(|(at, p)| format!("${}::{}", BOUND.len() + at + 1, p.kind.sql_name()))
            .ok_or(())
    });
    bound.expect("the catalogue refuses names that are not declared")
}

/// What is sent for a query: the first page, or with the types of its order a following one.
pub(crate) fn statement(query: &DeclaredQuery, following: Option<&[ParameterKind]>) -> String {
    statement_of(query, &query.sql_of_version(), following)
}

/// The same around this SQL in place of the query's.
pub(crate) fn statement_of(
    query: &DeclaredQuery,
    sql: &str,
    following: Option<&[ParameterKind]>,
) -> String {
    let fill = |template: &str| {
        template
            .replace("{projection}", &query.projection)
            .replace("{version}", &query.version)
            .replace("{query}", &bind(query, sql))
    };
    if query.answer == AnswerShape::One {
        return fill(include_str!("../../sql/query_one.sql"));
    }
    let limit_at = BOUND.len() + own_parameters(query).count() + 1;
    let columns: Vec<_> = query.order.columns.iter().map(|c| format!("q.{c}")).collect();
    let direction = if query.order.descending { " desc" } else { "" };
    let order: Vec<_> = columns.iter().map(|c| format!("{c}{direction}")).collect();
    let after = following.map_or(String::new(), |kinds| {
        let places: Vec<_> = kinds
            .iter()
            .enumerate()
            .map(|(at, kind)| format!("${}::{}", limit_at + at + 1, kind.sql_name()))
            .collect();
        let beyond = if query.order.descending { '<' } else { '>' };
        // The second condition follows from the first. It lets an index on the first column alone
        // find the place, where the others are of another table or made by a function.
        let (columns_all, places_all) = (columns.join(", "), places.join(", "));
        let (column, place) = (&columns[0], &places[0]);
        format!("where ({columns_all}) {beyond} ({places_all}) and {column} {beyond}= {place}")
    });
    let template = include_str!("../../sql/query_list.sql")
        .replace("{limit}", &format!("${limit_at}::bigint"))
        .replace("{order_columns}", &columns.join(", "))
        .replace("{order}", &order.join(", "))
        .replace("{after}", &after);
    fill(&template)
}

/// Kinds of the columns that a list is ordered by.
pub(crate) fn order_kinds(
    query: &DeclaredQuery,
    columns: &[Column],
) -> Result<Vec<ParameterKind>, QueryError> {
    let kind = |name: &String| {
        let column = columns.iter().find(|column| column.name() == name);
        let sql_type = column.map_or("unknown", |column| column.type_().name());
        ParameterKind::of_type(sql_type).ok_or_else(|| QueryError::BadOrder {
            query: query.name.clone(),
            column: name.clone(),
            sql_type: sql_type.to_owned(),
        })
    };
    query.order.columns.iter().map(kind).collect()
}

/// Values that the first statement of a query takes: nothing is given, and nobody asks.
pub(crate) fn sample_values(query: &DeclaredQuery) -> Vec<Value> {
    let mut values: Vec<Value> =
        vec![Box::new(0_i32), Box::new(None::<Uuid>), Box::new(None::<Uuid>)];
    values.extend(own_parameters(query).map(|parameter| parameter.kind.null()));
    if query.answer == AnswerShape::List {
        values.push(Box::new(LIMIT_DEFAULT));
    }
    values
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{definition::Order, queries::QUERY_TIMEOUT};

    /// A list with parameters of path and query string.
    pub(in crate::queries) fn list() -> DeclaredQuery {
        let parameter = |name: &str, kind, place| crate::Parameter {
            name: name.into(),
            kind,
            required: place == crate::Place::Path,
            place,
            title: String::new(),
        };
        DeclaredQuery {
            projection: "t".into(),
            version: "0123456789abcdef".into(),
            name: "q".into(),
            title: String::new(),
            path: "/v1/web/q/{id}".into(),
            roles: vec!["customer".into()],
            answer: AnswerShape::List,
            formats: vec![crate::Format::Json],
            live: true,
            key: None,
            columns: std::collections::BTreeMap::new(),
            positions: Vec::new(),
            as_of: None,
            parameters: vec![
                parameter("id", ParameterKind::Uuid, crate::Place::Path),
                parameter("day", ParameterKind::Date, crate::Place::Query),
                parameter("limit", ParameterKind::Integer, crate::Place::Query),
                parameter("cursor", ParameterKind::Text, crate::Place::Query),
            ],
            sql: "select :tenant, :customer_id, :id, :day::text".into(),
            order: Order { columns: vec!["a".into(), "b".into()], descending: true },
        }
    }

    #[test]
    fn what_is_measured_is_what_is_sent() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../projections");
        let catalogue = Catalogue::load(&folder).unwrap();
        let declared = catalogue.projections().iter().flat_map(|p| &p.queries);
        for query in declared {
            let [settings, sent] = statements(&catalogue, &query.name).unwrap();
            assert_eq!((settings.as_str(), sent), (SETTINGS, statement(query, None)));
        }
        assert_eq!(statements(&catalogue, "no_such_query"), None);
        let longest = format!("'statement_timeout', '{}'", QUERY_TIMEOUT.as_millis());
        assert!(SETTINGS.contains(&longest), "{SETTINGS}");
    }

    #[test]
    fn parameters_are_numbered_and_typed() {
        assert_eq!(bound_sql(&list()), "select $1::integer, $2::uuid, $4::uuid, $5::date::text");
        let first = statement(&list(), None);
        assert!(first.contains("limit $6::bigint + 1") && !first.contains("$7"), "{first}");
        let kinds = [ParameterKind::Timestamptz, ParameterKind::Uuid];
        let following = statement(&list(), Some(&kinds));
        assert!(
            following.contains(
                "where (q.a, q.b) < ($7::timestamptz, $8::uuid) and q.a <= $7::timestamptz"
            ),
            "{following}"
        );
        assert!(following.contains("order by q.a desc, q.b desc"), "{following}");
    }
}
