-- Position of the last event recorded by a moment, 0 before the first. Positions have no gap and
-- recorded_at never decreases from one to the next, so halving finds it by a look-up a step.
with recursive search (low, high) as (
    select 0::bigint, coalesce((select e.position from journal.events e where e.tenant = $1
                                order by e.position desc limit 1), 0)
    union all
    select case when e.recorded_at <= $2 then e.position else s.low end,
           case when e.recorded_at <= $2 then s.high else e.position - 1 end
    from search s
    join journal.events e on e.tenant = $1 and e.position = s.low + (s.high - s.low + 1) / 2
    where s.low < s.high
)
select low from search where low = high
