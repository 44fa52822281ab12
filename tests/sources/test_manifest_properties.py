"""Whatever JSON, bytes and readings there are: the columns are well-formed, and their union is one."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from regdata.sources.columns import COLUMNS, Columns, merge
from regdata.sources.manifest import (
    Content,
    is_digest,
    parse_config,
    unreadable,
    with_config,
)
from regdata.sources.mediatypes import MANIFEST_TYPES, OCI_MANIFEST
from tests.sources.test_manifest import (
    CHILD_HASH,
    CONFIG_HASH,
    COSIGN,
    DOCKER_CONFIG,
    LAYER,
    LAYER_HASH,
    OCI_CONFIG,
    columns_of,
    descriptor,
    digest_of,
    image,
    index,
    parse,
)

DIGESTS = st.sampled_from([CONFIG_HASH, LAYER_HASH, CHILD_HASH, "sha256:no", "md5:" + "0" * 32])
TYPES = st.sampled_from([*MANIFEST_TYPES, OCI_CONFIG, DOCKER_CONFIG, LAYER, COSIGN, "text/plain"])
CONTENT_KEYS = ["digest", "size", "platform", "os", "architecture", "variant", "created"]
MANIFEST_KEYS = ["mediaType", "config", "layers", "manifests", "blobs", "subject", "annotations"]
KEYS = st.sampled_from([*CONTENT_KEYS, *MANIFEST_KEYS, "schemaVersion", "artifactType", "Layers"])
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.characters(categories=["Cs", "Cc"])
    | DIGESTS
    | TYPES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(), inner),
    max_leaves=20,
)
DESCRIPTORS = ANYTHING | st.fixed_dictionaries(
    {"digest": DIGESTS, "mediaType": TYPES},
    optional={"size": st.integers() | ANYTHING, "platform": ANYTHING},
)
DOCUMENTS = ANYTHING | st.fixed_dictionaries(
    {"mediaType": TYPES | ANYTHING},
    optional={
        "config": DESCRIPTORS,
        "layers": st.lists(DESCRIPTORS, max_size=3) | ANYTHING,
        "manifests": st.lists(DESCRIPTORS, max_size=3) | ANYTHING,
        "subject": DESCRIPTORS,
        "annotations": ANYTHING,
        "artifactType": ANYTHING,
    },
)
SQL_TYPES = dict.fromkeys(("manifest_size", "created", "reference_size", "manifest", "descriptor"), int)


def check_columns(columns: Columns) -> None:
    """Equally long lists of integers that fit, and of texts that can be written."""
    assert {table: tuple(lists) for table, lists in columns.items()} == COLUMNS
    for lists in columns.values():
        assert len({len(values) for values in lists.values()}) == 1
        for name, values in lists.items():
            for value in values:
                assert value is None or type(value) is SQL_TYPES.get(name, str)
                if isinstance(value, str):
                    value.encode()
                elif value is not None:
                    assert -(2**63) <= value < 2**63


@given(document=DOCUMENTS, media_type=st.none() | TYPES | st.text())
def test_no_document_raises(document: Any, media_type: str | None) -> None:
    """Whatever JSON a registry holds, its columns are well-formed; what is odd has an error."""
    content = parse(document, media_type)
    check_columns(columns_of(content, unreadable(CHILD_HASH, "HTTP 500")))
    assert (content.error is None) == (content.kind is not None)
    assert all(is_digest(reference.hash) for reference in content.references)
    if content.error is not None:
        assert content.error.isprintable()
        assert {reference.kind for reference in content.references} <= {"unknown"}


@given(data=st.binary())
def test_no_bytes_raise(data: bytes) -> None:
    """Whatever bytes a registry holds, nothing raises."""
    check_columns(columns_of(with_config(parse(data), parse_config(data))))


@given(config=ANYTHING)
def test_no_config_raises(config: Any) -> None:
    """Whatever JSON an image has for a config, its date and platform are well-formed."""
    check_columns(columns_of(with_config(parse(image()), parse_config(json.dumps(config).encode()))))


@given(
    reads=st.lists(
        st.lists(
            st.sampled_from(
                [
                    parse(image()),
                    parse(index(descriptor(CHILD_HASH, OCI_MANIFEST))),
                    unreadable(digest_of(json.dumps(image()).encode()), "HTTP 500"),
                    unreadable(LAYER_HASH, "HTTP 404"),
                ]
            ),
            unique_by=lambda content: content.manifest_hash,
        )
    )
)
def test_merge_is_the_union(reads: list[list[Content]]) -> None:
    """However the work was split, a digest is there once, readable if any share could read it."""
    merged = merge(columns_of(*contents) for contents in reads)
    check_columns(merged)
    everything = [content for contents in reads for content in contents]
    hashes = merged["contents"]["manifest_hash"]
    assert sorted(hashes) == sorted({content.manifest_hash for content in everything})
    for digest, error in zip(hashes, merged["contents"]["error"], strict=True):
        best = min(
            (content for content in everything if content.manifest_hash == digest),
            key=lambda content: content.error is not None,
        )
        assert error == best.error
        mine = [reference for manifest, reference in merged.references() if manifest == digest]
        assert mine == list(best.references)
