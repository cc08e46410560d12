-- How many events of a window the filter lets through, at most $7, and the last one's position.
-- The same conditions as in events.sql, without the contents.
select count(*), max(position) from (
    select position
    from journal.events
    where tenant = $1 and position > $2 and position <= $3
      and (cardinality($4::text[]) = 0 or type = any($4))
      and ($5::text is null or left(stream, length($5)) = $5)
      and ($6::text is null or meta->>'correlation' = $6)
    order by position limit $7
) found
