declare
    field text;         -- of a line: shipped, returned, cancelled
    changes jsonb;      -- {line number: quantity}
begin
    r.version := e.version;
    r.updated_at := e.occurred_at;

    case e.type
    when 'OrderPlaced' then
        r.customer_id := (e.data->>'customer_id')::uuid;
        r.partner_id := (e.data->>'partner_id')::uuid;
        r.reference := e.data->>'reference';
        r.country := e.data->>'country';
        r.currency := e.data->>'currency';
        r.status := 'placed';
        r.total := (e.data->>'total')::bigint;
        r.placed_at := e.occurred_at;
        r.expires_at := (e.data->>'expires_at')::timestamptz;
        select coalesce(jsonb_agg((l.line - 'tracked')
                                  || '{"shipped": 0, "returned": 0, "cancelled": 0}'), '[]'),
               coalesce(sum((l.line->>'quantity')::bigint), 0)
            into r.lines, r.units
            from jsonb_array_elements(e.data->'lines') as l (line);

    when 'OrderPaymentOpened' then
        r.payments := r.payments || jsonb_build_object(e.data->>'payment_id', jsonb_build_object(
            'amount', e.data->'amount', 'status', 'open', 'at', e.occurred_at));
    when 'OrderPaymentCaptured' then
        r.paid := r.paid + (e.data->>'amount')::bigint;
        r.payments := r.payments || jsonb_build_object(e.data->>'payment_id', jsonb_build_object(
            'amount', e.data->'amount', 'status', 'captured', 'at', e.occurred_at));
    when 'OrderPaymentClosed' then
        r.payments := r.payments || jsonb_build_object(e.data->>'payment_id', jsonb_build_object(
            'amount', e.data->'amount', 'status', 'closed', 'at', e.occurred_at,
            'reason', e.data->'reason'));
    when 'OrderPaid' then
        -- an order released on account may be paid after it was shipped
        r.paid_at := e.occurred_at;
        r.expires_at := null;
        if r.status = 'placed' then r.status := 'paid'; end if;

    when 'OrderShipped' then
        field := 'shipped';
        r.status := case when (e.data->>'complete')::boolean then 'shipped' else 'partly_shipped' end;
        r.shipped_at := coalesce(r.shipped_at, e.occurred_at);
        r.expires_at := null;
        r.shipments := r.shipments || jsonb_build_array(jsonb_build_object(
            'shipment', e.data->'shipment', 'shipped_at', e.occurred_at, 'lines', e.data->'lines'));
    when 'OrderDelivered' then
        r.status := 'delivered';
        r.delivered_at := e.occurred_at;

    when 'OrderCancelled', 'OrderExpired' then
        field := 'cancelled';
        r.credited := r.credited + (e.data->>'credit')::bigint;
        r.closed_at := e.occurred_at;
        r.close_reason := e.data->>'reason';
        r.expires_at := null;
        -- what was shipped before the rest was cancelled stays shipped
        r.status := case when r.shipped_at is not null then 'shipped'
                         when e.type = 'OrderExpired' then 'expired' else 'cancelled' end;
    when 'OrderItemsReturned' then
        field := 'returned';
        r.credited := r.credited + (e.data->>'credit')::bigint;
        r.credits := r.credits || jsonb_build_array(jsonb_build_object(
            'at', e.occurred_at, 'reason', 'returned', 'credit', e.data->'credit',
            'lines', e.data->'lines'));
    when 'OrderCredited' then
        r.credited := r.credited + (e.data->>'credit')::bigint;
        r.credits := r.credits || jsonb_build_array(jsonb_build_object(
            'at', e.occurred_at, 'reason', e.data->'reason', 'credit', e.data->'credit'));

    when 'OrderRefundOpened' then
        r.refunds := r.refunds || jsonb_build_object(e.data->>'refund_id', jsonb_build_object(
            'payment_id', e.data->'payment_id', 'amount', e.data->'amount',
            'status', 'open', 'at', e.occurred_at));
    when 'OrderRefundSettled' then
        r.refunded := r.refunded + (e.data->>'amount')::bigint;
        r.refunds := r.refunds || jsonb_build_object(e.data->>'refund_id', jsonb_build_object(
            'payment_id', e.data->'payment_id', 'amount', e.data->'amount',
            'status', 'settled', 'at', e.occurred_at));
    when 'OrderRefundFailed' then
        r.refunds := r.refunds || jsonb_build_object(e.data->>'refund_id', jsonb_build_object(
            'payment_id', e.data->'payment_id', 'amount', e.data->'amount',
            'status', 'failed', 'at', e.occurred_at, 'reason', e.data->'reason'));
    end case;

    if field is not null then
        select jsonb_object_agg(c.line, c.quantity) into changes from (
            select l.line->>'line' as line, sum((l.line->>'quantity')::bigint) as quantity
                from jsonb_array_elements(e.data->'lines') as l (line) group by 1) c;
        select coalesce(jsonb_agg(case when changes ? (l.line->>'line')
                then l.line || jsonb_build_object(
                    field, (l.line->>field)::bigint + (changes->>(l.line->>'line'))::bigint)
                else l.line end), '[]')
            into r.lines
            from jsonb_array_elements(r.lines) as l (line);
    end if;
end;
