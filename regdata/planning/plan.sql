-- The rules of a clean-up, by their numbers, over the tables of numbers.sql and reach.sql, and
--   selected(id): the tags that the condition selects,
--   spared_tag(id, reason), spared_manifest(image_name, manifest_hash, reason): what the keep-rules spare,
--   resumed(image_name, manifest_hash, began): what a run, begun then and interrupted, was to delete; NULL: it is known not to have
--     been pushed again,
--   setting(can_untag, from_store): whether a tag can go while its digest stays, and whether push dates are known.
-- What stays is found by reachability from what must stay; what is not reached goes.
--
-- 1 What a keep-rule spares stays (`protect`: protected).
-- 2 A digest goes only when every tag on it in that image goes. Else the tag alone goes, or stays where the registry can't
--   delete a tag alone (shared-digest).
-- 3 What an index that stays lists stays (index-child). What only deleted indexes list goes (child).
-- 4 Signatures, attestations and SBOMs follow their subject: it stays, they stay (signs-kept-image), and it goes, they go (referrer).
--   One that stays keeps its subject (has-kept-referrer).
-- 5 Manifests that no tag reaches go (orphan), unless they are young (grace).
-- 6 What can't be read, or is of unknown type, stays with everything that it might reach (unreadable).

-- Rule 1: manifests that a keep-rule spares.
create temp table spared_node as
select n.node, s.reason
from spared_manifest s join image i using (image_name) join digest d on d.hash = s.manifest_hash
join node n on n.image = i.image and n.digest = d.digest;

-- Rule 5: what an interrupted run was to delete is not spared for its age, unless it was pushed again since, or may have been.
create temp table begun as
select n.node
from resumed r join image i using (image_name) join digest d on d.hash = r.manifest_hash
join node n on n.image = i.image and n.digest = d.digest
where r.began is null or n.pushed <= r.began or (n.pushed is null and not (select from_store from setting));

-- What must stay by itself, and why.
create temp table root as
-- Rules 1 and 2: what a tag is on that is spared, or that nobody selected and that stands for itself.
select node, 'tag' as why from tag_node
where id in (select id from spared_tag)
   or (id not in (select id from selected) and id not in (select id from attachment))
union
select node, reason from spared_node
union
-- Rules 4 and 6.
select node, why from fixed
union
-- Rule 5.
select node, 'grace' from young where orphan not in (from begun);

-- Rules 3, 4 and 6: and what that holds: children, referrers and their subjects, and what an unknown type mentions.
create temp table keep as
with recursive k(node) as (
    select node from root
    union
    select h.dst from k join holds h on h.src = k.node
)
select node from k;

create temp table gone as select n.* from node n where node not in (select node from keep);

-- A tag goes because it is selected, or (rule 4) because the manifest that it is attached to goes. Rules 1, 6 and 4 keep it.
create temp table touched as
select t.id, n.node,
       t.id in (select id from selected) as selected,
       n.node in (select node from keep) as stays,
       coalesce(p.reason, case when t.error is not null then 'unreadable'
                               when s.subject in (select node from keep) then 'signs-kept-image' end) as kept_because
from tag t
left join spared_tag p on p.id = t.id
left join tag_node n on n.id = t.id
left join attachment a on a.id = t.id
left join (select id, subject from named union select id, subject from tag_node join referrer using (node)) s on s.id = t.id
where t.id in (select id from selected) or a.subject in (select node from gone);

create temp table tag_plan as
with leaving as (select id from touched where kept_because is null),
judged as (
    select t.*, coalesce(kept_because, case
        when not stays then if(selected, 'selected', 'referrer')
        -- Rule 2: the tag alone goes, since its digest stays. Why that is:
        when p.reason is not null then p.reason
        when node in (select node from tag_node where id not in (from leaving)) then 'shared-digest'
        when node in (select dst from child where src in (from keep)) then 'index-child'
        when node in (select node from root where why = 'unreadable') then 'unreadable'
        else 'has-kept-referrer' end) as reason
    from touched t left join spared_node p using (node)
)
select id, case when kept_because is not null then 'keep'
                when not stays then 'delete'
                when (select can_untag from setting) then 'untag'
                else 'keep' end as action,
       reason
from judged
where selected or kept_because is null;

-- Why a manifest goes: by rules 2, 5, 4 and 3.
create temp table manifest_plan as
select g.node, g.image, g.digest, case
        when g.node in (select node from touched where selected) then 'selected'
        when g.node not in (from reached) then 'orphan'
        when g.node in (select node from attachment) or g.node in (select node from referrer where subject in (select node from gone)) then 'referrer'
        when g.node in (select dst from child where src in (select node from gone)) then 'child'
        else 'orphan' end as reason
from gone g
-- A child that is linked as a blob alone goes with the last index that lists it.
where g.node not in (from as_blob) or g.node in (select node from tag_node);

-- The order of deletion: an index before its children, what is attached before its subject. So an interrupted run leaves nothing that a
-- second one would not find again.
create temp table deletion_order as
select f.image, f.digest as first, s.digest as second
from (select src, dst from child union select node, subject from referrer union select node, subject from attachment) e
join manifest_plan f on f.node = e.src
join manifest_plan s on s.node = e.dst;
