-- Gives the money back.
insert into sandbox.refunds (id, refund_id, charge_id, amount, currency)
values ($1, $2, $3, $4, $5);
