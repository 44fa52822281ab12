"""The media types of manifests and of what they list, and what kind of thing they make of it.

Sources: OCI image-spec (media-types.md), Docker's "Image Manifest V 2, Schema 2", cosign's specs.
"""

from collections.abc import Collection

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPES: tuple[str, ...] = (DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX)
INDEX_TYPES = frozenset((DOCKER_LIST, OCI_INDEX))

# Withdrawn from the OCI specification before 1.1, but some registries hold it.
OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
KNOWN_TYPES = frozenset((*MANIFEST_TYPES, OCI_ARTIFACT))
_LISTED_TYPES = frozenset((*KNOWN_TYPES, SCHEMA1, "application/vnd.docker.distribution.manifest.v1+json"))

_IMAGE_CONFIGS = frozenset(
    ("application/vnd.docker.container.image.v1+json", "application/vnd.oci.image.config.v1+json")
)
_SIGNATURES = (
    "application/vnd.dev.cosign.",
    "application/vnd.dev.sigstore.",
    "application/vnd.cncf.notary.signature",
)
_ATTESTATIONS = ("application/vnd.in-toto", "application/vnd.dsse.envelope")
_SBOMS = ("spdx", "cyclonedx", "syft")  # cosign's specs/SBOM_SPEC.md: text/spdx+json, application/vnd.cyclonedx…
_FILE_SYSTEMS = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")


def plain(media_type: str) -> str:
    """Without parameters, in lower case (RFC 9110, section 8.3.1)."""
    return media_type.partition(";")[0].strip().lower()


def is_manifest(media_type: str | None) -> bool:
    """Whether what is listed with this type is a manifest by it; no type may be any."""
    return plain(media_type or "") in _LISTED_TYPES


def is_image_part(media_type: str | None) -> bool:
    """Whether what is listed with this type is an image's config or files by it; artifacts may list anything."""
    type_ = plain(media_type or "")
    return type_ in _IMAGE_CONFIGS or type_.startswith(_FILE_SYSTEMS)


def kind_of(artifact_type: str, config_type: str | None, types: Collection[str], *, is_attached: bool) -> str:
    """signature, artifact or image. ``types``: of config and layers; ``is_attached``: it has a subject.

    cosign's signatures, attestations and SBOMs say that their config is an image's: their layers tell them apart.
    """
    is_image = config_type in _IMAGE_CONFIGS
    if is_image and any(type_.startswith(_FILE_SYSTEMS) for type_ in types):
        types = ()  # whatever lies beside them, it can be run
    if any(type_.startswith(_SIGNATURES) for type_ in (artifact_type, *types)):
        return "signature"
    if artifact_type or is_attached:
        return "artifact"
    described = any(t.startswith(_ATTESTATIONS) or any(word in t for word in _SBOMS) for t in types)
    return "image" if is_image and not described else "artifact"
