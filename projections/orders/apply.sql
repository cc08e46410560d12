begin
    r.version := e.version;
    r.position := e.position;
    r.updated_at := e.occurred_at;
    r.history := r.history || jsonb_build_array(jsonb_build_array(e.occurred_at, e.type,
        case e.type when 'OrderPlaced' then e.data->'total'
                    when 'OrderPaid' then e.data->'total'
                    when 'OrderShipped' then e.data->'complete'
                    else coalesce(e.data->'credit', e.data->'amount') end));

    case e.type
    when 'OrderPlaced' then
        r.customer_id := (e.data->>'customer_id')::uuid;
        r.partner_id := (e.data->>'partner_id')::uuid;
        r.reference := e.data->>'reference';
        r.country := e.data->>'country';
        r.currency := e.data->>'currency';
        r.status := 'placed';
        r.shipping := (e.data->>'shipping')::bigint;
        r.tax := (e.data->>'tax')::bigint;
        r.total := (e.data->>'total')::bigint;
        r.placed_at := e.occurred_at;
        r.expires_at := (e.data->>'expires_at')::timestamptz;
        r.lines := e.data->'lines';
        select coalesce(sum((l.line->>'quantity')::bigint), 0) into r.units
            from jsonb_array_elements(r.lines) as l (line);

    when 'OrderPaymentOpened' then
        r.expires_at := null;       -- not while a payment is open
        r.payments := r.payments || jsonb_build_object(e.data->>'payment_id', jsonb_build_object(
            'amount', e.data->'amount', 'status', 'open', 'at', e.occurred_at));
    when 'OrderPaymentCaptured' then
        -- a new deadline, if it was not enough
        r.expires_at := (e.data->>'expires_at')::timestamptz;
        r.paid := r.paid + (e.data->>'amount')::bigint;
        r.payments := r.payments || jsonb_build_object(e.data->>'payment_id', jsonb_build_object(
            'amount', e.data->'amount', 'status', 'captured', 'at', e.occurred_at));
    when 'OrderPaymentClosed' then
        r.expires_at := (e.data->>'expires_at')::timestamptz;
        r.payments := r.payments || jsonb_build_object(e.data->>'payment_id', jsonb_build_object(
            'amount', e.data->'amount', 'status', 'closed', 'at', e.occurred_at,
            'reason', e.data->'reason'));
    when 'OrderPaid' then
        -- an order released on account may be paid after it was shipped
        r.paid_at := e.occurred_at;
        r.expires_at := null;
        if r.status = 'placed' then r.status := 'paid'; end if;

    when 'OrderShipped' then
        r.status := case when (e.data->>'complete')::boolean then 'shipped' else 'partly_shipped' end;
        r.shipped_at := coalesce(r.shipped_at, e.occurred_at);
        r.expires_at := null;
        r.shipments := r.shipments || jsonb_build_array(jsonb_build_object(
            'shipment', e.data->'shipment', 'shipped_at', e.occurred_at, 'lines', e.data->'lines'));
    when 'OrderDelivered' then
        r.status := 'delivered';
        r.delivered_at := e.occurred_at;

    when 'OrderCancelled', 'OrderExpired' then
        r.credited := r.credited + (e.data->>'credit')::bigint;
        r.credits := r.credits || jsonb_build_array(jsonb_build_object(
            'kind', case e.type when 'OrderExpired' then 'expired' else 'cancelled' end,
            'at', e.occurred_at, 'reason', e.data->'reason', 'credit', e.data->'credit',
            'lines', e.data->'lines'));
        r.closed_at := e.occurred_at;
        r.close_reason := e.data->>'reason';
        r.expires_at := null;
        -- what was shipped before the rest was cancelled stays shipped
        r.status := case when r.shipped_at is not null then 'shipped'
                         when e.type = 'OrderExpired' then 'expired' else 'cancelled' end;
    when 'OrderItemsReturned' then
        r.credited := r.credited + (e.data->>'credit')::bigint;
        r.credits := r.credits || jsonb_build_array(jsonb_build_object(
            'kind', 'returned', 'at', e.occurred_at, 'credit', e.data->'credit',
            'lines', e.data->'lines'));
    when 'OrderCredited' then
        r.credited := r.credited + (e.data->>'credit')::bigint;
        r.credits := r.credits || jsonb_build_array(jsonb_build_object(
            'kind', 'goodwill', 'at', e.occurred_at, 'reason', e.data->'reason',
            'credit', e.data->'credit'));

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
end;
