-- Nothing here belongs to everybody: each role has what its own file grants, and no more.
revoke all on database {database} from public;
revoke create on schema public from public;
revoke all on schema {schemas} from public;
revoke all on all tables in schema {schemas}
    from public;
revoke all on all routines in schema {schemas}
    from public;
-- What a later migration makes is nobody's either, until the files here say whose.
alter default privileges revoke execute on routines from public;

-- Whoever may append may do it through this function alone: it runs as the owner, and no role has
-- the right to insert into the tables that it writes. The same goes for the list of processes. A
-- migration that replaces one says so itself; this holds where it forgets.
do $$
declare
    trusted regprocedure;
begin
    for trusted in select oid from pg_proc
        where pronamespace = 'journal'::regnamespace
          and proname in ('append', 'register_process', 'heartbeat')
    loop
        execute format('alter function %s security definer', trusted);
        execute format('alter function %s set search_path = pg_catalog, pg_temp', trusted);
    end loop;
end $$;
