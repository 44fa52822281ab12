-- What distribution's `registry garbage-collect` makes of what survives (registry/storage/garbagecollect.go): it marks each
-- manifest that is linked as one, in repositories that have a folder `_layers`, and what that names, by the names as they stand.
-- Rule 7: it must not take what a survivor needs, nor stop on the way.
-- Reads the tables of numbers.sql, held.sql and bytes.sql, and cured(image_name): repositories whose `_layers` will be made.

create temp table passed_over as
select o.image from odd o join image i using (image) where o.what = 'no-layers' and i.image_name not in (from cured);

create temp table visited as
select image, digest from survivor where node not in (from as_blob) and image not in (from passed_over);

create temp table marked as
with named as (
    select digest as blob from visited union select r.blob from refers r semi join visited v on v.digest = r.manifest
)
-- Blobs are stored by their sha256 alone.
select blob from named join digest on digest = blob where starts_with(hash, 'sha256:');

-- What a survivor needs and the collector would take; why it is not marked.
create temp table taken as
select h.blob, s.image, s.digest,
       case when s.image in (from passed_over) then 'no-layers' when s.node in (from as_blob) then 'blob' else 'alias' end as why
from held h join survivor s using (digest) anti join marked using (blob);

-- Where it stops: at a manifest, at a repository without `_layers`, at a folder that looks like a blob's. 3.x removes, of each link by
-- another algorithm, that by sha256 of what it holds, unless that was marked by then (repositories are read one after the other).
create temp table stopping as
select o.what, v.image, v.digest, o.said from odd o join visited v using (digest) where o.what = 'stops'
union all
select 'no-layers', image, null, '3.x' from passed_over
union all
select what, null, null, name from odd where what = 'stray'
union all
select 'alias', o.image, o.digest, '3.x'
from odd o semi join stored s on s.blob = o.target
where o.what = 'alias' and (o.image, o.target) not in (
    select image, digest from visited union select v.image, r.blob from visited v join refers r on r.manifest = v.digest
);
