-- Who pulled and who uses what, for tags. Reads the tables of numbers.sql, reach.sql, parts.sql and names.sql, images(id, pushed),
-- pulls(image_name, reference, last_pulled, pulls_30d, pulls_total, last_seen), listed(list, repository, tag, digest, used_by, ours):
-- what lists name, and known(scanned_at, since, lists, dated): from when on pulls are known, how many lists there are,
-- and whether it is known when tags were pushed, where that can be.

create temp table pulled as
select l.id, max(p.last_pulled) as last_pulled, sum(p.pulls_30d)::bigint as pulls_30d, sum(p.pulls_total)::bigint as pulls_total,
       max(p.last_seen) as last_seen
from led_to l join image i using (image) join pulls p on p.image_name = i.image_name and p.reference = l.reference
group by l.id;

-- What lists name and this registry has. An id without a repository is that of a manifest or of an image's config.
create temp table used as
with id as (select distinct list, digest as id, used_by from listed where repository = ''),
found as (
    select id.*, d.digest from id join digest d on d.hash[8:19] = id.id[1:12] and starts_with(d.hash, 'sha256:' || id.id)
),
manifest as (
    select list, used_by, digest from found
    union
    select f.list, f.used_by, r.manifest from found f join refers r on r.blob = f.digest where r.kind = 'config'
)
select distinct n.list, i.image_name, t.tag_name, null as manifest_hash, n.used_by
from listed n join image i on i.image_name = n.repository join tag t on t.image = i.image and t.tag_name = n.tag
union
select distinct n.list, i.image_name, null, d.hash, n.used_by
from listed n join image i on i.image_name = n.repository join digest d on d.hash = n.digest
join node on node.image = i.image and node.digest = d.digest
union
select distinct m.list, i.image_name, null, d.hash, m.used_by
from manifest m join digest d using (digest) join node n using (digest) join image i on i.image = n.image;

create temp view out_uses as
select distinct image_name, tag_name, manifest_hash, used_by from used
order by image_name, tag_name, manifest_hash, used_by;

-- Lists that name nothing of this registry, neither by its names nor by what it has.
create temp view strange as
select list, min(concat_ws('@', repository || nullif(':' || tag, ':'), nullif(digest, ''))) as named
from listed where list not in (select list from used) group by list having not bool_or(ours) order by list;

-- By which of its names something is used: one column, since a join by either of two compares all with all.
create temp view used_as as
select image_name, tag_name as reference from used union all select image_name, manifest_hash from used;

create temp view out_usage as
select i.id, p.last_pulled, if(since is null, null, coalesce(p.pulls_30d, 0)) as pulls_30d,
       if(since is null, null, coalesce(p.pulls_total, 0)) as pulls_total,
       -- What has no date that can be may have come yesterday, by a way that is in no log.
       if(since is null or (dated and coalesce(p.last_seen, i.pushed) is null), null,
          (scanned_at - least(scanned_at, greatest(p.last_seen, i.pushed, since))) / 86400.0) as idle_days,
       if(lists > 0, i.id in (select l.id from led_to l join image g using (image)
                              join used_as u on u.image_name = g.image_name and u.reference = l.reference), null) as in_use
from images i cross join known left join pulled p using (id);
