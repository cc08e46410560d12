-- A role starts from nothing, so that what an earlier version granted too much is gone.
revoke all on all tables in schema {schemas}
    from {role};
revoke all on all routines in schema {schemas}
    from {role};
revoke all on schema {schemas} from {role};
alter default privileges in schema analyst revoke all on tables from {role};
grant connect on database {database} to {role};
-- Old events are read in their current form by whoever reads events: pure functions, which a view
-- calls with the rights of whoever asks it.
do $$
declare
    lifting regprocedure;
begin
    for lifting in select oid from pg_proc
        where pronamespace = 'journal'::regnamespace and provolatile = 'i' and not prosecdef
          and proname ~ '^(upcast|current_version|lift)(_|$)'
    loop
        execute format('grant execute on function %s to %s', lifting, $role${role}$role$);
    end loop;
end $$;
