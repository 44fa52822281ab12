-- What holds what inside a repository, and what stays whatever is selected. Reads the tables of numbers.sql and
-- setting(scanned_at, grace) and descriptor(digest, media_type); shared by inventory.sql and plan.sql, so that both mean the same. The rules' numbers are
-- those of plan.sql.

-- An index holds its children, a manifest of unknown type whatever it names. So does what has a manifest for its config or layer:
-- a registry that deletes a manifest takes the repository's link to a blob of that digest with it (distribution 2.x), and by
-- whatever other algorithm's digest that is named it leads to that link.
create table child as
select p.node as src, c.node as dst
from (from refers semi join (select digest as blob from node) using (blob)) r
join node p on p.digest = r.manifest
join node c on c.image = p.image and c.digest = r.blob
where p.node <> c.node
union
select p.node, c.node
from called a
join refers r on r.blob = a.name
join node p on p.image = a.image and p.digest = r.manifest
join node c on c.image = a.image and c.digest = a.digest
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

-- What by its content can belong to another manifest, whatever its tag is called, and to which (a digest; NULL: it does not say):
-- what names a subject, a signature, attestation or SBOM, and an index of nothing but such (the referrers fallback tag's). Not
-- every artifact: a Helm chart stands for itself.
create table attachable as
with described as (
    select r.manifest
    from (from refers semi join (select digest as manifest from node where kind = 'artifact') using (manifest)) r
    join descriptor d on d.digest = r.blob where regexp_matches(d.media_type, 'spdx|cyclonedx|syft|in-toto|dsse')
),
leaf as (
    select node, subject from node
    where subject is not null or kind = 'signature' or (kind = 'artifact' and digest in (select manifest from described))
)
select node, subject from leaf
union all
select p.node, max(l.subject)
from node p join child c on c.src = p.node left join leaf l on l.node = c.dst
where p.kind = 'index' and p.subject is null
group by p.node
having count(*) = count(l.node) and max(l.subject) is not distinct from min(l.subject);

-- Tags that name their subject: the referrers fallback tag (distribution-spec, "Referrers Tag Schema") and cosign's. Not where
-- the content is an image's or names another subject: a name proves nothing. Nor where what is named hangs on it (an index
-- tagged with a child's digest). Of a longer digest a tag has the first 64 hex digits.
create table named as
with recursive naming as (
    select t.id, t.node, n.image, replace(substr(t.tag_name, 1, 71), '-', ':') as beginning
    from tag_node t join node n using (node)
    where regexp_full_match(t.tag_name, 'sha(256|384|512)-[0-9a-f]{64}([.](sig|att|sbom))?')
),
candidate as (
    select distinct t.id, t.node, s.node as subject
    from naming t join digest d on substr(d.hash, 1, 71) = t.beginning left join meant m on m.image = t.image and m.name = d.digest
    join node s on s.image = t.image and s.digest = coalesce(m.digest, d.digest)
    join attachable a on a.node = t.node and (a.subject is null or a.subject = s.digest)
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

-- Rule 6: what can't be read might reach any other manifest of its repository. Not a manifest of unknown type: what that
-- may reach is what it mentions.
create table opaque as
select image from node where error is not null and error not like 'unknown media type%'
union
select image from tag where error is not null and digest is null;

-- What stays whatever is selected: by rule 4 what a tag in a ring is on, by rule 6 what can't be read, what a tag that
-- can't be read is on, and all that is beside what might reach anything.
create table fixed as
select node, 'tag' as why from tag_node where id in (select id from ring) or id in (select id from tag where error is not null)
union
select node, 'unreadable' from node where error is not null or image in (from opaque);

-- Rule 5: an orphan may be half of a push in flight; an unknown age is young. What a young one is attached to is in use, too.
create table young as
with recursive y(orphan, node) as (
    select node, node from node, setting
    where node not in (select node from reached) and (pushed is null or pushed > scanned_at - grace)
    union
    select y.orphan, a.subject from y join attachment a on a.node = y.node
)
select orphan, node from y;
