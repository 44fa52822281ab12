-- What each manifest keeps in the store: itself and all that it refers to. Numbers stand for names and hashes, since
-- bytes.sql, which goes on from here, joins them again for each condition.
-- Reads stored(blob_hash, blob_size), manifests(image_name, manifest_hash) and "references".

create temp table image as
select row_number() over (order by image_name) as image, image_name from (select distinct image_name from manifests);

create temp table digest as
select row_number() over () as digest, manifest_hash from (select distinct manifest_hash from manifests);

create temp table revision as
select image, digest from manifests join image using (image_name) join digest using (manifest_hash);

create temp table stored_blob as
select row_number() over (order by blob_hash) as blob, blob_hash, blob_size from stored;

create temp table held as
select d.digest, b.blob from digest d join stored_blob b on b.blob_hash = d.manifest_hash
union all
select d.digest, b.blob
from "references" r
join digest d on d.manifest_hash = r.manifest_hash
join stored_blob b on b.blob_hash = r.reference_hash;
