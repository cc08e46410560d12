-- Loses the first request of a key; no row: it was lost before, this one arrives.
insert into sandbox.lost (key) values ($1) on conflict (key) do nothing;
