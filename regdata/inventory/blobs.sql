-- Everything that the registry stores or refers to. Reads read_blobs and read_contents (regdata.sources.columns.COLUMNS),
-- the tables digest and descriptor of digests.sql and setting(from_store). Sizes are the store's own, else the descriptor's.
-- Whether a blob is stored is unknown (NULL) over the API.

create temp table blob as
with described as (
    select digest, reference_size as blob_size from descriptor where reference_kind <> 'mention'
    union all
    select d.digest, c.manifest_size from read_contents c join digest d on d.hash = c.manifest_hash
    where not (select from_store from setting)
),
read as (select d.digest, b.blob_size, b.blob_date from read_blobs b join digest d on d.hash = b.blob_hash)
select digest as blob, blob_size, blob_date, true as stored from read
union all
select digest, coalesce(max(blob_size), 0), null, if((select from_store from setting), false, null)
from described anti join read using (digest) group by digest;
