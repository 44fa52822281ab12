-- Numbers for all digests that a source read, in the order of their text. Reads the tables of regdata.columns.COLUMNS as
-- read_<name>; read_contents and read_descriptors have a column `number`, which is what read_references mean.

create temp table digest as
select (row_number() over (order by hash))::integer as digest, hash
from (
    select manifest_hash as hash from read_contents
    union select reference_hash from read_descriptors
    union select blob_hash from read_blobs
    union select manifest_hash from read_revisions
    union select tag_hash from read_tags where tag_hash is not null
    union select hash from read_oddities where contains(hash, ':')
    union select target from read_oddities where contains(target, ':')
);

create temp table manifest as
select number, digest from read_contents join digest on hash = manifest_hash order by number;

create temp table descriptor as
select number, digest, reference_kind, reference_size, media_type, platform
from read_descriptors join digest on hash = reference_hash order by number;
