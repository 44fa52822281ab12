"""What a registry has to do for its blobs to be collected while it runs: tried out before anything is deleted.

Everything is tried on random digests and random bytes, which nobody else can have, and never on a tag. What is stored
for it is announced before, and says by its bytes what it is: the next run removes what a killed one left.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from os.path import dirname
from typing import Any, NamedTuple

from regdata.collecting.unlinked import is_own, nobodys
from regdata.errors import AccessError, CleanupError, RegistryError
from regdata.sources.answers import Answer
from regdata.sources.claims import Claims
from regdata.sources.files import told
from regdata.sources.mediatypes import OCI_INDEX, OCI_MANIFEST
from regdata.sources.names import means
from regdata.sources.paths import blob_path, layer_path, layers_path, revision_path
from regdata.sources.registry import Registry
from regdata.sources.storage import Storage

# Asked so often, each of a few replicas will have been asked.
_REPLICAS = 16
# What a blob that is tried with begins with, and its bytes.
_MARK, _SIZE = b"regdata's probe ", 32
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

REMEMBERS = (
    "claims a blob again, whose link was deleted, as soon as another repository has it: a cache in Redis keeps, before "
    "3.1.0, which repositories ever had a blob. What is pushed after a collection may have no links then, and breaks "
    "when Redis forgets. Have gc-before stop the registry and gc-after flush its Redis and start it, have it cache in "
    "memory (inmemory), or upgrade it to 3.1"
)

Say = Callable[[dict[str, Any]], object]


def check_online(claims: Claims, storage: Storage, repository: str, say: Say) -> None:
    """Raises CleanupError where the registry's blobs can't be collected safely while it runs; nothing is changed.

    ``storage`` has to be what it writes to, and deleting has to be allowed: that is tried out before. ``say`` writes
    down, for `remove_left`, what is about to be stored.
    """
    registry = claims.registry
    for unfounded in _unfounded():
        _check_refused(registry, storage, repository, unfounded)
    with _uploaded(registry, storage, repository, say) as digest:
        for _ in range(_REPLICAS):  # so that every cache knows it
            claims.has(repository, digest)
        claims.forget(repository, digest)
        claimed = sum(claims.has(repository, digest) for _ in range(_REPLICAS))
        if claimed:
            raise CleanupError(
                f"{registry.display} goes on claiming a blob after its link was deleted ({claimed} of {_REPLICAS} "
                "times): several replicas answer, each with a cache of its own, or a proxy keeps answers. Pushes "
                "after a collection would be broken, so nothing was deleted: switch storage.cache off, or stop all "
                "of them by gc-before and start them by gc-after"
            )
        if _claims_again(claims, storage, repository, digest, say):
            raise CleanupError(f"{registry.display} {REMEMBERS}")


def remembers(claims: Claims, storage: Storage, repository: str, say: Say) -> bool:
    """Whether the registry's cache can't be made to forget for good what a repository had: see `REMEMBERS`."""
    with _uploaded(claims.registry, storage, repository, say) as digest:
        claims.has(repository, digest)
        claims.forget(repository, digest)
        return _claims_again(claims, storage, repository, digest, say)


def _claims_again(claims: Claims, storage: Storage, repository: str, digest: str, say: Say) -> bool:
    """Whether a blob that was made forgotten, and is linked there no more, is claimed again when another repository has
    it (registry/storage/cache/redis in distribution before 3.1.0: Clear leaves the repository's set as it is)."""
    within = claims.registry.reach.repositories
    here = storage.files.place(f"{storage.root}/{layers_path(repository)}")
    # By a symbolic link, another name may be the same repository.
    names = [name for name in storage.repositories() if means(within, name) and name != repository]
    others = [one for one in names if storage.files.place(f"{storage.root}/{layers_path(one)}") != here]
    other = others[0] if others else nobodys(claims, storage)
    path = f"{storage.root}/{layer_path(other, digest)}"
    say({"event": "probing", "image": other, "digest": digest})
    try:
        with told(path):
            storage.files.make(dirname(path))
            storage.files.write(path, digest.encode(), lasting=False)
        return claims.has(other, digest) and claims.has(repository, digest)
    except AccessError:  # then this login pushes nothing there, either
        return False
    finally:
        with suppress(RegistryError):
            claims.forget(other, digest)
        _remove(storage, layer_path(other, digest) if others else f"repositories/{other}/_layers")


class _Unfounded(NamedTuple):
    kind: str
    data: bytes
    media_type: str


def _unfounded() -> Iterator[_Unfounded]:
    """Manifests that refer to what nobody has."""

    def descriptor(media_type: str, **more: object) -> dict[str, object]:
        return {"mediaType": media_type, "digest": f"sha256:{secrets.token_hex(32)}", "size": 7, **more}

    image = {"config": descriptor(_CONFIG), "layers": [descriptor(_LAYER)]}
    yield _Unfounded("an image", _manifest(OCI_MANIFEST, image), OCI_MANIFEST)
    platform = {"os": "linux", "architecture": "mips64le"}
    index = {"manifests": [descriptor(OCI_MANIFEST, platform=platform)]}
    yield _Unfounded("an index", _manifest(OCI_INDEX, index), OCI_INDEX)


def _manifest(media_type: str, parts: Mapping[str, object]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, **parts}).encode()


def _check_refused(registry: Registry, storage: Storage, repository: str, unfounded: _Unfounded) -> None:
    digest = f"sha256:{hashlib.sha256(unfounded.data).hexdigest()}"
    path = registry.http.path(repository, "manifests", digest)
    answer = registry.patiently("PUT", path, {"Content-Type": unfounded.media_type}, unfounded.data)
    if answer.status == 400:
        return
    if answer.status != 201:
        raise _refused(registry, "PUT", path, answer)
    registry.delete(repository, digest)
    _remove(storage, revision_path(repository, digest), blob_path(digest))
    raise CleanupError(
        f"{registry.display} takes {unfounded.kind} whose parts it does not have, so that a push in flight could lose "
        "them; nothing was deleted. Switch validation on (validation.disabled: false, manifests.indexes.platforms: "
        "all), or stop the registry by gc-before and start it by gc-after"
    )


@contextmanager
def _uploaded(registry: Registry, storage: Storage, repository: str, say: Say) -> Iterator[str]:
    """A new blob in a repository, which is removed again."""
    data = _MARK + secrets.token_bytes(_SIZE - len(_MARK))
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    say({"event": "probing", "image": repository, "digest": digest})
    path = registry.http.path(repository, "blobs/uploads/")
    answer = registry.patiently("POST", path)
    if answer.status != 202:
        raise _refused(registry, "POST", path, answer)
    where = f"{registry.http.upload(path, answer)[1]}&digest={digest}"
    answer = registry.patiently("PUT", where, {"Content-Type": "application/octet-stream"}, data)
    # An upload that was ended when its answer was put off is unknown the next time.
    if answer.status != 201 and not (answer.status == 404 and registry.blob_exists(repository, digest)):
        raise _refused(registry, "PUT", where, answer)
    try:
        yield digest
    finally:
        _remove_blob(registry, storage, digest, repository)


@contextmanager
def canary(claims: Claims, storage: Storage, repository: str, say: Say) -> Iterator[Callable[[], bool]]:
    """Tells whether the registry's cache is that of before: it is made to know a blob which nobody has and which is
    gone at once. One that was restarted does not, nor one that keeps no cache. ``say``: see `check_online`."""
    data = _MARK + secrets.token_bytes(_SIZE - len(_MARK))
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    paths = {blob_path(digest): data, layer_path(repository, digest): digest.encode()}
    say({"event": "probing", "image": repository, "digest": digest})
    try:
        for path, content in paths.items():
            with told(f"{storage.root}/{path}"):
                storage.files.make(dirname(f"{storage.root}/{path}"))
                storage.files.write(f"{storage.root}/{path}", content)
        if not all(claims.has(repository, digest) for _ in range(_REPLICAS)):
            raise CleanupError(
                f"registry.base_path {storage.base} is not the folder that {claims.registry.display} reads (a blob of "
                f"{repository} that was written there is not found), so nothing was collected: give its rootdirectory"
            )
        _remove(storage, *reversed(paths))  # what is left of one that is killed is known by its bytes
        yield lambda: any(claims.has(repository, digest) for _ in range(_REPLICAS))
    finally:
        _remove(storage, *reversed(paths))


def remove_left(registry: Registry, storage: Storage, digest: str, repositories: Iterable[str]) -> None:
    """Removes a blob that a run was killed over, and its links there; nothing that does not say by its bytes that it is
    one."""
    begin = storage.files.first(f"{storage.root}/{blob_path(digest)}", _SIZE + 1)
    if begin and len(begin[0]) == _SIZE and begin[0].startswith(_MARK):
        _remove_blob(registry, storage, digest, *repositories)
        for name in filter(is_own, repositories):
            if {*storage.files.names(f"{storage.root}/repositories/{name}")} <= {"_layers", "_uploads"}:
                _remove(storage, f"repositories/{name}/_layers")


def _remove_blob(registry: Registry, storage: Storage, digest: str, *repositories: str) -> None:
    for repository in repositories:
        with suppress(RegistryError):
            registry.patiently("DELETE", registry.http.path(repository, "blobs", digest))
        _remove(storage, layer_path(repository, digest))
    _remove(storage, blob_path(digest))


def _remove(storage: Storage, *paths: str) -> None:
    """Removes what only we can have put there."""
    for path in paths:
        with suppress(OSError):
            storage.files.remove(f"{storage.root}/{path}".rpartition("/")[0])


def _refused(registry: Registry, method: str, path: str, answer: Answer) -> CleanupError | RegistryError:
    """What to raise. 405 is a pull-through cache's answer to an upload (UNSUPPORTED), or that of read-only mode."""
    if answer.status != 405:
        return registry.http.refused(method, path, answer)
    if "UNSUPPORTED" in str(answer.data):
        why, cure = "is a pull-through cache", "clean up the registry behind it"
    else:
        why = "is read-only"
        cure = "switch storage.maintenance.readonly off, or have gc-before and gc-after stop and start the registry"
    return CleanupError(f"{registry.display} {why}, so nothing was deleted: {cure}")
