-- Takes the money, or writes down that it was declined.
insert into sandbox.charges (id, payment_id, status, amount, currency, reason)
values ($1, $2, $3, $4, $5, $6);
