"""Tags and empty repositories are removed in a registry's folder, while the registry goes on.

It may have opened a file before that is moved, and write into it afterwards. So all is removed in two steps: moved
aside by a rename, at once for everybody who looks; and, when whoever was inside the registry is through, looked at once
more, and removed, or put back where something was pushed. What a killed run left so is for the next one.
"""

from __future__ import annotations

import os.path
import re
from contextlib import suppress

from regdata.errors import StorageError
from regdata.sources.dates import Pushed, is_before
from regdata.sources.files import ABSENT, told
from regdata.sources.layout import Layout
from regdata.sources.manifest import is_digest
from regdata.sources.paths import CLOSED, LAYERS, REMOVED

# distribution/reference: what a tag may be called.
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_MAX_LINK = 256
# With a digest: the link of a tag that was found to be on it, and is to go.
_GOES = "goes-"


class Removal:
    """What is removed from the store of a layout."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.files = layout, layout.files

    def untag(self, repository: str, tag: str, digest: str, pushed: Pushed | None) -> bool:
        """Takes a tag out of its place if it is on that digest, and was not pushed again; `settle` removes it."""
        manifests = self.layout.manifests(checked(repository))
        folder, aside = f"{manifests}/tags/{tag}", f"{manifests}/{REMOVED}{tag}"
        if not _TAG.fullmatch(tag):
            raise StorageError(f"{tag!r} is not a tag's name: nothing was removed in {manifests}.")
        with told(folder):
            self._settle_tag(aside, folder, last=True)
            if not self.files.exists(folder):
                return True
            self._check_own(folder)
            # At once for the registry, which could otherwise see half of a tag.
            self.files.move(folder, aside)
            # Looked at when nobody can begin to push to it any more.
            link = self.files.first(f"{aside}/current/link", _MAX_LINK)
            moved = link is not None and (_text(link[0]) != digest or (pushed is not None and pushed.is_again(link[1])))
            if moved and not self.files.exists(folder):
                self.files.move(aside, folder)
            elif moved or link is None:
                self._remove_tag(aside)
            else:
                self.files.move(f"{aside}/current/link", f"{aside}/{_going(digest)}")
            return not moved

    def settle(self, *, last: bool) -> list[tuple[str, str]]:
        """Removes what was taken out of its place, unless something was written to it since: that is put back, and so
        is what a killed run had not looked at yet. Returns the tags (image, name) that somebody had been pushing.

        ``last``: who was writing by then has ended, so that a link without a digest is nobody's.
        """
        back = []
        with told(self.layout.root):
            for repository in self.layout.repositories(by=["_manifests", CLOSED]):
                manifests = self.layout.manifests(repository)
                self._reopen(repository)
                for name in self.files.names(manifests):
                    tag = name.removeprefix(REMOVED)
                    if tag != name and self._settle_tag(f"{manifests}/{name}", f"{manifests}/tags/{tag}", last=last):
                        back.append((repository, tag))
                self._merge(f"{manifests}/{LAYERS}", f"{os.path.dirname(manifests)}/_layers")
        return back

    def _settle_tag(self, aside: str, folder: str, *, last: bool) -> bool:
        """Whether a tag came back that had been found to go."""
        if not self.files.exists(aside):
            return False
        self._check_own(aside)
        is_there = self.files.exists(folder)
        name = next((name for name in self.files.names(aside) if name.startswith(_GOES)), None)
        if name is None:  # nobody had looked at it; without its link it was to go
            if self.files.exists(f"{aside}/current/link") and not is_there:
                self.files.move(aside, folder)
            else:
                self._remove_tag(aside)
            return False
        link = self.files.first(f"{aside}/{name}", _MAX_LINK)
        now = _text(link[0]) if link else ""
        if is_there or _going(now) == name or (last and not is_digest(now)):
            self._remove_tag(aside)
        elif is_digest(now):
            self.files.make(f"{aside}/current")
            self.files.move(f"{aside}/{name}", f"{aside}/current/link")
            self.files.move(aside, folder)
            return True
        return False

    def _remove_tag(self, aside: str) -> None:
        """Without its link, which goes first, it is nobody's: should this be killed, the next run removes it."""
        with suppress(*ABSENT):
            self.files.remove_file(f"{aside}/current/link")
        self.files.remove(aside)

    def close(self, repository: str, before: int) -> bool:
        """Takes the layers of a repository without manifests out of their place, and its uploads away: what is pushed
        from now on has to bring its own. False, and nothing is done, where one came after ``before``, or a manifest."""
        folder = f"{self.layout.repositories_folder}/{checked(repository)}"
        with told(folder):
            if not all(is_before(date, before) for date in self.layout.layers(repository).values()):
                return False
            if any(self._held(repository)):
                return False
            if self.files.exists(uploads := f"{folder}/_uploads"):
                self._check_own(uploads)
                self.files.remove(uploads)
            if self.files.exists(layers := f"{folder}/_layers"):
                self._check_own(layers)
                self.files.make(f"{folder}/_manifests")
                self.files.move(layers, f"{folder}/_manifests/{LAYERS}")
        return True

    def remove(self, repository: str, before: int) -> bool:
        """Removes a repository that was closed; those below its name stay. False, and it is as before, where something
        was pushed meanwhile, or a layer had been since ``before``."""
        folder = f"{self.layout.repositories_folder}/{checked(repository)}"
        manifests = f"{folder}/_manifests"
        with told(folder):
            layers = f"{manifests}/{LAYERS}"
            links = self.files.below(layers) if self.files.exists(layers) else ()
            came = any(one.is_file and not is_before(one.date, before) for one in links)
            if came or any(self._held(repository)) or self.files.exists(f"{folder}/_layers"):
                self._merge(layers, f"{folder}/_layers")
                return False
            if self.files.exists(manifests):
                self._check_own(manifests)
                self.files.move(manifests, f"{folder}/{CLOSED}")
            if not self._reopen(repository):
                return False
            while (
                self.files.is_folder(folder)
                and folder != self.layout.repositories_folder
                and not self.files.names(folder)
            ):
                self.files.remove_empty(folder)
                folder = os.path.dirname(folder)
        return True

    def _reopen(self, repository: str) -> bool:
        """Removes the folder of manifests that was taken out of its place, if not even a file was put in it."""
        folder = f"{self.layout.repositories_folder}/{repository}"
        closed = f"{folder}/{CLOSED}"
        files = (entry.path for entry in self.files.below(closed) if entry.is_file) if self.files.exists(closed) else ()
        if any(not path.startswith(f"{closed}/{LAYERS}/") for path in files):
            self._merge(f"{closed}/{LAYERS}", f"{folder}/_layers")
            self._merge(closed, f"{folder}/_manifests")
            return False
        if self.files.exists(closed):
            self.files.remove(closed)
        return True

    def _merge(self, aside: str, place: str) -> None:
        """Puts back all files of a folder, but those that are there anew."""
        if not self.files.exists(aside):
            return
        if not self.files.exists(place):
            return self.files.move(aside, place)
        for entry in list(self.files.below(aside)):
            target = place + entry.path.removeprefix(aside)
            if entry.is_file and not self.files.exists(target):
                self.files.make(os.path.dirname(target))
                self.files.move(entry.path, target)
        self.files.remove(aside)

    def _held(self, repository: str) -> tuple[int, int]:
        """How many tags and manifests are there."""
        return len(list(self.layout.tags(repository))), len(self.layout.revisions(repository))

    def _check_own(self, path: str) -> None:
        """Only a real folder at its real place is removed: a link may lead anywhere."""
        if not self.files.is_own(path, self.layout.root):
            raise StorageError(
                f"{path} is not a folder of the store itself (a symbolic link?): not removed. Remove it by hand."
            )


def checked(repository: str) -> str:
    """A name can't lead out of the repositories' folder, nor into what is distribution's own."""
    if any(not part or part.startswith(("_", ".")) for part in repository.split("/")):
        raise StorageError(f"{repository!r} is not a repository's name: nothing was removed.")
    return repository


def _text(link: bytes) -> str:
    return link.decode("ascii", "replace").strip()


def _going(digest: str) -> str:
    return f"{_GOES}{digest.replace(':', '-')}"
