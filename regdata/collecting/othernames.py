"""That nothing goes which the registry serves by another name, too: by a symbolic link, both names lose it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from os.path import dirname
from shlex import quote

from regdata.errors import StorageError
from regdata.sources.aside import NAME
from regdata.sources.files import told
from regdata.sources.paths import blob_path
from regdata.sources.storage import Storage

# Where another repository's content may be found, in a repository's folder.
_FOLDERS = (
    "",
    "/_manifests",
    "/_manifests/revisions",
    "/_manifests/revisions/sha256",
    "/_manifests/tags",
    "/_layers",
    "/_layers/sha256",
)
_BOTH = "and what goes from one name goes from the other, too, so nothing was deleted"


def check_names(
    storage: Storage,
    repositories: Collection[str],
    blobs: Collection[str],
    unlinked: Collection[str] = (),
    *,
    collects: bool = True,
) -> None:
    """Raises StorageError where one of the ``repositories``, from which something goes, shares a folder with another,
    where a symbolic link lies in one of them or leads into one, where the ``blobs`` (digests) that go are another
    registry's as well, and where repositories that lose links to blobs (``unlinked``) are; where whatever there is
    leads to what the trash or an upload has, which goes without anybody's asking; and for whoever ``collects`` where it
    leads to nothing."""
    files, top = storage.files, storage.layout.repositories_folder
    seen: dict[object, tuple[str, str]] = {}
    with told(storage.root):
        _check_top(storage)
        _check_blobs(storage, blobs)
        links = {link: files.real(link) for link in files.links(top)}
        of_blobs = {link: files.real(link) for link in files.links(storage.layout.blobs_folder)}
        _check_lent(storage, links, of_blobs)
        if collects:
            _check_away(storage, links | of_blobs)
        _check_links(storage, links, repositories, unlinked)
        for name in storage.repositories():
            for folder in _FOLDERS:
                if place := files.place(f"{top}/{name}{folder}"):
                    other, there = seen.setdefault(place, (name, folder))
                    if other != name and (name in repositories or other in repositories):
                        raise StorageError(
                            f"{top}/{name}{folder} is the same as {top}/{other}{there}, {_BOTH}: replace one of them "
                            "by a folder of its own"
                        )


def _check_top(storage: Storage) -> None:
    """By a symbolic link the repositories may be another registry's, whose blobs lie beside them."""
    files, top = storage.files, storage.layout.repositories_folder
    if files.place(f"{top}/../blobs") not in (None, files.place(storage.layout.blobs_folder)):
        raise StorageError(
            f"the symbolic link {top} leads to the repositories of another registry, whose blobs lie beside them, "
            f"{_BOTH}: replace the link by a folder of this registry's own"
        )


def _check_links(
    storage: Storage, links: Mapping[str, str], repositories: Collection[str], unlinked: Collection[str]
) -> None:
    """Whatever lies behind a symbolic link goes with what goes, and whatever it leads to is missed there. What nobody
    needs here, or is gone, may be needed and stored where a link leads out of this registry."""
    files, top = storage.files, storage.layout.repositories_folder
    base = files.real(top)
    going = {files.real(f"{top}/{name}") for name in repositories}
    losing = {name: files.real(f"{top}/{name}") for name in unlinked}
    for name, place in sorted(losing.items()):
        if not _is_below(base, place):
            raise _refused(base, place, next(filter(files.is_link, _above(f"{top}/{name}")[top.count("/") :])))
    around = {folder for one in going for folder in _above(one)}
    for link, leads in links.items():
        place = f"{base}{link[len(top) :]}"
        leaves = not _is_below(base, leads) and _repository(base, place) in losing.values()
        if leads in around or leaves or not going.isdisjoint({_repository(base, place), _repository(base, leads)}):
            raise _refused(base, leads, link)


def _refused(base: str, leads: str, link: str) -> StorageError:
    if not _is_below(base, leads):
        return StorageError(
            f"the symbolic link {link} leads out of the registry's folder, to {leads}, and what goes there may be "
            "another registry's, so nothing was deleted: have it lie in the folder, or mount it there"
        )
    return StorageError(
        f"{leads} has another name by the symbolic link {link}, {_BOTH}: replace it by a folder or file of its own, or "
        "remove it"
    )


def _check_away(storage: Storage, links: Mapping[str, str]) -> None:
    """What nobody needs may be needed by what lies there, on a disk that is not mounted now; be it behind a link that
    leads to one which is."""
    files, todo = storage.files, dict(links)
    ends = (storage.layout.repositories_folder, storage.layout.blobs_folder)
    todo.update({end: files.real(end) for end in ends if files.is_link(end)})
    inside, seen = [files.real(end) for end in ends], set[str]()
    while todo:
        link, leads = todo.popitem()
        if files.place(link) is None:
            raise StorageError(
                f"the symbolic link {link} leads to {leads}, where nothing is: a disk may be away, and what it has may "
                "need what would be collected, so nothing was deleted: mount it, or remove the link"
            )
        known = leads in seen or any(leads == end or _is_below(end, leads) for end in inside)
        if not known and files.is_folder(leads):
            seen.add(leads)
            todo.update({inner: files.real(inner) for inner in files.links(leads)})


def _check_lent(storage: Storage, links: Mapping[str, str], of_blobs: Mapping[str, str]) -> None:
    """What the trash, or a repository's folder, has is removed without a look at what leads there from elsewhere.
    ``links`` of repositories, and those ``of_blobs``, with where they lead."""
    files = storage.files
    base, top = files.real(str(storage.base)), files.real(storage.layout.repositories_folder)
    for link, leads in {**of_blobs, **links}.items():
        is_trash = _is_below(base, leads) and NAME in leads[len(base) :].split("/")[1:4]
        if is_trash or (link in of_blobs and _is_below(top, leads)):
            raise StorageError(
                f"the symbolic link {link} leads to {leads}, and what is there is removed sooner or later, so nothing "
                "was deleted: have the bytes lie where the link is (cp -p --remove-destination "
                f"{quote(leads)} {quote(link)})"
            )


def _is_below(base: str, path: str) -> bool:
    return path.startswith(f"{base}/")


def _repository(base: str, path: str) -> str:
    """The folder of the repository that a path is in: no part of a name begins with an underscore."""
    return base + path[len(base) :].partition("/_")[0] if _is_below(base, path) else ""


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:number]) for number in range(2, len(parts) + 1)]


def _check_blobs(storage: Storage, digests: Collection[str]) -> None:
    """Behind a symbolic link may be the blobs of a registry whose repositories nobody has looked into. Of a blob that
    is one itself whoever collects removes the link."""
    files, top = storage.files, storage.layout.repositories_folder
    blobs = storage.layout.blobs_folder
    data = [f"{storage.root}/{blob_path(digest)}" for digest in digests]
    folders = {dirname(path) for path in data}
    levels = [{blobs}, {f"{blobs}/sha256"}, {dirname(folder) for folder in folders}, folders]
    linked = [(depth, path) for depth, level in enumerate(levels) for path in sorted(level) if files.is_link(path)]
    for depth, path in linked:
        others = f"{path}{'/..' * (depth + 1)}/repositories"  # beside what the link leads to
        if files.place(others) not in (None, files.place(top)):
            raise StorageError(
                f"the symbolic link {path} leads to the blobs of another registry, whose repositories lie beside "
                "them and are not known here: what nobody needs here it may need, so nothing was deleted: replace "
                "the link by a folder of this registry's own"
            )
    if alone := [path for _, path in linked if path in folders] + [path for path in data if files.is_link(path)]:
        raise StorageError(
            f"{min(alone)} is a symbolic link, and the bytes that it leads to would stay, so nothing was deleted: "
            "have them lie there"
        )
