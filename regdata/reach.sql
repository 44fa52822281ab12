-- What holds what inside a repository. Reads tags (id, image_name, tag_name, tag_hash), manifests and "references";
-- shared by inventory.sql and plan.sql, so that both mean the same by "reaches".

-- A node is a manifest of a repository: the same digest in two repositories is two nodes.
create temp table node as
select row_number() over (order by image_name, manifest_hash) as node, image_name, manifest_hash, subject_hash, error, pushed
from manifests;

-- An index holds its children; a manifest of unknown type holds whatever it mentions.
create temp table child as
select distinct p.node as src, c.node as dst
from (select * from "references" where reference_kind in ('manifest', 'unknown')) r
join node p on p.manifest_hash = r.manifest_hash
join node c on c.image_name = p.image_name and c.manifest_hash = r.reference_hash
where p.node <> c.node;

-- OCI image-spec: `subject` names the manifest that a referrer (signature, attestation, SBOM) belongs to.
create temp table referrer as
select s.node as subject, r.node as node
from (select * from node where subject_hash is not null) r
join node s on s.image_name = r.image_name and s.manifest_hash = r.subject_hash
where s.node <> r.node;

create temp table tag_node as
select t.id, t.image_name, t.tag_name, n.node
from tags t join node n on n.image_name = t.image_name and n.manifest_hash = t.tag_hash;

-- What hangs on a manifest by what manifests say: its children and its referrers.
create temp table content_edge as
select src, dst from child
union select subject, node from referrer;

-- Tags that name their subject: the referrers fallback tag (distribution-spec, "Referrers Tag Schema") and cosign's. Not where
-- the manifest itself names another subject, and not where what is named hangs on it (an index tagged with a child's digest).
create temp table named as
with recursive candidate as (
    select t.id, t.node, s.node as subject
    from (select * from tag_node where regexp_full_match(tag_name, 'sha256-[0-9a-f]{64}([.](sig|att|sbom))?')) t
    join node s on s.image_name = t.image_name and s.manifest_hash = 'sha256:' || substr(t.tag_name, 8, 64)
    where not exists (from referrer r where r.node = t.node and r.subject <> s.node)
),
below(id, node) as (
    select id, node from candidate
    union
    select b.id, e.dst from below b join content_edge e on e.src = b.node
)
select id, node, subject from candidate c
where not exists (from below b where b.id = c.id and b.node = c.subject);

-- Tags that name one another in a ring: nobody can tell which follows which, so they stay.
create temp table ring as
with recursive below(id, node) as (
    select id, node from named
    union
    select b.id, e.dst from below b join (from content_edge union select subject, node from named) e on e.src = b.node
)
select id, node, subject from named n
where exists (from below b where b.id = n.id and b.node = n.subject);

-- A tag that names its subject follows it, and holds nothing by itself.
create temp table attachment as
select id, node, subject from named where id not in (select id from ring);

-- holds: while src stays, dst stays. A referrer that stays keeps its subject, too.
create temp table holds as
select src, dst from content_edge
union select node, subject from referrer
union select subject, node from attachment;

-- What the tags reach that stand for themselves; the rest are orphans.
create temp table reached as
with recursive r(node) as (
    select node from tag_node where id not in (select id from attachment)
    union
    select h.dst from r join holds h on h.src = r.node
)
select node from r;
