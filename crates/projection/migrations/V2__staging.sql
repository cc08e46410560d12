-- The staging table of a rebuild: made and dropped by the owner of the tables, through these two
-- functions, and filled by whoever rebuilds, who so needs no right to make tables.

create function projection.drop_staging(a_projection text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    if not exists (select from projection.definitions where projection = a_projection) then
        raise exception 'there is no projection %', a_projection using errcode = 'undefined_object';
    end if;
    execute format('drop table if exists read.%I', a_projection || '__staging');
end $$;

-- Unlogged: a crash throws the work away, and the old rows stay as they are.
create function projection.make_staging(a_projection text) returns void
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    staging text := a_projection || '__staging';
begin
    perform projection.drop_staging(a_projection);
    execute format('create unlogged table read.%I (like read.%I including defaults including indexes)',
        staging, a_projection);
    execute format('grant select, insert, update, delete on read.%I to %I', staging, session_user);
end $$;

-- A view per read model, for analysts; made and dropped with its table.
create schema if not exists analyst;
