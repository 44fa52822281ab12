-- What distribution's `registry garbage-collect` removes: it marks every manifest that is left in any repository
-- and what each refers to (registry/storage/garbagecollect.go), and deletes the blobs that are not marked.
-- Reads the tables of held.sql and gone(image, digest): the manifests that go.

create temp table survivor as
with recursive s(node) as (
    select node from node anti join gone using (image, digest) where node not in (from as_blob) or node in (select node from tag_node)
    union
    -- What is linked as a blob alone is nobody's to delete: it is there as long as something lists it, or names it its subject.
    select l.dst from s join (from child union all select node, subject from referrer) l on l.src = s.node where l.dst in (from as_blob)
)
select n.node, n.image, n.digest from s join node n using (node);

create temp table alive as select distinct digest from survivor;

-- Who holds what a manifest that goes holds: only these blobs can be freed.
create temp table kept as
select blob from (from held where only_in is null) semi join alive using (digest)
union
select h.blob from held h semi join survivor s on s.image = h.only_in and s.digest = h.digest;

create temp table leaving as
select distinct blob from (
    select blob from (from held where only_in is null) anti join alive using (digest)
    union all
    select h.blob from (from held where only_in is not null) h anti join survivor s on s.image = h.only_in and s.digest = h.digest
) anti join staying using (blob);

create temp table freed as
select blob from leaving anti join kept using (blob)
union all
select blob from unheld anti join resting using (blob);

-- Who held it: an image, and how many did.
create temp table freed_from as
with holder as (
    select distinct blob, image from held semi join freed using (blob) join revision using (digest)
),
counted as (select blob, min(image) as image, count(*) as holders from holder group by blob)
select blob, image, coalesce(holders, 0) as holders from freed left join counted using (blob);
