"""Manifests, indexes and configs as they come from a registry, and as nobody should write them."""

import gc
import hashlib
import json
import pickle
import sqlite3
from typing import Any

import duckdb
import pytest

from regdata.sources.columns import Columns, merge
from regdata.sources.leads import leads_of, may_be_manifest, named_by
from regdata.sources.manifest import (
    Config,
    Content,
    is_digest,
    parse_config,
    parse_manifest,
    unreadable,
    with_config,
)
from regdata.sources.mediatypes import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST

DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
COSIGN = "application/vnd.dev.cosign.simplesigning.v1+json"
CONFIG_HASH, LAYER_HASH, CHILD_HASH = (f"sha256:{letter * 64}" for letter in "abc")


def descriptor(digest: str, media_type: str | None, size: Any = 7, **more: Any) -> dict[str, Any]:
    return {"digest": digest, "mediaType": media_type, "size": size, **more}


A_HASH, B_HASH = (f"sha256:{letter * 64}" for letter in "de")


def image(**changes: Any) -> dict[str, Any]:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(CONFIG_HASH, OCI_CONFIG),
        "layers": [descriptor(LAYER_HASH, LAYER, 1000)],
    } | changes
    return {key: value for key, value in document.items() if value is not ...}


def index(*children: dict[str, Any], **changes: Any) -> dict[str, Any]:
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(children)} | changes
    return {key: value for key, value in document.items() if value is not ...}


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def parse(document: Any, media_type: str | None = None) -> Content:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse_manifest(digest_of(data), data, media_type)


def edges(content: Content) -> list[tuple[str, str]]:
    return [(reference.hash, reference.kind) for reference in content.references]


def test_an_image_has_its_config_and_layers() -> None:
    """An image refers to its config and layers, with the sizes and types of their descriptors."""
    content = parse(image())
    assert (content.kind, content.error, content.config_hash) == ("image", None, CONFIG_HASH)
    assert content.references == (
        (CONFIG_HASH, "config", 7, OCI_CONFIG, None),
        (LAYER_HASH, "layer", 1000, LAYER, None),
    )
    assert content.manifest_size == len(json.dumps(image()))


def test_an_index_has_its_children_with_platforms() -> None:
    """An index refers to its children; a platform of unknown/unknown is no platform."""
    arm = {"os": "linux", "architecture": "arm64", "variant": "v8"}
    unknown = {"os": "unknown", "architecture": "unknown"}
    content = parse(
        index(
            descriptor(CHILD_HASH, OCI_MANIFEST, platform=arm),
            descriptor(LAYER_HASH, OCI_MANIFEST, platform=unknown),
            descriptor(CONFIG_HASH, OCI_MANIFEST),
        )
    )
    assert (content.kind, content.config_hash) == ("index", None)
    assert {reference.kind for reference in content.references} == {"manifest"}
    assert [r.platform for r in content.references] == ["linux/arm64/v8", None, None]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"config": descriptor(CONFIG_HASH, DOCKER_CONFIG)}, "image"),
        ({"layers": None}, "image"),
        ({"layers": [descriptor(LAYER_HASH, COSIGN)]}, "signature"),
        ({"artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json"}, "signature"),
        (
            {"config": descriptor(CONFIG_HASH, "application/vnd.cncf.notary.signature")},
            "signature",
        ),
        ({"config": descriptor(CONFIG_HASH, "application/vnd.cncf.helm.config.v1+json")}, None),
        ({"config": descriptor(CONFIG_HASH, None)}, "artifact"),
        ({"artifactType": "application/spdx+json"}, "artifact"),
        ({"subject": descriptor(CHILD_HASH, OCI_MANIFEST)}, "artifact"),
        ({"layers": [descriptor(LAYER_HASH, "application/vnd.in-toto+json")]}, "artifact"),
        (
            {"layers": [descriptor(LAYER_HASH, "application/vnd.dsse.envelope.v1+json")]},
            "artifact",
        ),
    ],
)
def test_kind(changes: dict[str, Any], kind: str | None) -> None:
    """What a manifest is follows from its config's type, artifactType, subject and layers."""
    content = parse(image(**changes))
    assert content.error is None
    assert content.kind == (kind or "artifact")
    assert (content.config_hash is not None) == (kind == "image")


def test_a_subject_is_no_reference() -> None:
    """The subject stands in subject_hash, also an index's, and else it is only mentioned."""
    subject = descriptor(CHILD_HASH, OCI_MANIFEST)
    for content in (parse(image(subject=subject)), parse(index(subject=subject))):
        assert content.subject_hash == CHILD_HASH
        assert [kind for hash_, kind in edges(content) if hash_ == CHILD_HASH] == ["mention"]


def test_an_oci_artifact_manifest_has_blobs() -> None:
    """The blobs of OCI's withdrawn artifact manifest count as layers."""
    media_type = "application/vnd.oci.artifact.manifest.v1+json"
    content = parse({"mediaType": media_type, "blobs": [descriptor(LAYER_HASH, "text/plain")]})
    assert (content.kind, edges(content)) == ("artifact", [(LAYER_HASH, "layer")])


def test_a_layer_listed_twice_is_one_reference() -> None:
    """Docker lists its empty layer once per instruction: one reference is enough."""
    layer = descriptor(LAYER_HASH, LAYER)
    assert edges(parse(image(layers=[layer, layer])))[1:] == [(LAYER_HASH, "layer")]


def test_another_digest_algorithm_is_carried_through() -> None:
    """OCI allows sha512, which is verified like sha256."""
    layer = "sha512:" + "0" * 128
    data = json.dumps(image(layers=[descriptor(layer, LAYER)])).encode()
    content = parse_manifest("sha512:" + hashlib.sha512(data).hexdigest(), data, None)
    assert content.error is None
    assert edges(content)[1] == (layer, "layer")
    assert parse_manifest("sha512:" + "0" * 128, data, None).kind is None


@pytest.mark.parametrize(
    ("document", "served", "expected"),
    [
        (image(), None, OCI_MANIFEST),
        (image(mediaType=...), None, OCI_MANIFEST),
        (image(mediaType=...), DOCKER_MANIFEST, DOCKER_MANIFEST),
        (image(), "application/json; charset=utf-8", OCI_MANIFEST),
        (index(mediaType=...), None, OCI_INDEX),
        (index(mediaType=DOCKER_LIST), DOCKER_LIST + "; charset=utf-8", DOCKER_LIST),
    ],
)
def test_media_type(document: dict[str, Any], served: str | None, expected: str) -> None:
    """The type is the manifest's own word, else the Content-Type, else told by its shape."""
    content = parse(document, served)
    assert (content.media_type, content.error) == (expected, None)


@pytest.mark.parametrize(
    ("document", "served", "named"),
    [
        ({"schemaVersion": 1, "fsLayers": [{"blobSum": LAYER_HASH}]}, None, "prettyjws"),
        ({"mediaType": "application/x", "what": [{LAYER_HASH: 1}]}, None, "application/x"),
        ({"what": f"v {LAYER_HASH}!"}, None, "(none given)"),
        ({"what": LAYER_HASH}, "text/html", "text/html"),
    ],
)
def test_an_unknown_type_refers_to_every_digest_in_it(document: dict[str, Any], served: str | None, named: str) -> None:
    """A manifest of an unknown type, schema 1 included, keeps whatever digest it mentions."""
    content = parse(document, served)
    assert content.error is not None
    assert content.error.startswith("unknown media type ")
    assert content.error.endswith(named)
    assert (content.kind, edges(content)) == (None, [(LAYER_HASH, "unknown")])


def test_an_escape_hides_no_digest() -> None:
    """A digest spelt with JSON escapes is found in what can't be understood."""
    escaped = LAYER_HASH.replace("s", "\\u0073")
    assert edges(parse(b'{"x": "%s"}' % escaped.encode())) == [(LAYER_HASH, "unknown")]


@pytest.mark.parametrize(
    "document",
    [
        image(layers="many"),
        image(layers=[LAYER_HASH]),
        image(layers=[descriptor(LAYER_HASH, LAYER, "12")]),
        image(layers=[descriptor(LAYER_HASH, LAYER, True)]),
        image(layers=[descriptor(LAYER_HASH, LAYER, 1.5)]),
        image(layers=[descriptor(LAYER_HASH, LAYER, 2**63)]),
        image(layers=[{"digest": LAYER_HASH, "mediaType": {}}]),
        image(config=...),
        image(config=[]),
        image(mediaType=4),
        image(annotations=[]),
        image(annotations={"a": 1}),
        image(layers=[descriptor(LAYER_HASH, LAYER, annotations={"a": 1})]),
        image(layers=[descriptor(LAYER_HASH, LAYER, urls="x")]),
        index(descriptor(CHILD_HASH, OCI_MANIFEST, platform={"os.version": 1})),
        index(descriptor(CHILD_HASH, OCI_MANIFEST, platform={"os.features": "x"})),
        image(manifests=[]),
        image(mediaType=..., manifests=[]),
        index(descriptor(CHILD_HASH, OCI_MANIFEST, platform="linux")),
        index(descriptor(CHILD_HASH, OCI_MANIFEST, platform={"os": 1, "architecture": "x"})),
        [image()],
        "text",
        None,
        b"1" * 10_000,
    ],
)
def test_an_invalid_manifest_says_so(document: Any) -> None:
    """Wrong types and missing keys make an error, and the digests that are there are kept."""
    content = parse(document)
    assert content.error is not None
    assert content.error.startswith("not a valid manifest: ")
    assert content.kind is None
    assert content.config_hash is None
    assert {kind for _, kind in edges(content)} <= {"unknown"}
    mentioned = {hash_ for hash_ in (CONFIG_HASH, CHILD_HASH) if hash_ in str(document)}
    assert mentioned <= {hash_ for hash_, _ in edges(content)}


@pytest.mark.parametrize(
    "document",
    [
        *(
            image(mediaType=DOCKER_MANIFEST, **{name: 5})
            for name in ("subject", "annotations", "artifactType", "blobs")
        ),
        *(image(mediaType=DOCKER_MANIFEST, manifests=value) for value in (5, [], [{"digest": 5}])),
        image(subject={"digest": 5}),
        image(artifactType=[], blobs={}),
        image(layers=[descriptor(LAYER_HASH, LAYER, -1)]),
        image(layers=[descriptor("", FOREIGN_LAYER), descriptor(LAYER_HASH, LAYER)]),
        image(layers=[descriptor(LAYER_HASH.upper(), LAYER), descriptor(LAYER_HASH, LAYER)]),
    ],
)
def test_only_what_a_registry_looks_at_has_to_fit(document: dict[str, Any]) -> None:
    """A field that its type has not, a size that is none and a layer without a digest leave an image readable."""
    content = parse(document)
    assert (content.error, content.kind) == (None, "image")
    assert edges(content)[:2] == [(CONFIG_HASH, "config"), (LAYER_HASH, "layer")]
    assert content.subject_hash is None


@pytest.mark.parametrize(
    "subject",
    [
        {"digest": A_HASH, "size": "1"},
        {"Digest": A_HASH, "platform": [], "mediaType": 5, "urls": 1},
        {"digest": 5, "ref": f"shop/web@{A_HASH}"},
        A_HASH,
        [{"digest": A_HASH}],
    ],
)
def test_a_subject_that_does_not_fit_is_one(subject: Any) -> None:
    """No registry looks at it: what belongs to something for one client or another is no orphan."""
    content = parse(image(subject=subject))
    assert (content.error, content.subject_hash) == (None, A_HASH)


def test_a_list_with_an_images_fields_is_a_list() -> None:
    """Registries read Docker's list as what it says, whatever else stands in it."""
    document = index(descriptor(CHILD_HASH, DOCKER_MANIFEST), mediaType=DOCKER_LIST, layers=[], config={"digest": 5})
    content = parse(document)
    assert (content.error, content.kind, edges(content)) == (None, "index", [(CHILD_HASH, "manifest")])


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (index(descriptor(CHILD_HASH, f"{OCI_MANIFEST}; charset=utf-8"), descriptor(A_HASH, OCI_MANIFEST.upper())), []),
        (index(descriptor(CHILD_HASH, "application/json"), descriptor(A_HASH, LAYER)), [CHILD_HASH, A_HASH]),
        (image(layers=[descriptor(CHILD_HASH, OCI_MANIFEST), descriptor(A_HASH, "text/plain")]), [CHILD_HASH]),
        (image(subject=descriptor(CHILD_HASH, "")), [CHILD_HASH]),
    ],
)
def test_what_may_be_a_manifest_by_its_bytes(document: dict[str, Any], expected: list[str]) -> None:
    """What an index lists is a manifest by its type, whatever its case and parameters, or may be one; an image's layers
    may if their type says so, and so may a subject."""
    content = parse(document)
    assert list(leads_of(content).perhaps) == expected
    assert {kind for hash_, kind in edges(content) if hash_ in (CHILD_HASH, A_HASH)} <= (
        {"layer", "mention"} if expected else {"manifest"}
    )


LONG_S, KELVIN = "\N{LATIN SMALL LETTER LONG S}", "\N{KELVIN SIGN}"


def pairs(*members: str) -> bytes:
    return ("{" + ",".join(members) + "}").encode()


@pytest.mark.parametrize(
    "members",
    [
        (f'"digest": "{A_HASH}"', f'"Digest": "{B_HASH}"'),
        (f'"DIGEST": "{A_HASH}"', f'"digest": "{B_HASH}"'),
        (f'"digest": "{A_HASH}"', f'"dige{LONG_S}t": "{B_HASH}"'),
        (f'"digest": "{A_HASH}"', f'"digest": "{B_HASH}"', '"Digest": null'),
    ],
)
def test_the_last_of_a_field_wins_in_any_case(members: tuple[str, ...]) -> None:
    """Names of fields are read as Go folds their case; the last one wins, and null is none."""
    child = pairs(f'"mediaType": "{OCI_MANIFEST}"', *members).decode()
    content = parse(pairs('"schemaVersion": 2', f'"mediaType": "{OCI_INDEX}"', f'"manifests": [{child}]'))
    assert content.error is None
    assert edges(content) == [(B_HASH, "manifest"), (A_HASH, "mention")]


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ((2, "[{}]", "[{}, {}]"), [A_HASH, B_HASH]),
        ((2, "[null]", "[null]", "[null, null]"), [A_HASH, B_HASH]),
        ((1, "[{}, {}]"), None),
        ((2, "[]", "[{}]"), None),
        ((2, "null", "[{}]"), None),
    ],
)
def test_a_list_given_thrice_is_read_over_all_that_was_there(
    lists: tuple[int | str, ...], expected: list[str] | None
) -> None:
    """Go keeps what lies behind the end of a shorter list, but not behind an empty one; then a child has no digest."""
    children = [f'{{"digest": "{digest}"}}' for digest in (A_HASH, B_HASH)]
    given = [f"[{','.join(children[:one])}]" if isinstance(one, int) else one for one in lists]
    members = [f'"manifests": {one}' for one in given]
    content = parse(pairs('"schemaVersion": 2', f'"mediaType": "{OCI_INDEX}"', *members))
    assert (content.error is None) == (expected is not None)
    if expected:
        assert [hash_ for hash_, kind in edges(content) if kind == "manifest"] == expected


def test_a_field_given_twice_is_read_over_the_first() -> None:
    """Go merges a struct or the elements of a list that come twice; what the second leaves out stays."""
    config = f'{{"mediaType": "{OCI_CONFIG}", "digest": "{CONFIG_HASH}"}}'
    layers = f'[{{"digest": "{A_HASH}"}}, {{"digest": "{LAYER_HASH}"}}]'
    content = parse(
        pairs(
            '"schemaVersion": 2',
            f'"mediaType": "{OCI_MANIFEST}"',
            f'"config": {config}',
            f'"LAYERS": {layers}',
            '"Config": {"size": 3}',
            '"CONFIG": null',
            f'"layer{LONG_S}": [{{"size": 5}}]',
        )
    )
    assert content.error is None
    assert [(ref.hash, ref.kind, ref.size) for ref in content.references] == [
        (CONFIG_HASH, "config", 3),
        (A_HASH, "layer", 5),
        (LAYER_HASH, "mention", None),
    ]


@pytest.mark.parametrize(
    "document",
    [
        image(layers=...),
        image(layers=..., Layers=[]),
        image(manifests=None),
        image(subject=None),
        image(subject={}),
        image(**{f"{LONG_S}ubject": None}),
        image(annotations=None),
        image(other=[[[]]]),
        index(manifests=...),
        index(manifests=None),
        index(annotations={"a": None}),
        image(layers=[descriptor(LAYER_HASH, LAYER, data="YQ\n==", artifactType=None, annotations={"a": None})]),
        image(layers=[descriptor(LAYER_HASH, LAYER, data=[0, None, 255], urls=None)]),
        image(mediaType=DOCKER_MANIFEST, annotations={"a": 1}),
        index(mediaType=DOCKER_LIST, annotations={"a": 1}),
        json.dumps(image()).encode().replace(b"{", b'{"x": "\xff\xfe",', 1),
        json.dumps(image()).encode().replace(b"{", b'{"x": ' + b"[" * 5000 + b"]" * 5000 + b",", 1),
        json.dumps(image()).encode().replace(b"{", b'{"x": ' + b"9" * 5000 + b",", 1),
        json.dumps(image()).encode().replace(b"{", b'{"x": 1e999, "y": -0.0,', 1),
        json.dumps(image(ANNOTATIONS={"a": "\ud800"})).encode(),
    ],
)
def test_what_go_reads_is_healthy(document: Any) -> None:
    """What a registry reads and serves is neither invalid nor a reason for its collector to stop."""
    content = parse(document)
    assert (content.error, content.stops) == (None, None)


@pytest.mark.parametrize("served", [None, OCI_MANIFEST, OCI_INDEX])
def test_an_index_that_says_nothing(served: str | None) -> None:
    """Registries take an index without a type and a list, and serve it as one or as an image: it lists nothing."""
    content = parse(index(mediaType=..., manifests=...), served)
    assert (content.error, content.kind, content.stops, content.references) == (None, "index", None, ())


@pytest.mark.parametrize(
    ("document", "stops"),
    [
        (image(schemaVersion=...), "all"),
        (image(schemaVersion=3), "all"),
        (image(schemaVersion=..., SchemaVersion=2), None),
        (image(mediaType=...), None),
        (index(mediaType=DOCKER_LIST), None),
        ({"schemaVersion": 1, "fsLayers": [{"blobSum": LAYER_HASH}], "history": [CHILD_HASH]}, "3.x"),
        ({"schemaVersion": 2, "mediaType": "application/vnd.oci.artifact.manifest.v1+json", "blobs": []}, "all"),
        ({"schemaVersion": 2, "mediaType": "application/x"}, "all"),
        (image(layers=4), "all"),
        (index(annotations={"a": 1}), "3.x"),
        (index(ANNOTATIONS=[]), "3.x"),
        (index(descriptor(CHILD_HASH, OCI_MANIFEST, data="x")), "3.x"),
        (image(layers=[descriptor(LAYER_HASH, LAYER), descriptor(LAYER_HASH, LAYER, Data={})]), "3.x"),
        (image(layers=[descriptor(LAYER_HASH, LAYER, data=[256])]), "3.x"),
        (image(config=descriptor(CONFIG_HASH, OCI_CONFIG, artifactType=5)), "3.x"),
        (index(descriptor(CHILD_HASH, OCI_MANIFEST, data=1), mediaType=DOCKER_LIST, schemaVersion=1), "all"),
    ],
)
def test_what_stops_a_collector(document: dict[str, Any], stops: str | None) -> None:
    """distribution's collectors stop at what they can't read: types they don't know, versions, fields of odd types."""
    assert parse(document).stops == stops


def test_names_in_other_cases_at_any_depth() -> None:
    """Go matches the names of fields in any case, those of a child's platform, too."""
    platform = {"OS": "linux", "Architecture": "arm", "architecture": "arm64", "VARIANT": "v8"}
    child = {"DIGEST": CHILD_HASH, "MediaType": OCI_MANIFEST, "\u017fize": 7, "Platform": platform}
    content = parse({"schemaVersion": 2, "mediaType": OCI_INDEX, "MANIFESTS": [child]})
    (listed,) = content.references
    assert (listed.hash, listed.kind, listed.size, listed.platform) == (CHILD_HASH, "manifest", 7, "linux/arm64/v8")


def test_every_digest_in_the_text_is_mentioned() -> None:
    """A digest in an annotation or in a field that nobody knows is a mention, an escaped one and sha384 too."""
    base, odd = f"sha384:{'1' * 96}", A_HASH.replace("s", "\\u0073")
    data = json.dumps(image(annotations={"org.opencontainers.image.base.digest": base})).encode()
    content = parse(data.replace(b"{", b'{"x": ["%s"],' % odd.encode(), 1))
    assert edges(content)[2:] == [(base, "mention"), (A_HASH, "mention")]


def test_two_readings_are_invalid() -> None:
    """A manifest served as another type than it says is not understood (CVE-2021-41190)."""
    content = parse(image(), OCI_INDEX)
    assert content.error == f"not a valid manifest: says {OCI_MANIFEST}, served as {OCI_INDEX}"


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 200_000, b"NaN", b"\xef\xbb\xbf{}"])
def test_what_is_not_json(data: bytes) -> None:
    """Bytes that are no JSON, or too deep for it, make an error."""
    gc.collect()  # what others left may not be ended that deep
    content = parse(data)
    assert (content.error, content.manifest_size) == ("not JSON", len(data))


def test_bytes_that_do_not_match_their_digest() -> None:
    """A manifest that was changed on disk or on the way is not believed."""
    data = json.dumps(image()).encode()
    content = parse_manifest("sha256:" + "0" * 64, data, OCI_MANIFEST)
    assert content.error == "content does not match its digest"
    assert content.kind is None


def test_text_is_safe_to_print() -> None:
    """Escape sequences and half surrogates in a media type reach no terminal and no file."""
    content = parse({"mediaType": "x\x1b[31m\ud800" + "y" * 500})
    assert content.media_type is not None
    assert content.media_type.isprintable()
    assert len(content.media_type) <= 255


@pytest.mark.parametrize(
    ("value", "epoch"),
    [
        ("2023-05-01T12:34:56.123456789Z", 1682944496),
        ("2023-05-01T14:34:56+02:00", 1682944496),
        ("1970-01-01T00:00:00Z", 0),
        ("0001-01-01T00:00:00Z", -62135596800),
        ("2023-05-01T12:34:56", None),
        ("0001-01-01T00:00:00+23:59", -62135683140),
        ("9999-12-31T23:59:59-23:59", 253402387139),
        ("yesterday", None),
        ("", None),
        (1682944496, None),
        (None, None),
    ],
)
def test_created(value: Any, epoch: int | None) -> None:
    """A config's date is read to the second, raw; one without an offset is unknown."""
    config = json.dumps({"created": value, "os": "linux", "architecture": "amd64"}).encode()
    assert parse_config(config) == (epoch, "linux/amd64", None)
    annotated = parse(index(annotations={"org.opencontainers.image.created": value}))
    assert (annotated.error, annotated.created) == (None, epoch)


@pytest.mark.parametrize(
    ("config", "platform"),
    [
        ({"os": "linux", "architecture": "arm", "variant": "v7"}, "linux/arm/v7"),
        ({"os": "linux"}, None),
        ({"os": "", "architecture": ""}, None),
        ({"os": ["linux"], "architecture": "arm"}, None),
        ([], None),
    ],
)
def test_platform(config: Any, platform: str | None) -> None:
    """A platform is os/architecture with a variant where there is one, else unknown."""
    assert parse_config(json.dumps(config).encode()) == (None, platform, None)


def test_an_odd_config_says_nothing() -> None:
    """What is no JSON, or too deep for it, has no date and no platform."""
    assert parse_config(b"{") == parse_config(b"[" * 200_000) == (None, None, None)


def test_a_config_completes_its_image() -> None:
    """The config's date wins over the annotation's, which stays if the config has none."""
    annotated = parse(image(annotations={"org.opencontainers.image.created": "1970-01-01T00:00:09Z"}))
    assert with_config(annotated, Config(5, "linux/amd64"))[4:6] == (5, "linux/amd64")
    assert with_config(annotated, Config())[4:6] == (9, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LAYER_HASH, True),
        ("sha512:" + "0" * 128, True),
        ("multihash+base58:" + "0" * 40, True),
        ("sha256:" + "0" * 63, False),
        ("sha256:" + "0" * 65, False),
        ("sha256:" + "A" * 64, False),
        (LAYER_HASH + "\n", False),
        ("../" + LAYER_HASH, False),
        ("", False),
        (None, False),
    ],
)
def test_is_digest(text: object, expected: bool) -> None:
    """A digest is lower-case hex after an algorithm; sha256 has exactly 64 digits."""
    assert is_digest(text) is expected


def columns_of(*contents: Content) -> Columns:
    columns = Columns()
    for content in contents:
        columns.add_content(content)
    return columns


def rows(columns: Columns, table: str) -> list[tuple[Any, ...]]:
    return list(zip(*columns[table].values(), strict=True))


def test_merge_keeps_each_digest_once() -> None:
    """A content that was read wins over one that was not, and brings its references once."""
    read, lost = parse(image()), parse(index(manifests=4))
    parts = [
        columns_of(unreadable(read.manifest_hash, "HTTP 500"), lost),
        columns_of(read, lost),
        columns_of(read),
    ]
    for number, part in enumerate(parts):
        part["repositories"]["image_name"].append(f"r{number}")
        part["blobs"]["blob_hash"].append(LAYER_HASH)
        part["blobs"]["blob_size"].append(number)
        part["blobs"]["blob_date"].append(None)
    merged = merge(iter(parts))
    assert merged["repositories"]["image_name"] == ["r0", "r1", "r2"]
    assert rows(merged, "blobs") == [(LAYER_HASH, 0, None)]
    assert sorted(rows(merged, "contents")) == sorted([read[:9], lost[:9]])
    assert list(merged.references()) == [(read.manifest_hash, reference) for reference in read.references]
    assert pickle.loads(pickle.dumps(merged)) == merged
    assert merge([merged]) == merged
    assert merge([]) == Columns()


@pytest.mark.parametrize(
    ("labels", "annotations", "found"),
    [
        (None, None, None),
        ({}, {}, None),
        ({"b": "1", "a": "2"}, None, {"a": "2", "b": "1"}),
        (None, {"x.y": "z"}, {"x.y": "z"}),
        ({"a": "label", "b": "1"}, {"a": "annotation"}, {"a": "annotation", "b": "1"}),
        ({"a": 5, "b": None, "c": ["x"], "d": "1"}, None, {"d": "1"}),
        ("text", {"a": "1"}, {"a": "1"}),
        ({"é": "ü\n\"'$."}, None, {"é": "ü\n\"'$."}),
        ({"a\0b": "c\0d", "\ud800": "x\udfff"}, None, {"a\ufffdb": "c\ufffdd", "?": "x?"}),
        ({"a": "x" * 70_000}, None, None),
        ({"a": "x" * 70_000}, {"b": "1"}, {"b": "1"}),
    ],
)
def test_labels(labels: Any, annotations: Any, found: dict[str, str] | None) -> None:
    """The config's labels and the manifest's annotations, which win, as JSON for both engines; too many are unknown."""
    config = parse_config(json.dumps({"config": {"Labels": labels}}).encode())
    content = with_config(parse(image(annotations=... if annotations is None else annotations)), config)
    assert content.labels == (found and json.dumps(found, ensure_ascii=False, sort_keys=True, separators=(",", ":")))
    if content.labels:
        for engine in (sqlite3.connect(":memory:"), duckdb.connect()):
            for key, value in json.loads(content.labels).items():
                if key.isalnum():
                    assert engine.execute("select ? ->> ?", [content.labels, key]).fetchone() == (value,)
            engine.close()


@pytest.mark.parametrize(
    ("size", "known"), [(1 << 44, 1 << 44), ((1 << 44) + 1, None), (2**63 - 1, None), (-(10**18), None)]
)
def test_a_size_that_no_blob_has(size: int, known: int | None) -> None:
    """It is not known then: many of them would be more than a number of 64 bits."""
    config = f'"config": {{"mediaType": "{OCI_CONFIG}", "digest": "{CONFIG_HASH}", "size": {size}}}'
    content = parse(pairs('"schemaVersion": 2', f'"mediaType": "{OCI_MANIFEST}"', config, '"layers": []'))
    assert (content.error, content.references[0].size) == (None, known)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"schemaVersion": 2}', True),
        (b'\r\n\t {"SCHEMAVERSION": 2}', True),
        (f'{{"layers": [], "schemaVer{LONG_S}ion": 2}}'.encode(), True),
        (b'{"config": {"schemaVersion": 2}}', False),
        (b'[{"schemaVersion": 2}]', False),
        (b'{"schemaVersion": 2', False),
    ],
)
def test_bytes_that_a_registry_takes_as_a_manifest(data: bytes, expected: bool) -> None:
    """An object that says its schemaVersion is one, in whatever case; what says it further down, or is not whole, is
    none."""
    assert may_be_manifest(data) is expected


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("suffix", ["", ".sig", ".att", ".sbom"])
def test_what_a_tag_names(algorithm: str, suffix: str) -> None:
    """A tag that is made of a digest says to what a signature, an attestation, an SBOM or a list of those is attached;
    one that only looks alike says nothing."""
    tag = f"{algorithm}-{'ab' * 32}{suffix}"
    assert named_by(tag) == f"{algorithm}:{'ab' * 32}"
    assert [named_by(other) for other in (f"{tag}-old", f"v{tag}", tag.replace("ab", "AB"), tag[1:])] == [None] * 4


def test_a_date_that_can_not_be_beside_one_that_can() -> None:
    """Reproducible builds say 1970 in the config: an annotation tells when they were made."""
    annotated = parse(image(annotations={"org.opencontainers.image.created": "2025-06-01T00:00:00Z"}))
    assert with_config(annotated, Config(0, "linux/amd64")).created == 1748736000
    assert with_config(annotated, Config(1748736001, "linux/amd64")).created == 1748736001


def test_an_image_that_only_mentions_another() -> None:
    """The base that an image names in an annotation, and nothing else that may be a manifest, is what it leads to."""
    assert leads_of(parse(image(annotations={"base": CHILD_HASH}))) == ((), (), (CHILD_HASH,))
