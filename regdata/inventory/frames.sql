-- The tables of an inventory as if a source had read them, for digests.sql.

create view read_tags as select tag_hash from images;
create view read_revisions as select manifest_hash from manifests;
create view read_blobs as select blob_hash from blobs;
create view read_oddities as select hash, target from oddities;

create temp table read_contents as
select (row_number() over () - 1)::integer as number, manifest_hash
from (select manifest_hash, min(row) as row from flat group by manifest_hash order by row);

create temp table read_descriptors as
select (row_number() over () - 1)::integer as number, reference_hash, reference_kind, reference_size, media_type, platform
from (select * exclude (manifest_hash, row), min(row) as row from flat group by all order by row);

create view read_references as
select c.number as manifest, d.number as descriptor
from flat f
join read_contents c on c.manifest_hash = f.manifest_hash
join read_descriptors d on d.reference_hash = f.reference_hash and d.reference_kind = f.reference_kind
 and d.reference_size is not distinct from f.reference_size and d.media_type is not distinct from f.media_type
 and d.platform is not distinct from f.platform
order by f.row;
