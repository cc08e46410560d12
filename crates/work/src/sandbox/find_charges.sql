-- Everything known about a payment.
select id, status, amount, currency, reason
from sandbox.charges
where payment_id = $1
order by created_at, id;
