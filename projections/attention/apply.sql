declare
    amount bigint := (part->>'amount')::bigint;
    id text := part->>'payment_id';
    before jsonb := r.matters;
begin
    r.customer_id := coalesce(r.customer_id, (part->>'customer_id')::uuid);
    r.currency := coalesce(r.currency, part->>'currency');
    r.updated_at := e.occurred_at;

    case e.type
    when 'OrderPlaced' then
        r.balance := -(part->>'total')::bigint;
        r.to_ship := true;
        r.expires_at := (part->>'expires_at')::timestamptz;
    when 'OrderPaymentOpened' then
        r.expires_at := null;       -- not while a payment is open
        r.payments := r.payments || jsonb_build_object(id, amount);
    when 'OrderPaymentCaptured' then
        r.expires_at := (part->>'expires_at')::timestamptz;
        r.payments := r.payments - id;
        r.balance := r.balance + amount;
    when 'OrderPaymentClosed' then
        r.expires_at := (part->>'expires_at')::timestamptz;
        r.payments := r.payments - id;
    when 'OrderShipped' then
        r.to_ship := not (part->>'complete')::boolean;
        r.expires_at := null;
    when 'OrderCancelled', 'OrderExpired' then
        r.to_ship := false;
        r.expires_at := null;
        r.balance := r.balance + (part->>'credit')::bigint;
    when 'OrderItemsReturned', 'OrderCredited' then
        r.balance := r.balance + (part->>'credit')::bigint;

    when 'OrderRefundOpened' then
        r.refunding := r.refunding + amount;
        r.balance := r.balance - amount;
    when 'OrderRefundSettled' then
        r.refunding := r.refunding - amount;
    when 'OrderRefundFailed' then
        r.refunding := r.refunding - amount;
        r.balance := r.balance + amount;
        r.matters := r.matters || jsonb_build_object(part->>'refund_id', jsonb_build_object(
            'kind', 'refund_failed', 'payment_id', id, 'since', e.occurred_at, 'amount', amount,
            'text', part->'reason'));

    when 'PaymentCaptured', 'PaymentDeclined' then
        r.matters := r.matters - id;
    when 'PaymentUnresolved' then
        -- what is said of a payment that was settled already contradicts what is known
        r.matters := r.matters || jsonb_build_object(id, jsonb_build_object(
            'kind', case when r.payments ? id then 'unresolved' else 'contradiction' end,
            'payment_id', id, 'since', coalesce(r.matters->id->'since', to_jsonb(e.occurred_at)),
            'amount', amount, 'text', part->'reason'));
    when 'PaymentDisputed' then
        id := part->>'dispute_id';
        if part->>'status' in ('won', 'prevented', 'warning_closed') then
            r.matters := r.matters - id;    -- the gateway's words for what ended without a loss
        else
            r.matters := r.matters || jsonb_build_object(id, jsonb_build_object(
                'kind', 'dispute', 'payment_id', part->'payment_id',
                'since', coalesce(r.matters->id->'since', to_jsonb(e.occurred_at)),
                'amount', part->'disputed',
                'text', format('%s (%s)', part->>'status', part->>'reason')));
        end if;
    end case;

    if r.balance > 0 then
        null;                               -- a failed refund stands until it is made good
    elsif jsonb_path_exists(r.matters, '$.*.kind ? (@ == "refund_failed")') then
        r.matters := (select coalesce(jsonb_object_agg(m.key, m.value), '{}')
                      from jsonb_each(r.matters) m where m.value->>'kind' <> 'refund_failed');
    end if;
    if r.matters <> before then
        r.since := (select min((m.value->>'since')::timestamptz) from jsonb_each(r.matters) m);
    end if;
    r.paid_since := case when r.to_ship and r.balance >= 0
                         then coalesce(r.paid_since, e.occurred_at) end;
    r.unpaid_since := case when not r.to_ship and r.balance < 0
                           then coalesce(r.unpaid_since, e.occurred_at) end;

    if r.balance = 0 and r.refunding = 0 and not r.to_ship and r.payments = '{}' and r.matters = '{}'
    then
        return null;
    end if;
end;
