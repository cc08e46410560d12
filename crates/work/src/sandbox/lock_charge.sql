-- The charge to refund from, locked until the refund is written, so that two refunds of one charge
-- can't both have the same money.
select id, amount, currency
from sandbox.charges
where payment_id = $1 and status = 'captured'
order by created_at, id
limit 1
for update;
