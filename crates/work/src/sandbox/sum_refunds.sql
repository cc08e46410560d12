-- What was given back of a charge so far. A statement of its own, after the lock: it must see what
-- the refund before it has committed.
select coalesce(sum(amount), 0)::bigint as refunded from sandbox.refunds where charge_id = $1;
