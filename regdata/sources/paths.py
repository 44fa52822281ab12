"""Where distribution keeps what (registry/storage/paths.go), as paths below ``docker/registry/v2``."""

from __future__ import annotations

# With a tag's name: its folder while regdata removes it, beside tags/ and revisions/, where the registry looks for
# nothing else.
REMOVED = ".regdata-removed-"
# There, a repository's links to layers, and beside it its folder of manifests, while regdata removes the repository.
LAYERS = ".regdata-layers"
CLOSED = "_regdata-removed"

# Beside docker/registry/v2: what regdata set aside.
ASIDE = "regdata-aside"
CLOCK = ".regdata-clock-"  # how files begin that tell the time


def blob_path(digest: str) -> str:
    """The file with a blob's bytes."""
    algorithm, _, hex_ = digest.partition(":")
    return f"blobs/{algorithm}/{hex_[:2]}/{hex_}/data"


def digest_of(path: str) -> str | None:
    """The digest of the blob whose bytes a path is that of."""
    match path.split("/"):
        case ["blobs", algorithm, _, hex_, "data"]:
            return f"{algorithm}:{hex_}"
    return None


def layers_path(repository: str) -> str:
    """The folder of a repository's links to layers and configs."""
    return f"repositories/{repository}/_layers"


def layer_path(repository: str, digest: str) -> str:
    """The link by which a repository has a layer or config; it holds the digest that the bytes are stored by."""
    return f"{layers_path(repository)}/{digest.replace(':', '/')}/link"


def linked_as(path: str) -> str | None:
    """The digest by which a path links a layer or config; None for another path."""
    match path.split("/")[-4:]:
        case ["_layers", algorithm, hex_, "link"]:
            return f"{algorithm}:{hex_}"
    return None


def revisions_path(repository: str) -> str:
    """The folder of a repository's links to manifests."""
    return f"repositories/{repository}/_manifests/revisions"


def revision_path(repository: str, digest: str) -> str:
    """The link by which a repository has a manifest."""
    return f"{revisions_path(repository)}/{digest.replace(':', '/')}/link"


def uploads_path(repository: str) -> str:
    """The folder of a repository's open uploads, each with ``startedat`` and ``data``."""
    return f"repositories/{repository}/_uploads"
