//! The SQL of one projection, filled in from its folder and the columns of its table.

use daybook_journal::Upcasters;
use sha2::{Digest, Sha256};

use crate::{
    copied::EventTable,
    definition::{Definition, OnError},
    lexer,
};

const FUNCTIONS: &str = include_str!("../sql/functions.sql");
const DROP_FUNCTIONS: &str = include_str!("../sql/drop_functions.sql");
const FOLD: &str = include_str!("../sql/fold.sql");
const CHECK: &str = include_str!("../sql/check.sql");
const PARK: &str = include_str!("../sql/park.sql");
const AGGREGATE: &str = include_str!("../sql/aggregate.sql");
const AS_OF: &str = include_str!("../sql/as_of.sql");
const AS_OF_FOLD: &str = include_str!("../sql/as_of_fold.sql");

/// The one plan that is right for a batch of any size, whatever the statistics say: events from
/// the arrays, sorted by key, each key looked up in the primary key. So it is forced, and made
/// once a session instead of once a batch.
const PLAN_SETTINGS: &str = "set search_path = pg_catalog, {schema} set timezone = 'UTC' set jit = off \
    set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off \
    set enable_hashjoin = off set enable_mergejoin = off set enable_hashagg = off \
    set enable_material = off";

const EVENT_COLUMNS: [&str; 9] = [
    "position",
    "stream",
    "version",
    "type",
    "schema_version",
    "data",
    "meta",
    "occurred_at",
    "recorded_at",
];

/// A column of a projection's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) sql_type: String,
    pub(crate) collation: Option<String>,
    pub(crate) default: Option<String>,
    /// Place in the primary key, from 1.
    pub(crate) key: Option<i32>,
}

impl Column {
    fn attribute(&self) -> String {
        let collate = self.collation.as_ref().map_or(String::new(), |c| format!(" collate {c}"));
        format!("{} {}{collate}", self.name, self.sql_type)
    }
}

/// Hash of the templates: functions made from other templates are made anew.
pub(crate) fn engine_hash() -> String {
    let mut hash = Sha256::new();
    for part in [
        FUNCTIONS,
        FOLD,
        PARK,
        AGGREGATE,
        AS_OF,
        AS_OF_FOLD,
        PLAN_SETTINGS,
        include_str!("generate.rs"),
    ] {
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

/// Drops the functions and types of a version, if there are any.
pub(crate) fn drop_functions(definition: &Definition) -> String {
    DROP_FUNCTIONS.replace("{schema}", &definition.schema()).replace("{name}", &definition.name)
}

/// Which of the two large columns of an event a projection reads, so that nothing else travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reads {
    pub(crate) data: bool,
    pub(crate) meta: bool,
}

impl Reads {
    fn of(sql: &str) -> Self {
        let columns = lexer::columns_of_e(sql);
        let may_read = |name: &str| columns.as_ref().is_none_or(|c| c.contains(name));
        Self { data: may_read("data"), meta: may_read("meta") }
    }

    /// What `apply.sql` reads: an event with a thousand lines makes a thousand steps, which
    /// should not carry all of its data each.
    pub(crate) fn apply(definition: &Definition) -> Self {
        Self::of(&definition.texts.apply)
    }

    /// What the projection reads at all.
    pub(crate) fn any(definition: &Definition) -> Self {
        let (key, apply) = (Self::of(&definition.texts.key), Self::apply(definition));
        Self { data: key.data || apply.data, meta: key.meta || apply.meta }
    }
}

/// The functions and types of a version, which find events in `events`. The error says what is
/// wrong with its table.
pub(crate) fn functions(
    definition: &Definition,
    columns: &[Column],
    events: EventTable,
) -> Result<String, String> {
    match definition.on_error {
        OnError::Stop => fill_in(&format!("{FUNCTIONS}{AS_OF}"), definition, columns, events),
        OnError::Park => fill_in(&format!("{FUNCTIONS}{PARK}{AS_OF}"), definition, columns, events),
    }
}

/// The function that `check` folds with.
pub(crate) fn check_function(
    definition: &Definition,
    columns: &[Column],
) -> Result<String, String> {
    // it is given its events
    fill_in(CHECK, definition, columns, EventTable::Journal)
}

/// A template with everything that it may name.
fn fill_in(
    template: &str,
    definition: &Definition,
    columns: &[Column],
    events: EventTable,
) -> Result<String, String> {
    let name = &definition.name;
    let mut keys: Vec<&Column> = columns.iter().filter(|c| c.key.is_some()).collect();
    keys.sort_by_key(|c| c.key);
    if columns.first().is_none_or(|c| c.name != "tenant" || c.sql_type != "integer") {
        return Err("table.sql: the first column must be `tenant integer`".into());
    }
    if keys.first().is_none_or(|c| c.name != "tenant") || keys.len() < 2 {
        return Err("table.sql: the primary key must be (tenant, at least one column)".into());
    }
    let keys = &keys[1..];
    if let Some(odd) = columns.iter().find(|c| !is_plain_name(&c.name)) {
        return Err(format!("table.sql: column {} must be of a-z, 0-9 and _", odd.name));
    }

    let join = |columns: &[&Column], separator: &str, each: &dyn Fn(&Column) -> String| {
        columns.iter().map(|c| each(c)).collect::<Vec<_>>().join(separator)
    };
    let all: Vec<&Column> = columns.iter().collect();
    let others: Vec<&Column> = columns.iter().filter(|c| c.key.is_none()).collect();
    let prefixed =
        |columns: &[&Column], alias: &str| join(columns, ", ", &|c| format!("{alias}.{}", c.name));
    let same_key = |left: &str, right: &str| {
        join(keys, " and ", &|c| format!("{left}.{0} = {right}.{0}", c.name))
    };
    let folded = join(&all, ", ", &|c| match c.key {
        Some(1) => "p_tenant".into(),
        Some(_) => format!("s.{}", c.name),
        None => format!("(s.f).{}", c.name),
    });
    let set_excluded = if others.is_empty() {
        // nothing but a key: the row is there, and that is all
        format!("tenant = excluded.tenant, {0} = excluded.{0}", keys[0].name)
    } else {
        join(&others, ", ", &|c| format!("{0} = excluded.{0}", c.name))
    };
    let new_row = join(&all, "\n        ", &|c| match (&c.default, c.key) {
        (_, Some(2..)) => format!("r.{0} := k.{0};", c.name),
        (Some(default), None) => format!("r.{} := {default};", c.name),
        (_, _) => String::new(), // the tenant, and columns that begin as null
    });

    let reads = Reads::apply(definition);
    let event_row = |reads: Reads| {
        let columns = EVENT_COLUMNS.iter().map(|column| match *column {
            "data" if !reads.data => "null::jsonb".to_owned(),
            "meta" if !reads.meta => "null::jsonb".to_owned(),
            column => format!("event.{column}"),
        });
        format!("p_tenant, {}", columns.collect::<Vec<_>>().join(", "))
    };
    // Folds see the current form. `offset 0` keeps the planner from lifting an event once for each
    // mention of its data.
    let current = |data: &str| {
        let columns = EVENT_COLUMNS.iter().map(|column| match *column {
            "data" => format!("journal.upcast(type, schema_version, {data}) as data"),
            "schema_version" => {
                "journal.current_version(type, schema_version) as schema_version".to_owned()
            }
            column => column.to_owned(),
        });
        Upcasters::calls_of(&definition.upcasters, &columns.collect::<Vec<_>>().join(", "))
    };
    let from_arrays = format!(
        "select {} from unnest(p_positions, p_streams, p_versions, p_types, p_schema_versions, \
         p_data, p_meta, p_occurred_at, p_recorded_at) as u ({}) offset 0",
        current("data"),
        EVENT_COLUMNS.join(", ")
    );
    let types: Vec<_> = definition.events.iter().map(|e| format!("'{e}'")).collect();
    // `#> '{}'` is data itself, decompressed: once here, instead of at each mention in key.sql;
    // `offset 0` again keeps the planner from taking it to each mention after all.
    let from_table_where = |table: &str, found: &str| {
        format!(
            "select {} from {table} where tenant = p_tenant and {found} \
             and type = any (array[{}]) offset 0",
            current("data #> '{}'"),
            types.join(", ")
        )
    };
    let of_piece = "position > p_after and position <= p_until";
    let from_journal = from_table_where(events.name(), of_piece);
    // what a rebuild copies is seen by each of its connections
    let from_staged = match events {
        EventTable::Journal => from_journal.clone(),
        EventTable::Scratch => from_table_where("{schema}.{name}__copied", of_piece),
    };
    // `+ 0` keeps the primary key out: a stream's events are found by the stream's name, also where
    // there are so few streams that a third of all positions seems less
    let of_streams = "stream = any (p_streams) and position + 0 <= p_until";
    let from_streams = from_table_where(events.name(), of_streams);

    let schema = definition.schema();
    let table = format!("{schema}.{name}");
    let staging = format!("{schema}.{name}__staging");
    let keys_k = prefixed(keys, "k");
    let parks = definition.on_error == OnError::Park;
    let not_parked = |alias: &str| {
        format!(
            "not exists (select from projection.parked p where p.projection = '{name}' \
             and p.version = '{}' and p.tenant = p_tenant \
             and p.key = json_build_array({})::text)",
            definition.version,
            prefixed(keys, alias)
        )
    };
    let every_key = if parks { format!("where {}", not_parked("k")) } else { String::new() };
    // the key itself, as its own types tell equal ones: keys fan out and are computed
    let is_of_share = "(p_shares = 1 or (hash_record_extended(row({keys_k})::{schema}.{name}__key, 0) \
                    & 9223372036854775807) % p_shares = p_share)";
    let keys_of_share = match every_key.as_str() {
        "" => format!("where {is_of_share}"),
        not_parked => format!("{not_parked} and {is_of_share}"),
    };
    let one_key = format!("where json_build_array({keys_k})::text = p_key");
    let fill_steps = |template: &str, source: &str, table: &str, step_filter: &str| {
        template
            .replace("{step_filter}", step_filter)
            .replace("{event_source}", source)
            .replace("{table}", table)
            .replace("{event_row_step}", &event_row(reads))
            .replace("{event_row}", &event_row(Reads::any(definition)))
            .replace(
                "{key_expressions}",
                &join(keys, ", ", &|c| match &c.collation {
                    Some(collation) => format!("k.{0} collate {collation} as {0}", c.name),
                    None => format!("k.{}", c.name),
                }),
            )
            .replace("{keys_k}", &keys_k)
            .replace("{keys_s}", &prefixed(keys, "s"))
            .replace("{columns_t}", &prefixed(&all, "t"))
            .replace("{columns_f}", &folded)
            .replace("{same_key_s_t}", &same_key("s", "t"))
    };
    let fill =
        |template: &str, source: &str, table: &str| fill_steps(template, source, table, &every_key);
    let of_share = |template: &str| fill_steps(template, &from_staged, &staging, &keys_of_share);
    let of_key = |source: &str| fill_steps(FOLD, source, &table, &one_key);
    let as_of = |step_filter: &str| fill_steps(AS_OF_FOLD, "", "", step_filter);
    let of_given_key = "where to_jsonb(row({keys_k})::{schema}.{name}__key) @> p_key";
    let text = fill(template, &from_arrays, &table)
        .replace("{from_journal}", &from_journal)
        .replace("{from_streams}", &from_streams)
        .replace("{fold_as_of}", &as_of(""))
        .replace("{fold_key_as_of}", &as_of(of_given_key))
        .replace("{fold_arrays_of_key_into_table}", &of_key(&from_arrays))
        .replace("{fold_journal_of_key_into_table}", &of_key(&from_journal))
        .replace(
            "{and_not_parked_t}",
            &if parks { format!("and {}", not_parked("t")) } else { String::new() },
        )
        .replace("{fold_arrays_into_table}", &fill(FOLD, &from_arrays, &table))
        .replace("{fold_arrays_into_staging}", &fill(FOLD, &from_arrays, &staging))
        .replace("{fold_journal_into_table}", &fill(FOLD, &from_journal, &table))
        .replace("{aggregate_journal_into_table}", &fill(AGGREGATE, &from_journal, &table))
        .replace("{fold_journal_into_staging}", &of_share(FOLD))
        .replace("{aggregate_journal_into_staging}", &of_share(AGGREGATE))
        .replace("{name}", name)
        .replace("{plan_settings}", PLAN_SETTINGS)
        .replace("{schema}", &schema)
        .replace("{version}", &definition.version)
        .replace("{row_attributes}", &join(&all, ", ", &Column::attribute))
        .replace("{key_attributes}", &join(keys, ", ", &Column::attribute))
        .replace("{key_columns}", &join(keys, ", ", &|c| format!("{} {}", c.name, c.sql_type)))
        .replace("{keys}", &join(keys, ", ", &|c| c.name.clone()))
        .replace("{columns}", &join(&all, ", ", &|c| c.name.clone()))
        .replace("{columns_s}", &prefixed(&all, "s"))
        .replace("{columns_o}", &prefixed(&all, "o"))
        .replace("{same_key_s_t}", &same_key("s", "t"))
        .replace("{same_key_s_o}", &same_key("s", "o"))
        .replace("{set_excluded}", &set_excluded)
        .replace("{new_row}", &new_row);
    // the folder's own text last: what it says is never taken for a placeholder
    let own = |sql: &str| lexer::requalify(sql, &schema);
    Ok(text
        .replace("{key_sql}", &own(&definition.texts.key))
        .replace("{apply_sql}", &own(&definition.texts.apply)))
}

fn is_plain_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
