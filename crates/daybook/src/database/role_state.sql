-- Whether a role is there, and whether it is an owner here: of the journal or the read models, or
-- whoever asks.
select exists (select from pg_roles where rolname = $1),
       $1 = current_user or exists (
           select from pg_class c join pg_namespace n on n.oid = c.relnamespace
           where (n.nspname, c.relname) in (('journal', 'events'), ('projection', 'versions'))
             and pg_get_userbyid(c.relowner) = $1)
