-- Rows that two versions of a projection don't have in common, by key.
select jsonb_build_object({key}), to_jsonb(daybook_old) - 'tenant', to_jsonb(daybook_new) - 'tenant'
from (select * from {old} where tenant = $1) daybook_old
full join (select * from {new} where tenant = $1) daybook_new
    on {same_key}
where to_jsonb(daybook_old) is distinct from to_jsonb(daybook_new)
order by {keys}
