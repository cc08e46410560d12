-- Idempotency records cost the append less: they were half of what PostgreSQL did for a command.
--
-- The outcome is text to PostgreSQL, which never looks into it. The key's index has the key first,
-- in which records differ, where every comparison went through a tenant's equal principals before.
-- And records are inserted plainly, where `on conflict do nothing` looked each key up beforehand and
-- logged every row twice: that somebody sends a key again is rare, and found by the index alone.
alter table journal.commands alter column outcome type json using outcome::json;
alter table journal.commands drop constraint commands_pkey;
alter table journal.commands add primary key (tenant, key, principal);

-- The one way into the journal, as V7 says, with the above.
create or replace function journal.append(
    a_tenant integer,
    a_head bigint,              -- position of the caller's head, 0 for an empty journal
    a_head_mac bytea,           -- its mac, so that a head never names two different events
    a_recorded_at timestamptz,
    -- events, parallel arrays
    e_streams text[],
    e_versions integer[],
    e_types text[],
    e_schema_versions smallint[],
    e_occurred_at timestamptz[],
    e_data text[],
    e_meta text[],
    e_macs bytea[],
    -- idempotency records, parallel arrays
    c_principals text[],
    c_keys text[],
    c_fingerprints bytea[],
    c_positions bigint[],
    c_keep_s bigint[],          -- seconds to keep the record, null for ever
    c_outcomes text[],          -- null: look the key up, but remember nothing under it
    -- jobs, parallel arrays
    j_ids uuid[],
    j_positions bigint[],
    j_delays_ms integer[],
    j_kinds text[],
    j_payloads text[],
    j_sealed bytea[]
) returns bigint language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    head_position bigint;
    head_mac bytea;
    head_recorded_at timestamptz;
    taken boolean;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'journal.append needs read committed, not %',
            current_setting('transaction_isolation') using errcode = 'invalid_transaction_state';
    end if;

    perform pg_advisory_xact_lock(1684107371, a_tenant);    -- journal.lock, inline

    select position, mac, recorded_at into head_position, head_mac, head_recorded_at
        from journal.events where tenant = a_tenant order by position desc limit 1;
    if coalesce(head_position, 0) <> a_head or head_mac is distinct from a_head_mac then
        return -1;
    end if;

    if cardinality(c_keys) > 0 then
        taken := cardinality(array_positions(c_outcomes, null)) > 0 and exists (
            select from unnest(c_principals, c_keys, c_outcomes) as c (principal, key, outcome)
            cross join lateral (
                select from journal.commands t
                where t.tenant = a_tenant and t.key = c.key and t.principal = c.principal
                limit 1
            ) t
            where c.outcome is null);
        if not taken then
            begin
                insert into journal.commands
                    (tenant, position, recorded_at, expires_at, principal, key, fingerprint,
                     outcome)
                select a_tenant, position, a_recorded_at,
                       clock_timestamp() + keep_s * interval '1 second',
                       principal, key, fingerprint, outcome::json
                from unnest(c_principals, c_keys, c_fingerprints, c_positions, c_keep_s,
                            c_outcomes)
                    as c (principal, key, fingerprint, position, keep_s, outcome)
                where outcome is not null;
            exception when unique_violation then
                taken := true;      -- and what was inserted here is gone again
            end;
        end if;
        if taken then
            raise exception 'idempotency key taken' using errcode = 'DB001', detail = (
                select json_agg(json_build_object(
                    'principal', c.principal, 'key', c.key,
                    'fingerprint', encode(t.fingerprint, 'hex'),
                    'position', t.position, 'outcome', t.outcome))
                from unnest(c_principals, c_keys) as c (principal, key)
                cross join lateral (
                    select fingerprint, position, outcome from journal.commands t
                    where t.tenant = a_tenant and t.key = c.key and t.principal = c.principal
                    limit 1
                ) t);
        end if;
    end if;

    if cardinality(e_streams) > 0 then
        if a_recorded_at < head_recorded_at then
            raise exception 'recorded_at would decrease' using errcode = 'DB006';
        end if;
        if a_recorded_at > clock_timestamp() + interval '2 seconds'
            and a_recorded_at > coalesce(head_recorded_at, '-infinity') then
            raise exception 'the writer''s clock is ahead of the database''s by %',
                a_recorded_at - clock_timestamp() using errcode = 'DB002';
        end if;
        insert into journal.events (position, occurred_at, recorded_at, tenant, version,
                                    schema_version, stream, type, mac, data, meta)
        select a_head + n, occurred_at, a_recorded_at, a_tenant, version,
               schema_version, stream, type, mac, data::jsonb, meta::jsonb
        from unnest(e_streams, e_versions, e_types, e_schema_versions, e_occurred_at, e_data,
                    e_meta, e_macs) with ordinality
            as e (stream, version, type, schema_version, occurred_at, data, meta, mac, n);
    end if;

    if cardinality(j_ids) > 0 then
        insert into journal.jobs (id, tenant, position, run_at, kind, payload, sealed)
        select id, a_tenant, position,
               clock_timestamp() + make_interval(secs => delay_ms / 1000.0),
               kind, payload::jsonb, sealed
        from unnest(j_ids, j_positions, j_delays_ms, j_kinds, j_payloads, j_sealed)
            as j (id, position, delay_ms, kind, payload, sealed)
        on conflict do nothing;     -- an id is derived from what the job is for
    end if;

    return a_head + cardinality(e_streams);
end $$;
