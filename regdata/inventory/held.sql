-- What each manifest keeps in the store: itself and all that it refers to; shared by inventory.sql, bytes.sql and space.sql,
-- so that all count the same bytes. Reads the tables of numbers.sql, blobs, descriptor(digest, media_type) and
-- setting(from_store, own, manifests_go, sees_all, scanned_at, grace): whether regdata's own collector runs, whether manifests' bytes go,
-- too, and whether all repositories were read.

-- What takes space there. Layers of some types are fetched from elsewhere and usually not pushed (OCI image-spec,
-- "Non-Distributable Layers").
create table stored as
select d.digest as blob, b.blob_size, b.blob_date
from blobs b join digest d on d.hash = b.blob_hash
where case when (select from_store from setting) then b.stored
           else d.digest not in (  -- whoever pushes one of them as an ordinary layer stores it
               select digest from descriptor group by digest
               having bool_and(coalesce(contains(media_type, 'foreign') or contains(media_type, 'nondistributable'), false))) end;

create table revision as select distinct image, digest from node;

-- By which digests a manifest of a repository names blobs, and the blob behind an alias in that repository. ``only_in``: what is held
-- by being mentioned is so in the repository that links it.
create table held as
with named as (
    select distinct digest as manifest, digest as blob from node
    union all
    select r.manifest, r.blob from refers r semi join node n on n.digest = r.manifest
),
aliased as (
    select distinct r.manifest, o.target as blob
    from odd o join node n using (image) join named r on r.manifest = n.digest and r.blob = o.digest where o.what = 'alias'
),
-- regdata's own collector leaves what a text mentions, if it is a blob of the repository: a second line of defence. In two steps:
-- all that a repository links beside all that is mentioned there may be more than can be held.
mentioning as materialized (
    select n.image, m.manifest, m.blob from mention m join node n on n.digest = m.manifest where (select own from setting)
),
linked as (
    select image, digest as name, digest as blob from odd where what = 'link'
    union
    select a.image, a.digest, l.digest from odd a join odd l on l.image = a.image and l.digest = a.target
    where a.what = 'alias' and l.what = 'link'
),
mentioned as (
    select distinct m.image, m.manifest, l.blob from mentioning m join linked l on l.image = m.image and l.name = m.blob
)
select manifest as digest, s.blob, null::int as only_in from named join stored s using (blob)
union all
select manifest, s.blob, null from aliased join stored s using (blob)
union all
select manifest, s.blob, image from mentioned join stored s using (blob);

-- Manifests' bytes, also of those that were deleted before.
create table written as
select digest as blob from node union select digest from odd where what = 'manifest';

-- What no collection is known to take, whatever goes: anything that a repository which was not read may share; blobs of a repository that holds something unreadable, and, while the registry is not
-- restarted, manifests' bytes (without them the registry would answer 201 to the same manifest pushed again, and not store it).
create table staying as
select o.digest as blob from odd o semi join opaque using (image) where what = 'link' and (select own from setting)
union
select blob from written where not (select manifests_go from setting)
union
select blob from stored where not (select sees_all from setting);

-- What no manifest refers to goes with any collection.
create table unheld as
select blob from stored anti join held using (blob) anti join staying using (blob);

-- But regdata's own collector spares the young of these, and an unknown age is young: a push brings layers before their manifest,
-- and links what is there already.
create table resting as
select blob from unheld join stored using (blob), setting
where own and (blob_date is null or blob_date > scanned_at - grace or blob in (select digest from odd where what = 'young'));
