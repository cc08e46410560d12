//! Views for analysts: one for each event type, and one for the rows within its events.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use tokio_postgres::Client;

use crate::schema::{Column, ColumnType, ENVELOPE, EventTable, META, Schemas, snake_case};

/// Columns of an event that each of its rows has too.
const OF_ROWS: [(&str, &str); 4] = [
    ("tenant", "t.name"),
    ("position", "e.position"),
    ("stream", "e.stream"),
    ("occurred_at", "e.occurred_at"),
];

/// A view, and what its comments say.
struct View {
    name: String,
    about: String,
    select: String,
    /// Name and comment of each column that has one.
    columns: Vec<(String, String)>,
}

/// Makes the views `analyst.event_<type>` of all types, in the current form, and where an event
/// holds rows `analyst.event_<type>_<member>` with one row each. Those that are there and the same
/// are left alone. As the owner, in one transaction; rights are whoever's who provisions roles.
/// Returns how many were made.
pub async fn install_views(
    client: &mut Client,
    schemas: &Schemas,
) -> Result<usize, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    let mut made = 0;
    for view in schemas.tables().iter().flat_map(views) {
        let definition = view.definition();
        // The comment names the definition that the view was made from.
        let mark = &hex::encode(Sha256::digest(&definition))[..12];
        let sql = "select coalesce(obj_description(to_regclass($1), 'pg_class') like $2, false)";
        let name = format!("analyst.{}", view.name);
        let same = transaction.query_one(sql, &[&name, &format!("%[{mark}]")]).await?;
        if !same.get::<_, bool>(0) {
            let about = literal(&format!("{} [{mark}]", view.about));
            transaction
                .batch_execute(&format!(
                    "drop view if exists {name};\n{definition}\ncomment on view {name} is {about};"
                ))
                .await?;
            made += 1;
        }
    }
    transaction.commit().await?;
    Ok(made)
}

/// The view of a type, and those of its rows.
fn views(table: &EventTable) -> Vec<View> {
    let name = format!("event_{}", snake_case(&table.kind));
    let source = format!(
        "from journal.current_events e join journal.tenants t using (tenant)\nwhere e.type = {}",
        literal(&table.kind)
    );
    let mut select = Vec::new();
    for (column, _) in &ENVELOPE {
        select.push(match *column {
            "tenant" => "t.name as tenant".to_owned(),
            column => format!("e.{column}"),
        });
    }
    for (member, kind) in &META {
        select.push(format!("{} as {member}", member_of("e.meta", member, kind)));
    }
    for column in &table.columns {
        let value = member_of("e.data", &column.member, &column.kind);
        select.push(format!("{value} as \"{}\"", column.name));
    }
    let mut views = vec![View {
        about: format!("{} Each {}, in its current form.", table.about, table.kind),
        select: format!("select {}\n{source}", select.join(",\n       ")),
        columns: commented(&table.columns, &[]),
        name: name.clone(),
    }];
    for column in &table.columns {
        let ColumnType::Rows(rows) = &column.kind else { continue };
        views.push(rows_view(&format!("{name}_{}", column.member), table, column, rows, &source));
    }
    views
}

fn rows_view(
    name: &str,
    table: &EventTable,
    column: &Column,
    rows: &[Column],
    source: &str,
) -> View {
    let taken = OF_ROWS.map(|(name, _)| name);
    let mut select: Vec<String> =
        OF_ROWS.iter().map(|(name, value)| format!("{value} as {name}")).collect();
    for row in rows {
        let value = member_of("r.row", &row.member, &row.kind);
        select.push(format!("{value} as \"{}\"", row_name(row, &taken)));
    }
    // What is an id in the event tells whose row it is.
    for of_event in &table.columns {
        let is_free = rows.iter().all(|row| row_name(row, &taken) != of_event.name);
        if of_event.kind == ColumnType::Id && is_free {
            let value = member_of("e.data", &of_event.member, &of_event.kind);
            select.push(format!("{value} as \"{}\"", of_event.name));
        }
    }
    let source = source.replacen(
        "\nwhere ",
        &format!(
            "\n     cross join lateral jsonb_array_elements(\n         case jsonb_typeof(e.data->{0}) \
             when 'array' then e.data->{0} end) as r (row)\nwhere ",
            literal(&column.member)
        ),
        1,
    );
    View {
        name: name.to_owned(),
        about: format!("{} One row each of every {}.", column.about, table.kind),
        select: format!("select {}\n{source}", select.join(",\n       ")),
        columns: commented(rows, &taken),
    }
}

/// A row's column beside those of its event.
fn row_name(row: &Column, taken: &[&str]) -> String {
    if taken.contains(&row.name.as_str()) { format!("row_{}", row.name) } else { row.name.clone() }
}

fn commented(columns: &[Column], taken: &[&str]) -> Vec<(String, String)> {
    columns.iter().map(|column| (row_name(column, taken), column.about.clone())).collect()
}

/// A member of a JSON object as a value of its type.
fn member_of(object: &str, member: &str, kind: &ColumnType) -> String {
    let member = literal(member);
    match kind {
        ColumnType::Text => format!("{object}->>{member}"),
        ColumnType::Id => format!("({object}->>{member})::uuid"),
        ColumnType::Integer => format!("({object}->>{member})::bigint"),
        ColumnType::Boolean => format!("({object}->>{member})::boolean"),
        ColumnType::Time => format!("({object}->>{member})::timestamptz"),
        ColumnType::Rows(_) | ColumnType::Json => format!("{object}->{member}"),
    }
}

impl View {
    fn definition(&self) -> String {
        let mut sql = format!("create view analyst.{} as\n{};", self.name, self.select);
        for (column, about) in &self.columns {
            write!(
                sql,
                "\ncomment on column analyst.{}.\"{column}\" is {};",
                self.name,
                literal(about)
            )
            .expect("a string takes all text");
        }
        sql
    }
}

/// Text as an SQL literal that means the same whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    if text.contains('\\') {
        return format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"));
    }
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_type_has_a_view_and_its_rows_have_one() {
        let schema = json!({ "description": "It was moved.", "properties": {
            "order_id": { "type": "string", "format": "uuid" },
            "lines": { "type": "array", "description": "What.", "items": { "type": "object",
                "properties": { "position": { "type": "integer", "description": "Where it's." } } } },
        } });
        let schemas = Schemas::new([("ThingMoved".to_owned(), 1, schema)]).unwrap();
        let found = views(&schemas.tables()[0]);
        let names: Vec<&str> = found.iter().map(|view| &*view.name).collect();
        assert_eq!(names, ["event_thing_moved", "event_thing_moved_lines"]);
        let event = found[0].definition();
        assert!(event.contains("(e.data->>'order_id')::uuid as \"order_id\""), "{event}");
        assert!(event.contains("e.data->'lines' as \"lines\""), "{event}");
        assert!(
            event.ends_with(
                "where e.type = 'ThingMoved';\n\
            comment on column analyst.event_thing_moved.\"lines\" is 'What.';\n\
            comment on column analyst.event_thing_moved.\"order_id\" is '';"
            ),
            "{event}"
        );
        let rows = found[1].definition();
        assert!(rows.contains("(r.row->>'position')::bigint as \"row_position\""), "{rows}");
        assert!(rows.contains("(e.data->>'order_id')::uuid as \"order_id\""), "{rows}");
        assert!(rows.ends_with("\"row_position\" is 'Where it''s.';"), "{rows}");
    }
}
