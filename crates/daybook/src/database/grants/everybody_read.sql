-- Nor does anything in the schemas of read models.
do $$
declare
    of_version text;
begin
    for of_version in select schema from projection.versions loop
        execute format('revoke all on schema %I from public', of_version);
        execute format('revoke all on all tables in schema %I from public', of_version);
        execute format('revoke all on all routines in schema %I from public', of_version);
    end loop;
end $$;
