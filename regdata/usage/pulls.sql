-- What logs say of each manifest as of $until: reads line(time, form, method, repository, reference, agent, n).

with counted as (
    select form, least(time, $until) // 86400 as day, repository, reference, method,
           sum(n) as n, coalesce(sum(n) filter (time > $until - 30 * 86400), 0) as recent, max(least(time, $until)) as last
    from line
    where method is not null and ($later or time <= $until)
      -- Whatever pushes has a use for it.
      and (method = 'PUT' or not is_ignored(agent, $ignored))
    group by all
),
-- The registry's own log and that of a proxy before it know the same requests.
daily as (
    select day, repository, reference, method, max(n) as n, max(recent) as recent, max(last) as last
    from counted group by all
)
select repository as image_name, reference, max(last) filter (method = 'GET') as last_pulled,
       coalesce(sum(recent) filter (method = 'GET'), 0)::bigint as pulls_30d,
       coalesce(sum(n) filter (method = 'GET'), 0)::bigint as pulls_total,
       max(last) as last_seen
from daily group by all
