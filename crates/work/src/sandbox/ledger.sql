-- The books as a whole: what was taken and what of it was given back.
select
    charge.id, charge.payment_id, charge.amount, charge.currency,
    coalesce((select sum(refund.amount) from sandbox.refunds refund
              where refund.charge_id = charge.id), 0)::bigint as refunded
from sandbox.charges charge
where charge.status = 'captured'
order by charge.created_at, charge.id;
