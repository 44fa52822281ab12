-- What distribution's `registry garbage-collect` removes: it marks every manifest that is left in any repository
-- and what each refers to (registry/storage/garbagecollect.go), and deletes the blobs that are not marked.
-- Reads stored(blob_hash, blob_size), manifests, "references" and manifest_plan(image_name, manifest_hash).

create temp table alive as
select distinct manifest_hash from manifests m
where not exists (from manifest_plan p where p.image_name = m.image_name and p.manifest_hash = m.manifest_hash);

create temp table freed as
select blob_hash, blob_size from stored b
where not exists (from alive a where a.manifest_hash = b.blob_hash)
  and not exists (from "references" r semi join alive a on a.manifest_hash = r.manifest_hash where r.reference_hash = b.blob_hash);

-- Who held it: an image's name, and how many images did.
create temp table freed_from as
with holder as (
    select m.image_name, m.manifest_hash as blob_hash from manifests m semi join freed f on f.blob_hash = m.manifest_hash
    union
    select m.image_name, r.reference_hash from "references" r semi join freed f on f.blob_hash = r.reference_hash
    join manifests m on m.manifest_hash = r.manifest_hash
)
select f.blob_hash, f.blob_size, min(h.image_name) as image_name, count(h.image_name) as holders
from freed f left join holder h on h.blob_hash = f.blob_hash
group by all;
