-- The next events of a tenant, in the form in which they stand.
select position, stream, version, type, schema_version, data::text, meta::text,
       occurred_at, recorded_at, mac
    from journal.events where tenant = $1 and position > $2 order by position limit $3
