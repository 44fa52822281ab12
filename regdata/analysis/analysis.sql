-- What takes the space. Reads repositories, images, manifests, "references", blobs and
-- stored(blob_hash, blob_size, image_name, holders): every stored blob, one image that holds it, how many do.

-- A manifest of an image and a blob that it needs: itself, its config, its layers.
create temp table need as
select image_name, manifest_hash, created, orphan, manifest_hash as blob_hash from manifests
union all
select m.image_name, m.manifest_hash, m.created, m.orphan, r.reference_hash
from manifests m
join (select distinct manifest_hash, reference_hash from "references" where reference_kind <> 'mention') r on r.manifest_hash = m.manifest_hash
-- A child that is a manifest of the same image needs itself already.
where not exists (from manifests c where c.image_name = m.image_name and c.manifest_hash = r.reference_hash);

-- Whose a stored blob is, and since when it is there: its push, else the first build that needs it.
create temp table owned as
with path as (
    select blob_hash, min(split_part(image_name, '/', 1)) as path, max(split_part(image_name, '/', 1)) as last_path,
           min(created) as created, bool_and(orphan) as orphan
    from need group by blob_hash
)
select s.blob_hash, s.blob_size, s.holders, coalesce(b.blob_date, p.created) as since, coalesce(p.orphan, false) as orphan,
       case s.holders when 0 then '(no manifest refers to it)' when 1 then s.image_name else '(shared by several images)' end as image_name,
       case when s.holders = 0 then '(nobody)' when p.path = p.last_path then p.path else '(several teams)' end as path
from stored s join blobs b on b.blob_hash = s.blob_hash left join path p on p.blob_hash = s.blob_hash;

-- An image's team is the first part of its path; the six that hold most have their own name.
create temp table team as
with path as (select distinct split_part(image_name, '/', 1) as path from repositories),
ranked as (
    select p.path, row_number() over (order by coalesce(sum(o.blob_size), 0) desc, p.path) as rank
    from path p left join owned o on o.path = p.path group by p.path
)
select path, rank, if(rank <= 6, path, 'other (' || count(*) filter (rank > 6) over () || ')') as team from ranked
union all
values ('(several teams)', 1000000001, '(several teams)'), ('(nobody)', 1000000002, '(nobody)');

create temp table image as
with held as (select distinct image_name, blob_hash from need),
sum_of as (
    select h.image_name, sum(s.blob_size) filter (s.holders = 1) as own, sum(s.blob_size) filter (s.holders > 1) as shared
    from held h join stored s on s.blob_hash = h.blob_hash group by h.image_name
),
tags as (select image_name, count(*) as tags from images group by image_name)
select r.image_name, coalesce(t.tags, 0) as tags, coalesce(s.own, 0)::bigint as own, coalesce(s.shared, 0)::bigint as shared
from repositories r left join tags t on t.image_name = r.image_name left join sum_of s on s.image_name = r.image_name;
