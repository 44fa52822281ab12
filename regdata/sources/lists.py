"""A registry's lists: of its repositories and of their tags, over all pages; or an error, never a shorter list.

OCI distribution-spec, "Listing Tags"; ``/v2/_catalog`` is CNCF distribution's own (docs/spec/api.md).
"""

import re
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, count, pairwise
from urllib.parse import quote

from regdata.errors import AccessError, RegistryError
from regdata.sources.answers import Answer, one_line
from regdata.sources.bounds import LATE, LIST, is_endless
from regdata.sources.manifest import is_digest
from regdata.sources.names import hides, is_repository, is_tag, means
from regdata.sources.pace import TOO_MUCH
from regdata.sources.threads import each
from regdata.sources.transport import Reach, Transport

_GRAMMAR = {"repositories": is_repository, "tags": is_tag}
_PAGES = 1000  # of referrers of one manifest, at most
# What says nothing of whether there is such an API.
_AWAY = (429, 502, 503, 504)
ONE_PAGE = 100  # tags; distribution gives as many or more at a time


class Lists:
    """The lists of the registry that ``http`` leads to. ``check``: says what is wrong with the registry as a whole."""

    def __init__(self, http: Transport, reach: Reach, check: Callable[[], None]) -> None:
        self._http, self._reach, self._check = http, reach, check
        self._lists_all = False
        self._refers: bool | None = None
        self.sees_all = True  # whether `repositories` left none out
        self._hiding: dict[str, set[str]] = defaultdict(set)

    def repositories(self) -> list[str]:
        """The names of the catalog, sorted, also of those without tags; those of them that registry.repositories means.

        Names in registry.repositories that are no patterns need no catalog, and need not be in it.
        """
        wanted = self._reach.repositories
        if wanted is None:
            return self.catalog()
        patterns = [name for name in wanted if re.search(r"[*?[]", name)]
        if not patterns:
            self._check()  # an address that is none would know no name, either
        listed = self.catalog() if patterns else []
        met = [name for name in listed if means(patterns, name)]
        self.sees_all = bool(patterns) and all(means(wanted, name) for name in listed)
        return sorted({*met, *wanted} - {*patterns})

    def catalog(self) -> list[str]:
        """All that the registry lists; of 2.x and 3.x those with a folder `_layers`."""
        path = f"{self._http.root}_catalog"
        try:
            answer = self._http.send("GET", f"{path}?n=1000", retry=False, most=LIST)
        except AccessError:
            raise
        except RegistryError as error:
            if error.kind == LATE:
                raise
            answer = Answer(0, {}, b"")
        if answer.status in TOO_MUCH:
            raise self._http.refused("GET", path, answer)
        if answer.status not in (200, 400):
            self._check()  # says best what is wrong with the registry as a whole
            answer = self._http.send("GET", f"{path}?n=1000", most=LIST)
        if answer.status in (404, 405, 501):
            problem = answer.error + answer.own_message(self._http.authorization.redacted)
            cure = "where a registry lists no repositories, name them in registry.repositories of conf.json"
            raise self._http.error("GET", path, problem, cure)
        if answer.status == 400:  # more than this registry allows: its own number of them, then
            answer = self._http.send("GET", path, most=LIST)
        return self._listing(path, answer, "repositories")

    def tags(self, repository: str) -> list[str]:
        """A repository's tags, sorted; none where the registry does not know it (404)."""
        path = self._http.path(repository, "tags/list")
        answer = self._http.send("GET", path, most=LIST)
        listed = [] if answer.status == 404 else self._listing(path, answer, "tags")
        hidden = (self._behind(repository, tag, listed) for tag in self._hiding[repository])
        return sorted({*listed, *chain.from_iterable(hidden)})

    def every_tag(self, repository: str) -> list[str]:
        """The same, with those that 3.1.0 and 3.1.1 leave out of the list where they store on S3.

        There a tag's folder hides those that extend its name: 0.1.20 and 0.1.21 beside 0.1.2 (s3-aws/s3.go, doWalk),
        unless the list is asked to start behind the folder. A list of one page that holds two such tags is whole, as
        are all.
        """
        tags = self.tags(repository)
        if len(tags) < ONE_PAGE and any(hides(*pair) for pair in pairwise(tags)):
            self._lists_all = True
        with ThreadPoolExecutor(self._reach.at_once) as pool:
            found = list(each(pool, lambda tag: self._behind(repository, tag, tags), tags))
        self._hiding[repository] |= {tag for tag, hidden in zip(tags, found, strict=True) if hidden}
        return sorted({*tags, *chain.from_iterable(found)})

    def _behind(self, repository: str, tag: str, listed: list[str]) -> list[str]:
        """The tags that this one hides, from the one behind its folder on to the first that is listed."""
        hidden: list[str] = []
        began = time.monotonic()
        while not self._lists_all:
            name = self._next(repository, hidden[-1] if hidden else tag)
            if name is None or not hides(tag, name) or name in listed:
                break
            hidden.append(name)
            if is_endless(len(hidden), len(hidden), began, self._reach.per_second) or name in hidden[:-1]:
                problem, cure = "the list of tags does not end", "it can't be trusted"
                raise self._http.error("GET", self._http.path(repository, "tags/list"), problem, cure)
        return hidden

    def _next(self, repository: str, tag: str) -> str | None:
        """The tag behind this one's folder; None from 2.x, which knows no `last`."""
        path = self._http.path(repository, "tags/list")
        answer = self._http.send("GET", f"{path}?n=1&last={quote(tag, safe='')}%2F~", most=LIST)  # 2.x gives all
        if answer.status in (401, 403, *TOO_MUCH) or answer.status >= 500:  # there may be some, and nobody knows
            raise self._http.refused("GET", path, answer)
        names = answer.member("tags")
        if answer.status != 200 or not isinstance(names, list):
            return None
        if tag in names:
            self._lists_all = True
            return None
        return next((name for name in names if is_tag(name)), None)

    def tags_unpaged(self, repository: str) -> list[str] | None:
        """Every tag, from a registry that can only list all: 2.x. None from 3.x, which can delete a tag alone, too.

        Asked with n=0: 3.x gives an empty list, 2.x every tag, or null where there is none.
        """
        path = self._http.path(repository, "tags/list")
        answer = self._http.send("GET", f"{path}?n=0", most=LIST)
        if answer.status == 200 and answer.member("tags") == []:
            return None
        return [] if answer.status == 404 else self._listing(path, answer, "tags")

    def referrers(self, repository: str, digest: str) -> list[str] | None:
        """The digests of what names a manifest as its subject (distribution-spec, "Listing Referrers"); None from a
        registry without that API, as distribution is, which is asked once."""
        if self._refers is False:
            return None
        path = self._http.path(repository, "referrers", digest)
        try:
            answer = self._http.send("GET", path, most=LIST)
        except AccessError:
            if self._refers:
                raise
            return None  # another repository may be asked
        if self._refers is None:
            if answer.status in _AWAY:
                raise self._http.refused("GET", path, answer)
            self._refers = answer.status == 200 and isinstance(answer.member("manifests"), list)
        return self._subjects(path, answer) if self._refers else None

    def _subjects(self, path: str, answer: Answer) -> list[str]:
        found: dict[str, None] = {}
        for _ in range(_PAGES):
            if answer.status == 404:
                break
            if answer.status != 200:
                raise self._http.refused("GET", path, answer)
            listed = answer.member("manifests")
            entries = listed if isinstance(listed, list) else [listed]
            digests = [one.get("digest") if isinstance(one, dict) else None for one in entries]
            if not all(map(is_digest, digests)):
                raise self._http.error("GET", path, "no list of referrers", "check what is between here and there")
            following = self._http.next_page(path, answer)
            known = len(found)
            found.update(dict.fromkeys(map(str, digests)))
            if following is None or len(found) == known:
                break
            path, answer = following, self._http.send("GET", following, most=LIST)
        return list(found)

    def _listing(self, path: str, answer: Answer, key: str) -> list[str]:
        """The names on all pages, from the first one on."""
        found: set[str] = set()
        began, first = time.monotonic(), path
        for pages in count():
            if answer.status != 200:
                raise self._http.refused("GET", path, answer)
            if is_endless(len(found), pages, began, self._reach.per_second):
                problem, cure = f"the list of {key} does not end", "name what matters in registry.repositories"
                raise self._http.error("GET", first, problem, cure)
            names = answer.names(key)
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise self._http.error("GET", path, f"no JSON list of {key}", "check what is between here and there")
            if odd := [name for name in names if not _GRAMMAR[key](name)]:
                problem = f"the list of {key} holds {one_line(odd[0])!r}, which no registry can have"
                raise self._http.error("GET", path, problem, "take it out of the registry's storage")
            following = self._http.next_page(path, answer)
            if found.issuperset(names) and (names or following):
                problem, cure = f"the list of {key} repeats itself", "it can't be trusted"
                raise self._http.error("GET", path, problem, cure)
            found.update(names)
            if following is None:
                break
            path = following
            answer = self._http.send("GET", path, most=LIST)
        return sorted(found)
