begin
    if r.order_id is null then
        r.order_id := (e.data->>'order_id')::uuid;
        r.customer_id := (e.data->>'customer_id')::uuid;
        r.amount := (e.data->>'amount')::bigint;
        r.currency := e.data->>'currency';
        r.requested_at := e.occurred_at;
        r.method := 'gateway';
        r.gateway := e.data->>'gateway';
    end if;

    case e.type
    when 'PaymentRequested' then
        r.status := 'open';
        r.deadline := (e.data->>'deadline')::timestamptz;
    when 'PaymentIdentified' then
        r.gateway_payment_id := e.data->>'gateway_payment_id';
    when 'PaymentCaptured' then
        r.status := 'captured';
        r.gateway_payment_id := e.data->>'gateway_payment_id';
        r.reason := null;
        r.attention := null;
        r.settled_at := e.occurred_at;
    when 'PaymentDeclined' then
        r.status := 'declined';
        r.reason := e.data->>'reason';
        r.attention := null;
        r.settled_at := e.occurred_at;
    when 'PaymentUnresolved' then
        r.attention := e.data->>'reason';
        -- what contradicts a settled payment does not unsettle it
        if r.status in ('open', 'unresolved') then
            r.status := 'unresolved';
            r.reason := e.data->>'reason';
        end if;
    when 'PaymentDisputed' then
        r.attention := format('disputed: %s (%s)', e.data->>'status', e.data->>'reason');
        r.disputes := r.disputes || jsonb_build_object(e.data->>'dispute_id', jsonb_build_object(
            'amount', e.data->'disputed', 'currency', e.data->'disputed_currency',
            'status', e.data->'status', 'reason', e.data->'reason', 'at', e.occurred_at));
    when 'PaymentRecorded' then
        r.status := 'captured';
        r.method := e.data->>'method';
        r.reference := e.data->>'reference';
        r.settled_at := e.occurred_at;

    when 'PaymentRefundRequested' then
        r.refunds := r.refunds || jsonb_build_object(e.data->>'refund_id', jsonb_build_object(
            'amount', e.data->'amount', 'status', 'open', 'at', e.occurred_at,
            'reason', e.data->'reason'));
    when 'PaymentRefunded' then
        r.refunded := r.refunded + (e.data->>'amount')::bigint;
        r.refunds := r.refunds || jsonb_build_object(e.data->>'refund_id', jsonb_build_object(
            'amount', e.data->'amount', 'status', 'settled', 'at', e.occurred_at,
            'settled_elsewhere', e.data->'settled_elsewhere'));
    when 'PaymentRefundFailed' then
        r.refunds := r.refunds || jsonb_build_object(e.data->>'refund_id', jsonb_build_object(
            'amount', e.data->'amount', 'status', 'failed', 'at', e.occurred_at,
            'reason', e.data->'reason'));
    end case;
end;
