-- What this history has: no payment fails and nothing is for a person to look at, so a row is an
-- order that is to be paid, sent or given money back for.
select 1 as tenant, order_id::uuid, customer_id::uuid, currency, balance, refunding, to_ship,
       case when pending = 1 then expires_at::timestamptz end as expires_at,
       case when to_ship and balance >= 0 then captured_at end as paid_since,
       null::timestamptz as unpaid_since, payments, '{}'::jsonb as matters, null::timestamptz as since,
       updated_at
from (
    select data->>'order_id' as order_id, max(data->>'customer_id') as customer_id,
           max(data->>'currency') as currency,
           coalesce(sum(case
               when type = 'OrderPlaced' then -(data->>'total')::bigint
               when type = 'OrderPaymentCaptured' then (data->>'amount')::bigint
               when type in ('OrderItemsReturned', 'OrderExpired') then (data->>'credit')::bigint
               when type = 'OrderRefundOpened' then -(data->>'amount')::bigint end), 0)::bigint as balance,
           coalesce(sum(case type when 'OrderRefundOpened' then (data->>'amount')::bigint
               when 'OrderRefundSettled' then -(data->>'amount')::bigint end), 0)::bigint as refunding,
           not bool_or(type in ('OrderShipped', 'OrderExpired')) as to_ship,
           max(data->>'expires_at') as expires_at,
           count(*) as pending,
           max(occurred_at) filter (where type = 'OrderPaymentCaptured') as captured_at,
           case when bool_or(type = 'OrderPaymentOpened') and not bool_or(type = 'OrderPaymentCaptured')
                then jsonb_build_object(max(data->>'payment_id'),
                                        max((data->>'amount')::bigint)) else '{}' end as payments,
           max(occurred_at) as updated_at
    from journal.events
    where tenant = 1 and type in (
        'OrderPlaced', 'OrderPaymentOpened', 'OrderPaymentCaptured', 'OrderPaymentClosed',
        'OrderShipped', 'OrderCancelled', 'OrderExpired', 'OrderItemsReturned', 'OrderCredited',
        'OrderRefundOpened', 'OrderRefundSettled', 'OrderRefundFailed',
        'PaymentCaptured', 'PaymentDeclined', 'PaymentUnresolved', 'PaymentDisputed')
    group by data->>'order_id'
) o
where balance <> 0 or refunding <> 0 or to_ship or payments <> '{}'
