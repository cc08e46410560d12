declare
    amount bigint := part::bigint;
begin
    case e.type
    when 'OrderPlaced' then
        r.orders := r.orders + 1;
        r.sales := r.sales + amount;
        -- an import may bring an older order later
        r.first_order_at := least(r.first_order_at, e.occurred_at);
        r.last_order_at := greatest(r.last_order_at, e.occurred_at);
    when 'OrderItemsReturned' then
        r.returned := r.returned + amount;
    when 'OrderCancelled', 'OrderExpired' then
        r.closed_orders := r.closed_orders + 1;
        r.cancelled := r.cancelled + amount;
    when 'OrderCredited' then
        r.goodwill := r.goodwill + amount;
    when 'PaymentCaptured', 'PaymentRecorded' then
        r.paid := r.paid + amount;
    when 'PaymentRefunded' then
        r.refunded := r.refunded + amount;
    end case;
    r.value := r.sales - r.returned - r.cancelled - r.goodwill;
end;
