-- Everything known about a refund.
select id, amount, currency
from sandbox.refunds
where refund_id = $1
order by created_at, id;
