-- Remembers an answer under its key. No row: the key has its answer already.
insert into sandbox.answers (key, request, answer) values ($1, $2, $3)
on conflict (key) do nothing;
