-- What is broken in a registry. Reads the tables of numbers.sql and suspects.sql, descriptor(digest, media_type, reference_kind,
-- reference_size), repositories(image_name), file (regdata.sources.census), claim(image_name, name): what the registry's cache claims
-- though it is gone, altered(kind, image_name, name): files whose bytes are not what their names say, bare(image_name, name, date): folders
-- of tags without a link, and setting(now, quiet, grace, abandoned, first, has_files): times in seconds, and whether the folder was listed.

create temp table childless as
select n.image, n.digest as manifest, r.blob
from node n join refers r on r.manifest = n.digest and r.kind = 'manifest'
anti join node c on c.image = n.image and c.digest = r.blob
where n.error is null;

-- Bytes that are not those of their digest.
create temp table damaged as
select n.digest, 'its bytes are others than its digest says' as detail from node n where n.error = 'content does not match its digest'
union
select d.digest, 'its bytes are others than its digest says' from altered a join digest d on d.hash = a.name where a.kind = 'blob'
union
select s.digest, 'it is empty' from present s join digest d using (digest)
where s.size = 0 and d.hash <> 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
union
from resized;

create temp table user_of as
select blob, min(image) as image from (
    select digest as blob, image from node union all
    select r.blob, n.image from refers r join node n on n.digest = r.manifest where r.blob in (select digest from damaged)
) group by blob;

-- A link holds a digest, by which blobs are stored, or its own name.
create temp table short as
select f.*, case f.kind when 'layer' then 71 when 'revision' then length(name) else length(split_part(name, '/index/', 2)) end as right_size
from file f where f.kind in ('layer', 'revision', 'history') and date < (select now - quiet from setting);

create temp table upload as
select image_name, split_part(name, '/', 1) as id, sum(size)::bigint as bytes, max(date) as date
from file where kind = 'upload' group by all;

create temp table ailment as
-- Of tags and manifests.
select 'tag without manifest' as what, i.image_name, t.tag_name as name, null::bigint as bytes, null::bigint as since, d.hash as detail
from tag t join image i using (image) join digest d using (digest) anti join node n on n.image = t.image and n.digest = t.digest
union all
select 'tag without digest', i.image_name, t.tag_name, null, f.date, coalesce(if(f.size = 0, 'its link is empty', null), t.error)
from tag t join image i using (image) left join file f on f.kind = 'tag' and f.image_name = i.image_name and f.name = t.tag_name
where t.digest is null and (f.date is null or f.date < (select now - quiet from setting))
union all
select 'tag without digest', image_name, name, null, date, 'it has no link'
from bare where date is null or date < (select now - quiet from setting)
union all
select 'tag half removed', name.regexp_extract('/repositories/(.+)/_manifests/', 1), place[1], null, date, null
from (select *, name.regexp_extract_all('/_manifests/\.regdata-removed-([^/]+)/current/link$', 1) as place
      from file where kind = 'aside')
where len(place) > 0
union all
select 'manifest without bytes', i.image_name, d.hash, null, n.pushed, null
from node n join image i using (image) join digest d using (digest) anti join data f on f.name = d.hash
where (select has_files from setting) and n.node not in (from as_blob)
union all
select 'unreadable manifest', i.image_name, d.hash, s.size, n.pushed, n.error
from node n join image i using (image) join digest d using (digest) left join present s using (digest)
where n.error is not null and n.error not like 'unknown media type%'
  and n.error not in ('missing from the store', 'content does not match its digest')
union all
select 'index without child', i.image_name, d.hash, sum(s.size)::bigint, null, count(*) || ', such as ' || min(c.hash)
from childless x join image i using (image) join digest d on d.digest = x.manifest join digest c on c.digest = x.blob
left join stated s on s.digest = x.blob where x.blob not in (select digest from present) group by all
union all
select 'child not linked', i.image_name, c.hash, max(s.size), null, 'an index lists it, such as ' || min(d.hash)
from childless x join image i using (image) join digest d on d.digest = x.manifest join digest c on c.digest = x.blob
join present s on s.digest = x.blob group by all
union all
select 'manifest without parts', i.image_name, d.hash, sum(s.size)::bigint, null, count(*) || ', such as ' || min(b.hash)
from lacking l join image i using (image) join digest d on d.digest = l.manifest join digest b on b.digest = l.blob
left join stated s on s.digest = l.blob
where not there group by all
union all
select 'part not linked', i.image_name, b.hash, max(s.size), null, 'a manifest names it, such as ' || min(d.hash)
from lacking l join image i using (image) join digest d on d.digest = l.manifest join digest b on b.digest = l.blob
left join present s on s.digest = l.stored where there and not is_linked group by all
union all
select 'no folder _layers', i.image_name, '', null, null, null from odd join image i using (image) where what = 'no-layers'
-- Of bytes.
union all
select 'damaged bytes', i.image_name, d.hash, f.size, f.date, min(x.detail)
from damaged x join digest d using (digest) join data f on f.name = d.hash left join user_of u on u.blob = x.digest
left join image i on i.image = u.image group by all
union all
select 'wrong size', i.image_name, d.hash, null, n.pushed, min(u.detail)
from unlike u anti join damaged x using (digest) join node n on n.digest = u.manifest join image i using (image)
join digest d on d.digest = u.manifest where n.error is null group by all
-- Of links.
union all
select 'link without data', f.image_name, f.name, null, f.date, null
from file f join image i using (image_name) left join digest d on d.hash = f.name
left join alias a on a.image = i.image and a.digest = d.digest left join digest t on t.digest = a.target
anti join data b on b.name = coalesce(t.hash, f.name)
anti join lacking l on l.image = i.image and l.blob = d.digest
anti join odd o on o.what = 'link' and o.image = i.image and o.digest in (d.digest, t.digest) -- a manifest that can't be read may name it
where f.kind = 'layer' and (starts_with(f.name, 'sha256:') or t.hash is not null) and f.date < (select now - quiet from setting)
union all
select 'link not whole', image_name, kind || ' ' || name, size, date,
       if(size = 0, 'it is empty', size || ' bytes instead of ' || right_size)
from short where size <> right_size
union all
select 'link not whole', image_name, kind || ' ' || name, null, null, 'it names another digest' from altered where kind <> 'blob'
union all
select 'stale cache', image_name, name, null, null, null
from claim where (image_name, name) not in (
    select (i.image_name, d.hash) from lacking l join image i using (image) join digest d on d.digest = l.blob where there
)
-- Of what nobody needs.
union all
select 'empty repository', r.image_name, '', null, max(f.date), null
from repositories r join setting on has_files
left join file f on f.image_name = r.image_name and f.kind in ('layer', 'revision', 'upload', 'folder')
where r.image_name not in (select i.image_name from image i where i.image in (select image from node union select image from tag))
group by r.image_name
having coalesce(max(f.date) filter (f.kind = 'layer'), 0) < any_value(now - grace)
   and coalesce(min(f.date) filter (f.kind = 'layer'), any_value(first)) >= any_value(first)
   and coalesce(max(f.date) filter (f.kind = 'upload'), 0) < any_value(now - abandoned)
union all
select 'abandoned upload', image_name, id, bytes, date, null from upload, setting where date >= first and date < now - abandoned
union all
select 'foreign file', null, name, size, date, null from file, setting
where kind = 'foreign' and date < now - quiet and name <> 'scheduler-state.json'  -- a pull-through cache's
-- A date is told once for each repository, since all of a store may have it.
union all
select 'impossible date', image_name, '', null, min(date), count(*) || ' files, such as ' || min(kind || ' ' || name)
from file, setting where (date < first or date > now) and kind not in ('aside', 'folder') group by image_name;

-- The tags that do not pull for it: those on the manifest, on what lists it, and on what has the bytes as a part.
create temp table tagged as
with recursive up(what, image_name, name, node) as (
    select a.what, a.image_name, a.name, n.node
    from ailment a join digest d on d.hash = a.name join node n on n.digest = d.digest join image i using (image)
    where i.image_name = a.image_name
    union
    select a.what, a.image_name, a.name, n.node
    from ailment a join digest d on d.hash = a.name join refers r on r.blob = d.digest join node n on n.digest = r.manifest
    join image i using (image)
    where i.image_name = a.image_name or a.what = 'damaged bytes'
    union
    select up.what, up.image_name, up.name, c.src from up join child c on c.dst = up.node
)
select what, up.image_name, name, string_agg(distinct i.image_name || ':' || t.tag_name, ', ' order by i.image_name || ':' || t.tag_name) as tags
from up join tag_node t using (node) join node n using (node) join image i on i.image = n.image
group by all;
