-- Queries see one tenant's rows, whatever their SQL says: those of the tenant that the transaction is
-- for, which the server sets before the query runs (`daybook.tenant`). Without it they see nothing.

-- Gives the grantees what they need in a version's schema: readers one tenant's rows, whoever folds
-- all. Locks the table only where its policies are not what they should be.
create or replace function projection.open_schema(a_schema text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    grantee record;
    its_table regclass;
    policy record;
begin
    for grantee in select role, may from projection.grantees loop
        execute format('grant usage on schema %I to %s', a_schema, grantee.role);
        execute format('grant execute on all routines in schema %I to %s', a_schema, grantee.role);
        execute format('grant %s on all tables in schema %I to %s',
            case grantee.may when 'fold' then 'select, insert, update, delete' else 'select' end,
            a_schema, grantee.role);
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
