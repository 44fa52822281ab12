-- What may be broken, by what a scan and the list of files say, and takes a look at the bytes. Reads the tables of numbers.sql,
-- descriptor, edge, file and setting, as ailments.sql does.

create temp table data as select name, any_value(size) as size, any_value(date) as date from file where kind = 'blob' group by name;

-- The bytes that the registry serves: a census has those of a symbolic link itself.
create temp table present as
select d.digest, coalesce(s.blob_size, f.size) as size
from data f join digest d on d.hash = f.name left join stored s on s.blob = d.digest;

create temp table alias as select distinct image, digest, target from odd where what = 'alias';

create temp table linked as
select i.image, d.digest from file f join image i using (image_name) join digest d on d.hash = f.name where f.kind = 'layer';

-- Layers of some types are fetched from elsewhere and usually not pushed (OCI image-spec, "Non-Distributable Layers").
create temp table elsewhere as
select digest from descriptor where contains(media_type, 'foreign') or contains(media_type, 'nondistributable');

-- Config and layers of each manifest of a repository that are not there, or not in the repository.
create temp table lacking as
with part as (
    select n.image, n.digest as manifest, r.blob, coalesce(a.target, r.blob) as stored
    from node n join refers r on r.manifest = n.digest and r.kind in ('config', 'layer')
    left join alias a on a.image = n.image and a.digest = r.blob
    where n.error is null and (select has_files from setting)
)
select p.*, s.digest is not null as there, l.digest is not null as is_linked
from part p left join present s on s.digest = p.stored left join linked l on l.image = p.image and l.digest = p.blob
where if(l.digest is null, p.blob not in (from elsewhere), s.digest is null);

create temp table stated as
select digest, max(reference_size) as size from descriptor where reference_kind <> 'mention' group by digest;

-- The sizes that manifests state are no proof: registries take others.
create temp table resized as
select s.digest, 'it has ' || any_value(s.size) || ' bytes, and manifests say ' || any_value(r.reference_size) as detail
from descriptor r left join (select digest, target from alias group by all) a using (digest)
join present s on s.digest = coalesce(a.target, r.digest)
where r.reference_kind <> 'mention' and r.reference_size is not null
group by s.digest having bool_and(r.reference_size <> s.size);

-- What manifests state, each of its parts that are there.
create temp table unlike as
select e.manifest, s.digest, d.hash || ' has ' || s.size || ' bytes, and it says ' || r.reference_size as detail
from descriptor r left join (select digest, target from alias group by all) a using (digest)
join present s on s.digest = coalesce(a.target, r.digest) join digest d on d.digest = r.digest
join edge e on e.descriptor = r.number
where r.reference_kind <> 'mention' and r.reference_size <> s.size;
