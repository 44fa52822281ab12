-- What the image behind a tag is made of, over all platforms. Reads "references" and the tables of reach.sql.

-- The manifests that a tag's image is made of: itself and its children, at any depth.
create temp table part as
with recursive p(top, node) as (
    select distinct node, node from tag_node
    union
    select p.top, c.dst from p join child c on c.src = p.node
)
select top, n.node, n.manifest_hash from p join node n using (node);

-- A blob that is both (the empty descriptor of artifacts) is a layer.
create temp table part_blob as
select p.top, r.reference_hash as blob_hash, max(r.reference_kind) as blob_kind
from part p join "references" r on r.manifest_hash = p.manifest_hash
where r.reference_kind in ('config', 'layer')
group by all;
