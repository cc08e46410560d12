-- A rebuild may be done in shares, each of the keys whose hash is its own, by a connection of its
-- own. Each notes how far it is.
alter table projection.rebuilds
    add column share integer not null default 0,
    add column shares integer not null default 1,
    add check (share >= 0 and share < shares),
    drop constraint rebuilds_pkey,
    add primary key (projection, version, tenant, share);

-- Drops what make_staging makes.
create or replace function projection.drop_staging(a_projection text, a_version text) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set client_min_messages = warning as $$
declare
    its_schema text;
begin
    select schema into strict its_schema from projection.versions
        where projection = a_projection and version = a_version;
    execute format('drop table if exists %I.%I, %I.%I', its_schema, a_projection || '__staging',
                   its_schema, a_projection || '__copied');
end $$;

-- A staging table is looked into by key alone: the other indexes would cost more than the fold.
-- Where the journal is in another database, what is to be folded of it is copied first, to a table
-- that every share sees.
create or replace function projection.make_staging(a_projection text, a_version text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    its_schema text;
    staging text := a_projection || '__staging';
    copied text := a_projection || '__copied';
    its_key text;
begin
    perform projection.drop_staging(a_projection, a_version);
    select schema into strict its_schema from projection.versions
        where projection = a_projection and version = a_version;
    select string_agg(quote_ident(a.attname), ', '
                      order by array_position(i.indkey::smallint[], a.attnum))
        into strict its_key
        from pg_index i
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
        where i.indrelid = format('%I.%I', its_schema, a_projection)::regclass and i.indisprimary;
    execute format('create unlogged table %I.%I (like %I.%I including defaults, primary key (%s))',
                   its_schema, staging, its_schema, a_projection, its_key);
    execute format('grant select, insert, update, delete on %I.%I to %I',
                   its_schema, staging, session_user);
    if to_regclass('journal.events') is not null then return; end if;
    -- emptied for each piece, so nothing of it is ever worth a vacuum, which would be in the way
    execute format('create unlogged table %I.%I (
        tenant integer not null,
        position bigint not null,
        stream text collate "C" not null,
        version integer not null,
        type text collate "C" not null,
        schema_version smallint not null,
        data jsonb not null,
        meta jsonb not null,
        occurred_at timestamptz not null,
        recorded_at timestamptz not null
    ) with (autovacuum_enabled = false)', its_schema, copied);
    execute format('grant select, insert, truncate on %I.%I to %I', its_schema, copied, session_user);
end $$;

-- Gives the grantees what they need in a version's schema: readers one tenant's rows, whoever folds
-- all. What a rebuild has there meanwhile holds every tenant's, and is no reader's business. Locks
-- the table only where its policies are not what they should be.
create or replace function projection.open_schema(a_schema text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    grantee record;
    its_table regclass;
    of_a_rebuild record;
    policy record;
begin
    for grantee in select role, may from projection.grantees loop
        execute format('grant usage on schema %I to %s', a_schema, grantee.role);
        execute format('grant execute on all routines in schema %I to %s', a_schema, grantee.role);
        execute format('grant %s on all tables in schema %I to %s',
            case grantee.may when 'fold' then 'select, insert, update, delete' else 'select' end,
            a_schema, grantee.role);
    end loop;
    for of_a_rebuild in
        select g.role, c.relname
        from projection.grantees g, projection.versions v, pg_class c
        where g.may = 'read' and v.schema = a_schema and c.relnamespace = a_schema::regnamespace
          and c.relname in (v.projection || '__staging', v.projection || '__copied')
    loop
        execute format('revoke all on %I.%I from %s', a_schema, of_a_rebuild.relname, of_a_rebuild.role);
    end loop;

    select format('%I.%I', schema, projection)::regclass into strict its_table
        from projection.versions where schema = a_schema;
    if not (select relrowsecurity from pg_class where oid = its_table) then
        execute format('alter table %s enable row level security', its_table);
    end if;
    for policy in
        select w.name, w.sql, wanted.roles, wanted.names, found.roles as there
        from (values
            ('read', 'one_tenant', 'for select to %s using
                (tenant = nullif(current_setting(''daybook.tenant'', true), '''')::integer)'),
            ('fold', 'every_tenant', 'to %s using (true) with check (true)')
        ) as w (may, name, sql)
        cross join lateral (
            select array_agg(g.role::regrole::oid order by g.role::regrole::oid) as roles,
                   string_agg(g.role, ', ') as names
            from projection.grantees g where g.may = w.may
        ) wanted
        left join lateral (
            select (select array_agg(r order by r) from unnest(p.polroles) r) as roles
            from pg_policy p where p.polrelid = its_table and p.polname = w.name
        ) found on true
    loop
        continue when policy.roles is not distinct from policy.there;
        execute format('drop policy if exists %I on %s', policy.name, its_table);
        if policy.roles is not null then
            execute format('create policy %I on %s ' || policy.sql,
                policy.name, its_table, policy.names);
        end if;
    end loop;
end $$;
