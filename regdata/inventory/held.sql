-- What each manifest keeps in the store: itself and all that it refers to; shared by inventory.sql, bytes.sql and space.sql,
-- so that all count the same bytes. Reads the tables of numbers.sql, blobs, descriptor(digest, media_type) and
-- setting(from_store).

-- What takes space there. Layers of some types are fetched from elsewhere and usually not pushed (OCI image-spec,
-- "Non-Distributable Layers").
create table stored as
select d.digest as blob, b.blob_size, b.blob_date
from blobs b join digest d on d.hash = b.blob_hash
where case when (select from_store from setting) then b.blob_date is not null
           else d.digest not in (
               select digest from descriptor
               where contains(media_type, 'foreign') or contains(media_type, 'nondistributable')) end;

create table revision as select distinct image, digest from node;

create table held as
select distinct n.digest, s.blob from node n join stored s on s.blob = n.digest
union all
select r.manifest, s.blob
from refers r semi join node n on n.digest = r.manifest join stored s using (blob);

-- What no manifest refers to goes with any collection.
create table unheld as
select blob from stored anti join held using (blob);
