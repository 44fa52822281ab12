-- What the image behind a tag is made of, over all platforms. Reads the tables of numbers.sql and reach.sql.

-- The manifests that a tag's image is made of: itself and its children, at any depth.
create table part as
with recursive p(top, node) as (
    select distinct node, node from tag_node
    union
    select p.top, c.dst from p join child c on c.src = p.node
)
select p.top, n.digest as manifest from p join node n using (node);

-- A blob that is both (the empty descriptor of artifacts) is a layer.
create table part_blob as
select p.top, r.blob, max(r.kind) as kind
from part p join refers r using (manifest)
where r.kind in ('config', 'layer')
group by all;
