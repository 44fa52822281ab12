-- What the image behind a tag is made of, over all platforms. Reads manifests, "references" and the tables of reach.sql.
-- Numbers stand for hashes: there may be many millions of references.

create temp table number as
select row_number() over ()::integer as number, hash
from (select manifest_hash as hash from manifests union select reference_hash from "references");

create temp table refers as
select m.number as manifest, b.number as blob, r.reference_kind as kind
from "references" r join number m on m.hash = r.manifest_hash join number b on b.hash = r.reference_hash;

-- The manifests that a tag's image is made of: itself and its children, at any depth.
create temp table part as
with recursive p(top, node) as (
    select distinct node, node from tag_node
    union
    select p.top, c.dst from p join child c on c.src = p.node
)
select p.top, n.manifest_hash, m.number as manifest
from p join node n using (node) join number m on m.hash = n.manifest_hash;

-- A blob that is both (the empty descriptor of artifacts) is a layer.
create temp table part_blob as
select p.top, r.blob, max(r.kind) as blob_kind
from part p join refers r using (manifest)
where r.kind in ('config', 'layer')
group by all;
