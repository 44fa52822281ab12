-- What tags' names mean. Reads tags(id, image_name, tag_name, kind, tag_timestamp) and version(tag_name, release, ordinal,
-- suffix, is_prerelease): of the names that are versions, the numbers of its release ("1.2"), its place in the order of all
-- versions (alike ones have the same), what follows it.

-- A commit id: 7 hex digits or more with a digit among them, also as `git describe` writes it.
create macro without_numbers(word) as
if(regexp_full_match(word, 'g?[0-9a-fA-F]{7,}') and regexp_matches(word, '[0-9]'),
   if(word[1] = 'g', 'g#', '#'), regexp_replace(word, '[0-9]+', '#', 'g'));

-- Dates, with or without a time, are one number.
create macro family_of(name) as
array_to_string(list_transform(
    regexp_extract_all(
        regexp_replace(
            name, '(^|[^0-9a-zA-Z])(?:19|20)[0-9]{2}[-_]?(?:0[1-9]|1[0-2])[-_]?(?:0[1-9]|[12][0-9]|3[01])(?:[tT_-]?[0-9]{2}[-_]?[0-9]{2}[-_]?[0-9]{2}[zZ]?)?($|[^0-9a-zA-Z])',
            '\1#\2', 'g'),
        '[0-9a-zA-Z]+|[^0-9a-zA-Z]+'),
    lambda word: without_numbers(word)), '');

create temp table named as
with family as (select tag_name, family_of(tag_name) as tag_family from (select distinct tag_name from tags)),
suffix as (select suffix, family_of(suffix) as variant from (select distinct suffix from version))
select t.id, t.image_name, f.tag_family, v.release, v.ordinal, v.is_prerelease, s.variant, t.tag_timestamp,
       t.kind is not distinct from 'signature' as signs
from tags t join family f using (tag_name) left join version v using (tag_name) left join suffix s using (suffix);

-- `1` and `1.2` beside `1.2.3` name the newest of their line: they rank as it does.
create temp table line as
with release as (
    select image_name, variant, string_split(release, '.') as number, ordinal
    from named where release is not null and not is_prerelease
)
select image_name, variant, array_to_string(number[1:parts.part], '.') as release, max(ordinal) as ordinal
from release, lateral (select unnest(range(1, len(number))) as part) parts
group by all;

create temp view out_families as
select n.id, n.tag_family,
       if(n.tag_timestamp is null, null,
          rank() over (partition by n.image_name, n.signs, n.tag_family order by n.tag_timestamp desc nulls last)) as family_rank,
       if(n.ordinal is null, null,
          dense_rank() over (partition by n.image_name, n.variant, n.is_prerelease
                             order by greatest(n.ordinal, l.ordinal) desc nulls last)) as version_rank,
       n.is_prerelease
from named n
left join line l on l.image_name = n.image_name and l.variant = n.variant and l.release = n.release and not n.is_prerelease;
