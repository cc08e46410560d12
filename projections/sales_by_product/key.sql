-- An order of a hundred lines touches a hundred products; lines of the same product are one step.
select l.line->>'sku' as sku,
       e.data->>'currency' as currency,
       jsonb_build_array(sum((l.line->>'quantity')::bigint),
                         sum((l.line->>case when e.type = 'OrderItemsReturned' then 'credit'
                                            else 'amount' end)::bigint)) as part
from jsonb_array_elements(e.data->'lines') as l (line)
group by 1
