select order_id, customer_id, since, currency, greatest(balance, 0) as owed_to_customer,
       (select jsonb_agg(jsonb_build_object('id', m.key) || m.value order by m.value->>'since', m.key)
        from jsonb_each(matters) m) as matters,
       updated_at
from read.attention
where tenant = :tenant and since is not null
  and (:kind is null
       or jsonb_path_exists(matters, '$.*.kind ? (@ == $kind)', jsonb_build_object('kind', :kind)))
