-- A source's columns -> the tables that people query. Reads the tables of regdata.sources.columns.COLUMNS as read_<name>,
-- the tables of numbers.sql, reach.sql, parts.sql and held.sql, numbered(blob_hash, blob_size): digests' numbers and their
-- bytes, descriptor(digest, platform) and setting(scanned_at, from_store). Times are UTC epoch seconds.

create temp table content as
select d.digest, c.* exclude (number, manifest_hash)
from read_contents c join digest d on d.hash = c.manifest_hash;

create temp table top as
-- An index is as old as its youngest platform; unknown is young.
select p.top as node, if(bool_or(c.kind = 'image' and c.created is null), null, max(c.created)) as created,
       nullif(string_agg(distinct coalesce(c.platform, r.platform), ',' order by coalesce(c.platform, r.platform)), '') as platforms
from part p
join content c on c.digest = p.manifest
left join (select digest, min(platform) as platform from descriptor where platform is not null group by all) r on r.digest = p.manifest
where c.kind is distinct from 'index'
group by p.top;

create temp table layer_size as
select top as node, sum(blob_size)::bigint as tag_size
from part_blob join numbered on blob_hash = blob where kind = 'layer' group by top;

-- The one tag that holds a manifest; NULL where several do, or something that stays whatever is selected. What nothing holds
-- is not in it: it goes with any clean-up.
create temp table holder as
with recursive start as (
    -- Several on one manifest are several wherever it leads.
    select if(count(*) = 1, any_value(id), null) as id, node from tag_node
    where id not in (select id from attachment) and id not in (select id from ring)
      and id not in (select id from tag where error is not null)
    group by node
    union
    select null, node from fixed
    union
    select null, node from young
),
r(id, node) as (
    from start
    union
    select r.id, h.dst from r join holds h on h.src = r.node
)
select n.node, n.digest, if(count(*) = 1, any_value(r.id), null) as id
from r join node n using (node) group by n.node, n.digest;

-- What the plan of that tag alone frees, beyond what any clean-up frees.
create temp table exclusive as
with sole as (
    select blob, min(id) as id from held join holder using (digest) anti join staying using (blob)
    group by blob having min(id) = max(id) and count(*) = count(id)
)
select id, sum(blob_size)::bigint as exclusive_size from sole join stored using (blob) group by id;

-- An index has its children's labels, where they don't contradict, in the order of their names, and its own annotations.
create temp table labelled as
with pair as (
    select p.top, label.key, label.value->>'$' as value
    from part p join node n on n.node = p.top join content i on i.digest = n.digest and i.kind = 'index'
    join content c on c.digest = p.manifest and c.digest <> n.digest, json_each(c.labels) label
),
agreed as (select top, key, min(value) as value from pair group by all having min(value) = max(value))
select top as node, '{' || string_agg(to_json(key) || ':' || to_json(value), ',' order by key) || '}' as labels
from agreed group by top;

create temp view out_images as
with dated as (
    select t.id::bigint as id, t.image_name, t.tag_name, if((select from_store from setting), t.pushed, o.created) as tag_timestamp, t.tag_hash,
           coalesce(l.tag_size, 0) as tag_size, t.tag_name as image_tag, o.created, t.pushed,
           -- What can't be read is taken by its name, so that it uses up no rank.
           if(regexp_full_match(t.tag_name, 'sha(256|384|512)-[0-9a-f]{64}([.](sig|att|sbom))?')
              and (c.kind is null or n.node in (select node from attachable)), 'signature', c.kind) as kind,
           c.media_type, o.platforms, coalesce(x.exclusive_size, 0) as exclusive_size,
           if(t.tag_hash is null, null, count(*) over (partition by g.image, g.digest)) as shared_tags,
           t.error, if(d.labels is null, c.labels, json_merge_patch(d.labels, coalesce(c.labels, '{}'))::varchar) as labels, g.image
    from tags t
    join tag g on g.id = t.id
    left join tag_node n on n.id = t.id
    left join content c on c.digest = g.digest
    left join top o on o.node = n.node
    left join layer_size l on l.node = n.node
    left join exclusive x on x.id = t.id
    left join labelled d on d.node = n.node
)
select id, image_name, tag_name, tag_timestamp, tag_hash, tag_size, image_tag, created, pushed,
       ((select scanned_at from setting) - tag_timestamp) / 86400.0 as age_days,
       -- Signatures don't use up the ranks of images; an unknown date has no rank.
       if(tag_timestamp is null, null, rank() over (partition by image, kind is not distinct from 'signature' order by tag_timestamp desc nulls last)) as newest_rank,
       kind, media_type, platforms, exclusive_size, shared_tags, error, labels
from dated;

create temp view out_manifests as
select n.node, i.image_name, n.digest as manifest_hash, c.media_type, c.manifest_size, c.subject_hash, n.pushed,
       n.node in (select node from tag_node) as tagged, n.node not in (from reached) as orphan,
       c.kind, c.created, c.platform, n.error, c.labels
from node n join image i using (image) left join content c using (digest);
