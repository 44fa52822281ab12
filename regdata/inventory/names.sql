-- By which names a registry gives out what a tag leads to. Reads the tables of numbers.sql, reach.sql and parts.sql.

-- The tag's own, and the digests of its manifest and, of an index, its children.
create temp table led_to as
select distinct t.id, t.image, d.hash as reference
from tag_node t0 join tag t using (id) join part p on p.top = t0.node join digest d on d.digest = p.manifest
union
select t.id, t.image, d.hash from tag t join digest d using (digest)
union
select id, image, tag_name from tag;
