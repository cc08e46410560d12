-- Rows that hold a text in clear: events, remembered commands, jobs.
select format('event %s', position) from journal.events
where data::text like '%' || $1 || '%' or meta::text like '%' || $1 || '%'
union all
select format('command %s', key) from journal.commands
where outcome::text like '%' || $1 || '%'
union all
select format('job %s', id) from journal.jobs
where payload::text like '%' || $1 || '%'
   or position(convert_to($1, 'UTF8') in coalesce(sealed, '')) > 0
   -- an ended job keeps no token, sealed or not
   or (state = 'done' and sealed is not null)
