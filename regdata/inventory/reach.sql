-- What holds what inside a repository. Reads the tables of numbers.sql; shared by inventory.sql and plan.sql, so that both
-- mean the same by "reaches".

-- An index holds its children; a manifest of unknown type holds whatever it mentions.
create table child as
select distinct p.node as src, c.node as dst
from (select * from refers where kind in ('manifest', 'unknown')) r
join node p on p.digest = r.manifest
join node c on c.image = p.image and c.digest = r.blob
where p.node <> c.node;

-- OCI image-spec: `subject` names the manifest that a referrer (signature, attestation, SBOM) belongs to.
create table referrer as
select s.node as subject, r.node as node
from (select * from node where subject is not null) r
join node s on s.image = r.image and s.digest = r.subject
where s.node <> r.node;

create table tag_node as
select t.id, t.tag_name, n.node
from tag t join node n on n.image = t.image and n.digest = t.digest;

-- What hangs on a manifest by what manifests say: its children and its referrers.
create table content_edge as
select src, dst from child
union select subject, node from referrer;

-- Tags that name their subject: the referrers fallback tag (distribution-spec, "Referrers Tag Schema") and cosign's. Not where
-- the manifest itself names another subject, and not where what is named hangs on it (an index tagged with a child's digest).
create table named as
with recursive naming as (
    select t.id, t.node, n.image, 'sha256:' || substr(t.tag_name, 8, 64) as hash
    from tag_node t join node n using (node)
    where regexp_full_match(t.tag_name, 'sha256-[0-9a-f]{64}([.](sig|att|sbom))?')
),
candidate as (
    select t.id, t.node, s.node as subject
    from naming t join digest d using (hash) join node s on s.image = t.image and s.digest = d.digest
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
create table ring as
with recursive below(id, node) as (
    select id, node from named
    union
    select b.id, e.dst from below b join (from content_edge union select subject, node from named) e on e.src = b.node
)
select id, node, subject from named n
where exists (from below b where b.id = n.id and b.node = n.subject);

-- A tag that names its subject follows it, and holds nothing by itself.
create table attachment as
select id, node, subject from named where id not in (select id from ring);

-- holds: while src stays, dst stays. A referrer that stays keeps its subject, too.
create table holds as
select src, dst from content_edge
union select node, subject from referrer
union select subject, node from attachment;

-- What the tags reach that stand for themselves; the rest are orphans.
create table reached as
with recursive r(node) as (
    select node from tag_node where id not in (select id from attachment)
    union
    select h.dst from r join holds h on h.src = r.node
)
select node from r;
