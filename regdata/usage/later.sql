-- When each manifest was first pulled after $after, and first pushed: reads line(time, method, repository, reference, agent).

select repository as image_name, reference, min(time) filter (method = 'GET') as pulled, min(time) filter (method = 'PUT') as pushed
from line
where time > $after and (method = 'PUT' or method = 'GET' and not is_ignored(agent, $ignored))
group by all
