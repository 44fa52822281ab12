-- A source's columns -> the tables that people query. Reads the tables of regdata.manifest.COLUMNS as read_<name>,
-- the tables of reach.sql and parts.sql, and setting(scanned_at, from_store). Times are UTC epoch seconds.

-- Everything that the registry stores or refers to. Sizes are the store's own, else the descriptor's.
create temp table blob as
with described as (
    select reference_hash as blob_hash, reference_size as blob_size from "references"
    union all
    select manifest_hash, manifest_size from read_contents where not (select from_store from setting)
)
select blob_hash, blob_size, blob_date from read_blobs
union all
select blob_hash, coalesce(max(blob_size), 0), null from described anti join read_blobs using (blob_hash) group by blob_hash;

-- Reproducible builds say 1970 or 1980, clocks say the future: a date before Docker's first release (2013-03-20) or after the scan is unknown.
create temp table content as
select c.* replace (if(created between epoch(timestamp '2013-03-20') and (select scanned_at from setting), created, null) as created)
from read_contents c;

create temp table top as
select p.top as node, max(c.created) as created,
       nullif(string_agg(distinct coalesce(c.platform, r.platform), ',' order by coalesce(c.platform, r.platform)), '') as platforms
from part p
join content c on c.manifest_hash = p.manifest_hash
left join (select reference_hash, min(platform) as platform from "references" where platform is not null group by all) r on r.reference_hash = p.manifest_hash
where c.kind is distinct from 'index'
group by p.top;

create temp table size as
select n.number as blob, b.blob_size, b.blob_date is not null or not (select from_store from setting) as stored
from blob b join number n on n.hash = b.blob_hash;

create temp table layer_size as
select top as node, sum(blob_size)::bigint as tag_size
from part_blob join size using (blob) where blob_kind = 'layer' group by top;

-- The one tag that holds a manifest; NULL where several do, none does, or an unreadable neighbour might.
create temp table holder as
with recursive r(id, node) as (
    -- A tag in a ring stays, so that nothing is exclusive to it or to one beside it: it holds without an id.
    select if(id in (select id from ring), null, id), node from tag_node where id not in (select id from attachment)
    union
    select r.id, h.dst from r join holds h on h.src = r.node
),
opaque as (
    select image_name from node where error is not null
    union
    select image_name from tags where error is not null and tag_hash is null
)
select n.node, n.manifest_hash, if(count(*) = 1 and not n.image_name in (from opaque), any_value(r.id), null) as id
from node n left join r on r.node = n.node
group by n.node, n.manifest_hash, n.image_name;

create temp table exclusive as
with numbered as (select h.id, n.number as manifest from holder h join number n on n.hash = h.manifest_hash),
held as (
    select manifest as blob, id from numbered
    union all
    select r.blob, h.id from numbered h join refers r using (manifest)
),
sole as (select blob, min(id) as id from held group by blob having min(id) = max(id) and count(*) = count(id))
select id, sum(blob_size)::bigint as exclusive_size from sole join size using (blob) where stored group by id;

create temp table out_images as
with dated as (
    select t.id::bigint as id, t.image_name, t.tag_name, coalesce(t.pushed, o.created) as tag_timestamp, t.tag_hash,
           coalesce(l.tag_size, 0) as tag_size, t.tag_name as image_tag, o.created, t.pushed,
           if(regexp_full_match(t.tag_name, 'sha256-[0-9a-f]{64}([.](sig|att|sbom))?'), 'signature', c.kind) as kind,
           c.media_type, o.platforms, coalesce(x.exclusive_size, 0) as exclusive_size,
           if(t.tag_hash is null, null, count(*) over (partition by t.image_name, t.tag_hash)) as shared_tags,
           coalesce(t.error, c.error) as error
    from tags t
    left join tag_node n on n.id = t.id
    left join content c on c.manifest_hash = t.tag_hash
    left join top o on o.node = n.node
    left join layer_size l on l.node = n.node
    left join exclusive x on x.id = t.id
)
select id, image_name, tag_name, tag_timestamp, tag_hash, tag_size, image_tag, created, pushed,
       ((select scanned_at from setting) - tag_timestamp) / 86400.0 as age_days,
       -- Signatures don't use up the ranks of images; an unknown date has no rank.
       if(tag_timestamp is null, null, rank() over (partition by image_name, kind is not distinct from 'signature' order by tag_timestamp desc nulls last)) as newest_rank,
       kind, media_type, platforms, exclusive_size, shared_tags, error
from dated order by id;

create temp table out_manifests as
select n.image_name, n.manifest_hash, c.media_type, c.manifest_size, c.subject_hash, n.pushed,
       n.node in (select node from tag_node) as tagged, n.node not in (from reached) as orphan,
       c.kind, c.created, c.platform, n.error
from node n left join content c using (manifest_hash)
order by n.image_name, n.manifest_hash;

create temp table out_blobs as
select row_number() over (order by blob_hash) as id, blob_hash, blob_size, blob_date from blob order by blob_hash;
