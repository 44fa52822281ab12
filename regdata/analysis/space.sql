-- What takes the space. Reads the tables of numbers.sql, reach.sql, parts.sql and held.sql, repositories(image_name) and
-- manifests(image_name, manifest_hash, created, orphan). What it makes stays, in a schema of its own.

create schema space;

-- An image's path is the first part of its name. Below, 0 is the path and the image of what nobody holds, -1 that of what several do.
create table space.path as
select (row_number() over (order by path_name))::integer as path, path_name
from (
    select split_part(image_name, '/', 1) as path_name from repositories
    union select split_part(image_name, '/', 1) from image
);

create table space.home as
select i.image, p.path from image i join space.path p on p.path_name = split_part(i.image_name, '/', 1);

-- What an image needs of what is stored: its manifests and all that they hold. times: by how many of its manifests.
create temp table need as
with manifest as (
    select n.image, n.digest, m.created, coalesce(m.orphan, n.node not in (from reached)) as orphan
    from node n
    join image i on i.image = n.image
    join digest d on d.digest = n.digest
    left join manifests m on m.image_name = i.image_name and m.manifest_hash = d.hash
)
select m.image, h.blob, min(m.created) as created, bool_and(m.orphan) as orphan, count(*) as times
from manifest m
join (select distinct digest, blob from held) h on h.digest = m.digest
-- A child that is a manifest of the same image needs itself already.
where h.blob = m.digest or not exists (from node c where c.image = m.image and c.digest = h.blob)
group by m.image, h.blob;

-- Whose a stored blob is, and since when it is there: its push, else the first build that needs it.
create table space.owned as
with holder as (
    select blob, count(*) as holders, min(image) as image, min(path) as path, max(path) as last_path,
           min(created) as created, bool_and(orphan) as orphan
    from need join space.home using (image) group by blob
)
select blob, s.blob_size, coalesce(s.blob_date, h.created) as since, coalesce(h.orphan, false) as orphan,
       coalesce(h.holders, 0) as holders,
       case when h.holders is null then 0 when h.holders = 1 then h.image else -1 end as image,
       case when h.holders is null then 0 when h.path = h.last_path then h.path else -1 end as path
from stored s left join holder h using (blob);

create table space.owner as
select image, image_name from image
union all
values (0, '(no manifest refers to it)'), (-1, '(shared by several images)');

-- A team is a path; the six that hold most have their own name.
create table space.team as
with ranked as (
    select p.path, p.path_name, row_number() over (order by coalesce(sum(o.blob_size), 0) desc, p.path_name) as rank
    from space.path p left join space.owned o on o.path = p.path group by p.path, p.path_name
)
select path, rank, if(rank <= 6, path_name, 'other (' || count(*) filter (rank > 6) over () || ')') as team from ranked
union all
values (-1, 1000000001, '(several teams)'), (0, 1000000002, '(nobody)');

create table space.image as
with sum_of as (
    select n.image, sum(o.blob_size) filter (o.holders = 1) as own, sum(o.blob_size) filter (o.holders > 1) as shared
    from need n join space.owned o using (blob) group by n.image
),
tags as (select image, count(*) as tags from tag group by image)
select r.image_name, coalesce(t.tags, 0) as tags, coalesce(s.own, 0)::bigint as own, coalesce(s.shared, 0)::bigint as shared
from repositories r
left join image i on i.image_name = r.image_name
left join tags t on t.image = i.image
left join sum_of s on s.image = i.image;

-- If each manifest had its own copy of what it needs.
create table space.copies as
select coalesce(sum(n.times * s.blob_size), 0)::bigint as bytes from need n join stored s using (blob);

-- The layers that cost most; users: the images that hold it, those with most tags on it first.
create table space.layer as
with alias as (select distinct digest, target from odd where what = 'alias'),
layer as (
    select blob, blob_size, blob_size / nullif(sum(blob_size) over (), 0) as share
    from stored
    semi join (select coalesce(a.target, r.blob) as blob from refers r left join alias a on a.digest = r.blob where r.kind = 'layer') using (blob)
    order by blob_size desc, blob limit 15
),
named as (select blob as name, blob from layer union all select a.digest, l.blob from layer l join alias a on a.target = l.blob),
tagged as (
    select n.blob, t.image, count(distinct t.id) as tags
    from named n join part_blob p on p.blob = n.name join tag_node g on g.node = p.top join tag t on t.id = g.id group by all
)
select l.blob, any_value(l.blob_size) as blob_size, coalesce(sum(t.tags), 0)::bigint as tags, count(*) as images,
       string_agg(i.image_name, ', ' order by coalesce(t.tags, 0) desc, i.image_name) as users, any_value(l.share) as share
from layer l
join need n using (blob)
join image i on i.image = n.image
left join tagged t on t.blob = l.blob and t.image = n.image
group by l.blob;

-- Who pays: what several teams hold is split among them in equal shares; bytes that can't be split go to the first.
create table space.payer as
with holding as (select distinct blob, path from need join space.home using (image)),
share as (
    select blob, path, count(*) over (partition by blob) as teams,
           row_number() over (partition by blob order by path) as place
    from holding
)
select coalesce(p.path_name, '(nobody)') as payer,
       sum(case when s.blob is null then o.blob_size
                else o.blob_size // s.teams + (s.place <= o.blob_size % s.teams)::integer end)::bigint as bytes
from space.owned o left join share s using (blob) left join space.path p on p.path = s.path
group by all;

drop table need;
