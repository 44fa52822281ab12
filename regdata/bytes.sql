-- What distribution's `registry garbage-collect` removes: it marks every manifest that is left in any repository
-- and what each refers to (registry/storage/garbagecollect.go), and deletes the blobs that are not marked.
-- Reads the tables of held.sql and manifest_plan(image_name, manifest_hash).

create temp table alive as
with leaving as (
    select image, digest from manifest_plan join image using (image_name) join digest using (manifest_hash)
)
select distinct digest from revision anti join leaving using (image, digest);

create temp table marked as
select distinct blob from held semi join alive using (digest);

create temp table freed as
from stored_blob anti join marked using (blob);

-- Who held it: an image's name, and how many images did.
create temp table freed_from as
with holder as (
    select distinct blob, image from held semi join freed using (blob) join revision using (digest)
),
counted as (select blob, min(image) as image, count(*) as holders from holder group by blob)
select blob, blob_hash, blob_size, image_name, coalesce(holders, 0) as holders
from freed left join counted using (blob) left join image using (image);
