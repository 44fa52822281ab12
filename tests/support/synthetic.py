"""What a source would have read from a registry of any number of tags, made from numbers: for `make bench`.

Seeded, with what makes planning work: images of fourteen layers of which nine are shared bases, indexes with two
platforms, digests with two tags, cosign's signatures, and manifests that tags left behind. About 15 relations a tag.
"""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np

from regdata.sources.columns import Columns

NOW = 1_750_000_000
DAY = 86400
TAGS_PER_REPOSITORY = 60
BASES, BASE_LAYERS, OWN_LAYERS = 500, 9, 5
IMAGE, INDEX, SIGNATURE = range(3)


def columns(tags: int) -> Columns:
    """The columns of ``tags`` tags, or a few more."""
    chance = np.random.default_rng(tags)
    builds = int(tags / 1.03)
    kinds = chance.choice((IMAGE, INDEX, SIGNATURE), builds, p=(0.93, 0.04, 0.03))
    kinds[0] = IMAGE
    # The manifests: the builds, in order of time, then two children for each index.
    parents = np.repeat(np.flatnonzero(kinds == INDEX), 2)
    made = np.concatenate((kinds, np.full(len(parents), IMAGE)))
    repository = np.sort(chance.integers(0, max(tags // TAGS_PER_REPOSITORY, 1), builds))
    repository = np.concatenate((repository, repository[parents]))
    when = NOW - (chance.random(len(made)) * 730 * DAY).astype(int)
    when[builds:] = when[parents]

    images, signatures = np.flatnonzero(made == IMAGE), np.flatnonzero(made == SIGNATURE)
    own = images.size * OWN_LAYERS
    blobs = BASES * BASE_LAYERS + own + images.size + signatures.size  # layers, then configs
    manifests = _digests(0, len(made))
    layers = _digests(len(made), blobs)
    size = (chance.lognormal(0, 1, blobs) * 3_000_000).astype(int) + 100
    size[BASES * BASE_LAYERS + own :] = 2000
    base = chance.integers(0, BASES, images.size)
    config = BASES * BASE_LAYERS + own + np.arange(images.size + signatures.size)
    edges = [  # manifest, descriptor
        (images, config[: images.size]),
        (signatures, config[images.size :]),
        *((images, base * BASE_LAYERS + number) for number in range(BASE_LAYERS)),
        *((images, BASES * BASE_LAYERS + np.arange(images.size) * OWN_LAYERS + n) for n in range(OWN_LAYERS)),
        (parents, blobs + np.arange(len(parents))),
    ]
    source, target = (np.concatenate(ends).astype("int32") for ends in zip(*edges, strict=True))
    order = np.argsort(source, kind="stable")

    found = Columns()
    names = [f"team-{number % 97}/app-{number}" for number in range(int(repository.max()) + 1)]
    image_name = [names[number] for number in repository]
    found["repositories"] = {"image_name": names}
    found["revisions"] = {"image_name": image_name, "manifest_hash": manifests, "pushed": when.tolist()}
    tag_rows = np.flatnonzero((chance.random(builds) > 0.08) | (kinds == SIGNATURE))  # the rest are orphans
    subject = np.maximum.accumulate(np.where(kinds == SIGNATURE, 0, np.arange(builds)))
    tag_name = [
        f"{manifests[subject[row]].replace(':', '-')}.sig" if kinds[row] == SIGNATURE else f"1.{row}"
        for row in tag_rows
    ]
    again = tag_rows[(kinds[tag_rows] == IMAGE) & (chance.random(len(tag_rows)) < tags / len(tag_rows) - 1)]
    rows = [*tag_rows, *again]
    found["tags"] = {
        "image_name": [image_name[row] for row in rows],
        "tag_name": [*tag_name, *(f"release-{row}" for row in again)],
        "tag_hash": [manifests[row] for row in rows],
        "pushed": when[rows].tolist(),
        "error": [None] * len(rows),
    }
    kind_names = np.array(["image", "index", "signature"], dtype=object)
    manifest = "application/vnd.oci.image.manifest.v1+json"
    found["contents"] = {
        "manifest_hash": manifests,
        "media_type": [manifest] * len(made),
        "manifest_size": [3000] * len(made),
        "kind": kind_names[made].tolist(),
        "created": (when - 300).tolist(),
        "platform": ["linux/amd64"] * len(made),
        "subject_hash": [None] * len(made),
        "error": [None] * len(made),
        "labels": [None] * len(made),
    }
    layer = "application/vnd.oci.image.layer.v1.tar+gzip"
    is_config = np.arange(blobs) >= BASES * BASE_LAYERS + own
    children = [manifests[row] for row in range(builds, len(made))]
    found["descriptors"] = {
        "reference_hash": [*layers, *children],
        "reference_kind": [*np.where(is_config, "config", "layer").tolist(), *(["manifest"] * len(children))],
        "reference_size": [*size.tolist(), *([3000] * len(children))],
        "media_type": [*([layer] * blobs), *([manifest] * len(children))],
        "platform": [*([None] * blobs), *(["linux/amd64"] * len(children))],
    }
    edge_columns: dict[str, Any] = {"manifest": source[order], "descriptor": target[order]}  # faster than lists
    found["references"] = edge_columns
    found["blobs"] = {
        "blob_hash": [*layers, *manifests],
        "blob_size": [*size.tolist(), *([3000] * len(made))],
        "blob_date": [*([NOW - 100 * DAY] * blobs), *when.tolist()],
    }
    return found


def _digests(first: int, count: int) -> list[str]:
    query = f"select 'sha256:' || sha256(i::varchar) as digest from range({first}, {first + count}) r(i)"
    with duckdb.connect() as connection:
        digests: list[str] = connection.sql(query).to_arrow_table()["digest"].to_pylist()
    return digests
