-- What an inventory holds, with numbers for names and digests: they are joined many times, and there may be many millions.
-- Reads tags(id, image_name, tag_name, tag_hash, error), manifests(image_name, manifest_hash, subject_hash, error, kind, pushed),
-- digest(digest, hash) and edge(manifest, blob, kind): digests by number, and the reference's kind.

create table image as
select (row_number() over (order by image_name))::integer as image, image_name
from (
    select image_name from manifests union select image_name from tags
    union select image_name from oddities where image_name is not null
);

-- What few repositories have (regdata.sources.columns.ODDITIES), in numbers.
create table odd as
select distinct i.image, o.what, d.digest, t.digest as target, o.target as said, o.hash as name
from oddities o left join image i using (image_name) left join digest d using (hash) left join digest t on t.hash = o.target;

create table tag as
select t.id, i.image, t.tag_name, d.digest, t.error
from tags t join image i using (image_name) left join digest d on d.hash = t.tag_hash;

-- The other digests of what a repository has by several, each of them and itself.
create table called as
with stored as (
    select image, digest as name, target as digest from odd where what in ('alias', 'same')
    union
    select image, target, target from odd where what in ('alias', 'same')
)
select a.image, a.name, b.name as digest from stored a join stored b using (image, digest);

-- Which manifest is meant by a digest that several are called by: the first one.
create table meant as
select c.image, c.name, min(c.digest) as digest
from called c semi join (select i.image, d.digest from manifests m join image i using (image_name) join digest d on d.hash = m.manifest_hash) using (image, digest)
group by all;

-- A node is a manifest of a repository: the same digest in two repositories is two nodes. A subject that nobody knows is 0.
create table node as
with given as (
    select i.image, d.digest, coalesce(s.digest, if(m.subject_hash is null, null, 0)) as subject, m.error, m.kind, m.pushed
    from manifests m join image i using (image_name) join digest d on d.hash = m.manifest_hash left join digest s on s.hash = m.subject_hash
)
select (row_number() over (order by g.image, g.digest))::integer as node, g.image, g.digest, coalesce(k.digest, g.subject) as subject, g.error, g.kind, g.pushed
from given g left join meant k on k.image = g.image and k.name = g.subject;

create table as_blob as
select n.node from node n join odd o on o.what = 'blob' and o.image = n.image and o.digest = n.digest;

create type reference_kind as enum ('config', 'layer', 'manifest', 'unknown');
create table refers as select manifest, blob, kind::reference_kind as kind from edge where kind <> 'mention';

-- Digests that only stand in a manifest's text, such as its base image's in an annotation: nothing is held by that.
create table mention as select manifest, blob from edge where kind = 'mention';
