-- What an earlier inventory knows of the manifests that were not read again, as if they had been. Reads read_revisions,
-- read_contents, manifests (the earlier ones), digest, descriptor and edge (regdata.references.References), counted(contents, descriptors).

create temp table again as
select (row_number() over (order by manifest_hash) - 1 + (select contents from counted))::integer as number, *
from (
    select distinct on (manifest_hash) manifest_hash, media_type, manifest_size, kind, created, platform, subject_hash, error, labels
    from manifests semi join (
        (select manifest_hash from read_revisions) anti join read_contents using (manifest_hash)
    ) using (manifest_hash)
);

create temp table edge_again as
select a.number as manifest, e.descriptor, e.row
from edge e join digest d on d.digest = e.manifest join again a on a.manifest_hash = d.hash;

create temp table descriptor_again as
select (row_number() over (order by o.number) - 1 + (select descriptors from counted))::integer as number, o.number as descriptor,
       d.hash as reference_hash, o.reference_kind, o.reference_size, o.media_type, o.platform
from descriptor o semi join edge_again on edge_again.descriptor = o.number join digest d using (digest);
