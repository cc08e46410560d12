-- Keeps the newest: several processes may offer one, each what it knows. One of another incarnation
-- is of another history and goes.
insert into journal.snapshots as kept
    (tenant, stream, fingerprint, version, position, incarnation, mac, state)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (tenant, stream, fingerprint) do update
    set version = excluded.version, position = excluded.position,
        incarnation = excluded.incarnation, mac = excluded.mac, state = excluded.state,
        taken_at = clock_timestamp()
    where kept.version <= excluded.version or kept.incarnation <> excluded.incarnation
