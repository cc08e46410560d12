-- The one way into the journal: a batch of decided commands, all or nothing, in one call.
--
-- Returns the new head's position; or -1, having written nothing, when somebody else has appended
-- since the caller's head. An idempotency key that is taken aborts with SQLSTATE DB001 and its
-- record (a JSON array of them) in the error's detail. A batch whose clock runs ahead aborts with
-- DB002.
--
-- Volatile, and the head is read in a statement after the lock's: in read committed each statement
-- takes a new snapshot, so the head is the one that the lock protects.
create function journal.append(
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
) returns bigint language plpgsql volatile as $$
declare
    head_position bigint;
    head_mac bytea;
    head_recorded_at timestamptz;
    fresh integer;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'journal.append needs read committed, not %',
            current_setting('transaction_isolation') using errcode = 'invalid_transaction_state';
    end if;

    perform journal.lock(a_tenant);

    select position, mac, recorded_at into head_position, head_mac, head_recorded_at
        from journal.events where tenant = a_tenant order by position desc limit 1;
    if coalesce(head_position, 0) <> a_head or head_mac is distinct from a_head_mac then
        return -1;
    end if;

    if cardinality(c_keys) > 0 then
        with inserted as (
            insert into journal.commands
                (tenant, position, recorded_at, expires_at, principal, key, fingerprint, outcome)
            select a_tenant, position, a_recorded_at,
                   clock_timestamp() + make_interval(secs => keep_s),
                   principal, key, fingerprint, outcome::jsonb
            from unnest(c_principals, c_keys, c_fingerprints, c_positions, c_keep_s, c_outcomes)
                as c (principal, key, fingerprint, position, keep_s, outcome)
            where outcome is not null
            on conflict do nothing
            returning 1
        )
        select count(*) into fresh from inserted;
        if fresh <> cardinality(c_keys) - cardinality(array_positions(c_outcomes, null))
            or (fresh <> cardinality(c_keys) and exists (
                select from unnest(c_principals, c_keys, c_outcomes) as c (principal, key, outcome)
                join journal.commands t
                    on t.tenant = a_tenant and t.principal = c.principal and t.key = c.key
                where c.outcome is null))
        then
            raise exception 'idempotency key taken' using errcode = 'DB001', detail = (
                select json_agg(json_build_object(
                    'principal', t.principal, 'key', t.key,
                    'fingerprint', encode(t.fingerprint, 'hex'),
                    'position', t.position, 'outcome', t.outcome))
                from unnest(c_principals, c_keys) as c (principal, key)
                join journal.commands t
                    on t.tenant = a_tenant and t.principal = c.principal and t.key = c.key
                -- What this very call inserted is not what stood in its way.
                where t.xmin <> pg_current_xact_id()::xid);
        end if;
    end if;

    if cardinality(e_streams) > 0 then
        if a_recorded_at < head_recorded_at then
            raise exception 'recorded_at would decrease' using errcode = 'DB002';
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

-- Who holds this lock is the only one to append to the tenant, until its transaction ends.
create function journal.lock(a_tenant integer) returns void language sql volatile as $$
    select pg_advisory_xact_lock(1684107371, a_tenant)     -- "dayk", then the tenant
$$;
