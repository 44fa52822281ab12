-- The rules of a clean-up, over the tables of numbers.sql and reach.sql, and
--   selected(id), protected(id), resumed(image_name, manifest_hash, began), setting(scanned_at, grace, can_untag).
-- What stays is found by reachability from what must stay; what is not reached goes.

-- Rule 6: a manifest that can't be read might reach any other of its repository.
create temp table opaque as
select distinct image from node where error is not null and error not like 'unknown media type%'
union
select image from tag where error is not null and digest is null;

-- Rule 5: an orphan may be half of a push in flight; an unknown age is young. What an interrupted run had begun is not spared,
-- unless it was pushed again since. What a young one is attached to is in use, too.
create temp table young as
with recursive begun as (
    select i.image, d.digest, r.began
    from resumed r join image i using (image_name) join digest d on d.hash = r.manifest_hash
),
y(node) as (
    select node from node, setting
    where node not in (select node from reached)
      and (pushed is null or pushed > scanned_at - grace)
      and not exists (from begun b where b.image = node.image and b.digest = node.digest and (pushed is null or pushed <= began))
    union
    select a.subject from y join attachment a on a.node = y.node
)
select node from y;

create temp table root as
-- Rules 1, 2, 4 and 6: tags that are protected, in a ring, that can't be read, or that nobody selected and that stand for themselves.
select node, 'tag' as why from tag_node
where id in (select id from protected)
   or id in (select id from ring)
   or id in (select id from tag where error is not null)
   or (id not in (select id from selected) and id not in (select id from attachment))
union
-- Rule 6: unreadable, and everything that it might reach.
select node, 'unreadable' from node where error is not null or image in (from opaque)
union
select node, 'grace' from young;

-- Rules 3, 4, 6: children of what stays, referrers of what stays, and what an unknown type mentions.
create temp table keep as
with recursive k(node) as (
    select node from root
    union
    select h.dst from k join holds h on h.src = k.node
)
select node from k;

create temp table kept as select n.* from node n where node in (select node from keep);
create temp table gone as select n.* from node n where node not in (select node from keep);

-- A tag goes because it is selected, or because the manifest that it is attached to goes.
create temp table touched as
select t.id, n.node,
       t.id in (select id from selected) as selected,
       n.node in (select node from keep) as stays,
       case when t.id in (select id from protected) then 'protected'
            when t.error is not null then 'unreadable'
            when s.subject in (select node from keep) then 'signs-kept-image' end as kept_because
from tag t
left join tag_node n on n.id = t.id
left join attachment a on a.id = t.id
left join (select id, subject from named union select id, subject from tag_node join referrer using (node)) s on s.id = t.id
where t.id in (select id from selected) or a.subject in (select node from gone)
qualify row_number() over (partition by t.id order by kept_because nulls last) = 1;

create temp table tag_plan as
with leaving as (select id from touched where kept_because is null),
judged as (
    select *, coalesce(kept_because, case
        when not stays then if(selected, 'selected', 'referrer')
        -- The digest stays; rule 2: the tag alone goes. Why the digest stays:
        when node in (select node from tag_node where id not in (from leaving)) then 'shared-digest'
        when node in (select dst from child where src in (from keep)) then 'index-child'
        when node in (select node from root where why = 'unreadable') then 'unreadable'
        else 'has-kept-referrer' end) as reason
    from touched
)
select id, case when kept_because is not null then 'keep'
                when not stays then 'delete'
                when (select can_untag from setting) then 'untag'
                else 'keep' end as action,
       reason
from judged
where selected or kept_because is null;

create temp table manifest_plan as
select g.node, g.image, g.digest, case
        when g.node in (select node from touched where selected) then 'selected'
        when g.node not in (from reached) then 'orphan'
        when g.node in (select node from attachment) or g.node in (select node from referrer where subject in (select node from gone)) then 'referrer'
        when g.node in (select dst from child where src in (select node from gone)) then 'child'
        else 'orphan' end as reason
from gone g;

-- The order of deletion: an index before its children, what is attached before its subject. So an interrupted run leaves nothing that a
-- second one would not find again.
create temp table deletion_order as
select f.image, f.digest as first, s.digest as second
from (select src, dst from child union select node, subject from referrer union select node, subject from attachment) e
join gone f on f.node = e.src
join gone s on s.node = e.dst;
