-- What an inventory holds, with numbers for names and digests: they are joined many times, and there may be many millions.
-- Reads tags(id, image_name, tag_name, tag_hash, error), manifests(image_name, manifest_hash, subject_hash, error, pushed),
-- digest(digest, hash) and edge(manifest, blob, kind): digests by number, and the reference's kind.

create table image as
select (row_number() over (order by image_name))::integer as image, image_name
from (select image_name from manifests union select image_name from tags);

create table tag as
select t.id, i.image, t.tag_name, d.digest, t.error
from tags t join image i using (image_name) left join digest d on d.hash = t.tag_hash;

-- A node is a manifest of a repository: the same digest in two repositories is two nodes.
create table node as
select (row_number() over (order by i.image, d.digest))::integer as node, i.image, d.digest, s.digest as subject, m.error, m.pushed
from manifests m join image i using (image_name) join digest d on d.hash = m.manifest_hash left join digest s on s.hash = m.subject_hash;

create type reference_kind as enum ('config', 'layer', 'manifest', 'unknown');
create table refers as select manifest, blob, kind::reference_kind as kind from edge where kind <> 'mention';

-- Digests that only stand in a manifest's text, such as its base image's in an annotation: nothing is held by that.
create table mention as select manifest, blob from edge where kind = 'mention';
