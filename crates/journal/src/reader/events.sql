-- A window of the tenant's total order: positions after $2 up to $3, of which the filter lets at
-- most $7 through. Found by position alone; `left` and not `starts_with`, so that no plan comes
-- upon reading every stream with that beginning.
select tenant, position, stream, version, type, schema_version, data::text, meta::text,
       occurred_at, recorded_at, mac
from journal.events
where tenant = $1 and position > $2 and position <= $3
  and (cardinality($4::text[]) = 0 or type = any($4))
  and ($5::text is null or left(stream, length($5)) = $5)
  and ($6::text is null or meta->>'correlation' = $6)
order by position limit $7
