-- What it may in the schemas of read models is in projection.grantees.
delete from projection.grantees where role = $role${role}$role$;
do $$
declare
    of_version text;
begin
    for of_version in select schema from projection.versions loop
        execute format('revoke all on all tables in schema %I from %s', of_version, $role${role}$role$);
        execute format('revoke all on all routines in schema %I from %s', of_version, $role${role}$role$);
        execute format('revoke all on schema %I from %s', of_version, $role${role}$role$);
    end loop;
end $$;
