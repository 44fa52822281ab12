-- What would have been missed of what goes. Reads the tables of numbers.sql, reach.sql and parts.sql, going(image_name, tag_name, action),
-- gone(image_name, manifest_hash), later(image_name, reference, pulled, pushed), uses(image_name, tag_name, manifest_hash, used_by),
-- today(image_name, tag_name, pushed) and moment(time): when it goes.

-- Under which names it goes: a tag's own until it is pushed again, and of the manifests that go with it their digests.
create temp table lost as
select g.image_name, g.tag_name, g.tag_name as reference,
       least(l.pushed, if(t.pushed > (select time from moment), t.pushed, null)) as until
from going g left join later l on l.image_name = g.image_name and l.reference = g.tag_name
left join today t on t.image_name = g.image_name and t.tag_name = g.tag_name
union all
select g.image_name, g.tag_name, d.hash, null
from going g join image i using (image_name) join tag t on t.image = i.image and t.tag_name = g.tag_name
join tag_node n on n.id = t.id join part p on p.top = n.node join digest d on d.digest = p.manifest
semi join gone on gone.image_name = g.image_name and gone.manifest_hash = d.hash
where g.action = 'delete';

create temp view missed as
select l.image_name, l.tag_name, min(a.pulled) as pulled, min(u.used_by) as used_by
from lost l
left join later a on a.image_name = l.image_name and a.reference = l.reference and (l.until is null or a.pulled < l.until)
left join uses u on u.image_name = l.image_name and l.reference in (u.tag_name, u.manifest_hash) and l.until is null
group by l.image_name, l.tag_name
having pulled is not null or used_by is not null;
