-- Macs of a tenant's events at these positions; none for positions that the journal doesn't have.
select position, mac from journal.events where tenant = $1 and position = any($2::bigint[])
