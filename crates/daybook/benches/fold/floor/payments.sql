-- What this history has: payments that are asked for, captured and in part given back.
select 1 as tenant, (data->>'payment_id')::uuid as payment_id,
       max(data->>'order_id')::uuid as order_id, max(data->>'customer_id')::uuid as customer_id,
       case when bool_or(type = 'PaymentCaptured') then 'captured' else 'open' end as status,
       max((data->>'amount')::bigint) filter (where type = 'PaymentRequested') as amount,
       max(data->>'currency') as currency,
       coalesce(sum((data->>'amount')::bigint) filter (where type = 'PaymentRefunded'), 0)::bigint as refunded,
       'gateway' as method, max(data->>'gateway') as gateway,
       max(data->>'gateway_payment_id') as gateway_payment_id,
       null::text as reference, null::text as reason, null::text as attention,
       min(occurred_at) as requested_at,
       max(data->>'deadline')::timestamptz as deadline,
       max(occurred_at) filter (where type = 'PaymentCaptured') as settled_at,
       coalesce(jsonb_object_agg(data->>'refund_id', case type
           when 'PaymentRefunded' then jsonb_build_object(
               'amount', data->'amount', 'status', 'settled', 'at', occurred_at,
               'settled_elsewhere', data->'settled_elsewhere')
           else jsonb_build_object(
               'amount', data->'amount', 'status', 'open', 'at', occurred_at,
               'reason', data->'reason') end)
           filter (where type in ('PaymentRefundRequested', 'PaymentRefunded')), '{}') as refunds,
       '{}'::jsonb as disputes
from (select type, occurred_at, data from journal.events
      where tenant = 1 and type in (
          'PaymentRequested', 'PaymentIdentified', 'PaymentCaptured', 'PaymentDeclined',
          'PaymentUnresolved', 'PaymentDisputed', 'PaymentRecorded', 'PaymentRefundRequested',
          'PaymentRefunded', 'PaymentRefundFailed')
      order by data->>'payment_id', position) e
group by data->>'payment_id'
