-- Whether a role is there, and whether it is an owner here: the tables' or whoever asks.
select exists (select from pg_roles where rolname = $1),
       $1 = current_user or exists (
           select from pg_class c join pg_namespace n on n.oid = c.relnamespace
           where n.nspname = 'journal' and pg_get_userbyid(c.relowner) = $1)
