-- Restoring a journal from an export: events are put in again at the positions that they had.
--
-- A function of the owner's that nobody else may call. It appends at head + 1, under the tenant's
-- lock, what fits there, and nothing else: so a restore can overwrite nothing and leave no gap,
-- whatever it is given. Raises DB010 where the head is another one than the caller's, DB011 where
-- the events don't fit, DB012 where one has a version that isn't activated here.
create function journal.restore(
    a_tenant integer,
    a_head bigint,              -- position of the caller's head, 0 for an empty journal
    a_head_mac bytea,           -- its mac
    -- events from a_head + 1 on, parallel arrays
    e_streams text[],
    e_versions integer[],
    e_types text[],
    e_schema_versions smallint[],
    e_occurred_at timestamptz[],
    e_recorded_at timestamptz[],
    e_data text[],
    e_meta text[],
    e_macs bytea[]
) returns bigint language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    head_position bigint;
    head_mac bytea;
    head_recorded_at timestamptz;
    wrong text;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'journal.restore needs read committed, not %',
            current_setting('transaction_isolation') using errcode = 'invalid_transaction_state';
    end if;

    perform journal.lock(a_tenant);
    if not exists (select from journal.tenants where tenant = a_tenant) then
        raise exception 'there is no tenant %', a_tenant using errcode = 'DB011';
    end if;

    select position, mac, recorded_at into head_position, head_mac, head_recorded_at
        from journal.events where tenant = a_tenant order by position desc limit 1;
    if coalesce(head_position, 0) <> a_head or head_mac is distinct from a_head_mac then
        raise exception 'the journal''s last position is %, not %, or another event stands there',
            coalesce(head_position, 0), a_head using errcode = 'DB010';
    end if;

    select type || '/' || schema_version into wrong
        from (select distinct type, schema_version
              from unnest(e_types, e_schema_versions) as e (type, schema_version)) e
        where not exists (select from journal.activations a
                          where a.type = e.type and a.version = e.schema_version)
        limit 1;
    if wrong is not null then
        raise exception '% is not activated here', wrong using errcode = 'DB012';
    end if;

    select 'position ' || a_head + n into wrong
        from (select n, recorded_at, lag(recorded_at, 1, head_recorded_at) over (order by n) as before
              from unnest(e_recorded_at) with ordinality as e (recorded_at, n)) e
        where recorded_at < before
        order by n limit 1;
    if wrong is not null then
        raise exception '%: recorded_at would decrease', wrong using errcode = 'DB011';
    end if;

    select format('position %s: version %s of stream %s', a_head + n, version, stream) into wrong
        from (select e.n, e.stream, e.version,
                     row_number() over (partition by e.stream order by e.n) + b.last as expected
              from unnest(e_streams, e_versions) with ordinality as e (stream, version, n)
              join (select stream, coalesce((select max(version) from journal.events t
                                             where t.tenant = a_tenant and t.stream = s.stream), 0)
                                   as last
                    from (select distinct stream collate "C" as stream
                          from unnest(e_streams) as u (stream)) s) b
                on b.stream = e.stream) e
        where version <> expected
        order by n limit 1;
    if wrong is not null then
        raise exception '% doesn''t follow the one before', wrong using errcode = 'DB011';
    end if;

    insert into journal.events (position, occurred_at, recorded_at, tenant, version,
                                schema_version, stream, type, mac, data, meta)
    select a_head + n, occurred_at, recorded_at, a_tenant, version,
           schema_version, stream, type, mac, data::jsonb, meta::jsonb
    from unnest(e_streams, e_versions, e_types, e_schema_versions, e_occurred_at, e_recorded_at,
                e_data, e_meta, e_macs) with ordinality
        as e (stream, version, type, schema_version, occurred_at, recorded_at, data, meta, mac, n);

    return a_head + cardinality(e_streams);
end $$;
revoke execute on function journal.restore from public;
