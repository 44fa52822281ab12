"""Requests to one registry: connections, retries, redirects, and errors with a cure.

No foreign exception gets out of here: what goes wrong on the way is a `RegistryError`; an answer
of any status is an `Answer`, and its reader decides.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, parse_header_links, select_proxy
from urllib3 import Timeout
from urllib3.exceptions import HTTPError

from regdata.errors import AccessError, RegistryError
from regdata.plain import concealed
from regdata.sources import progress
from regdata.sources.answers import CURES, REDIRECTS, Answer, one_line, place
from regdata.sources.bounds import AWAY, DOCUMENT, LATE, WHOLE, Until, Waited, kind, received
from regdata.sources.pace import Pace
from regdata.sources.tls import PROXY_CURE, Tls, cause, mistaken
from regdata.sources.tokens import Authorization, need

# Reading twice does no harm; a write that may have been carried out is never sent again by itself.
_READS = Until(
    total=4,
    backoff_factor=0.2,
    status_forcelist=(500, 502, 504),
    allowed_methods=("GET", "HEAD"),
    raise_on_status=False,
    respect_retry_after_header=False,
)
_WRITES = _READS.new(connect=0, read=0, other=0, status_forcelist=(), allowed_methods=None)
# What is told by a status is read by ourselves: urllib3 would read what comes with it, however long it is.
_ELSEWHERE = _READS.new(status_forcelist=())
_READING = ("GET", "HEAD")
HOPS = 5
# What a token server may answer at most, in bytes: a token of 200 scopes has 17 KB; how often one is asked that breaks.
_MOST = 1 << 20
_TRIES = 4
_BROKEN = (500, 502, 504)


class Reach(NamedTuple):
    """How a registry may be reached, and how much of it: certificates, registry.requests, registry.repositories."""

    tls: Tls = Tls()
    at_once: int = 8
    per_second: float | None = None
    repositories: tuple[str, ...] | None = None


PLAIN = Reach()


class Transport:
    """Connections to the registry at ``url``; a path given to it is from the host's root."""

    def __init__(self, url: str, reach: Reach, *, timeout: tuple[float, float]) -> None:
        """``timeout``: seconds to connect, and to answer. RegistryError if the URL is none, or a file is no good."""
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise _no_url(url, error) from error
        self._url = url
        self._server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._seconds = timeout
        self._base = self._server + parts.path
        self.display = concealed(self._base)
        self.root = f"{parts.path}/v2/"
        self.pace, self._token_pace = Pace(reach.per_second), Pace()
        self.authorization = Authorization(url, self._ask)
        self.waited = Waited(timeout[1])
        self._connect(reach)

    def _connect(self, reach: Reach) -> None:
        """Take from requests what it knows of proxies and certificates.

        Requests then go to urllib3's pool below it: `Session.get` takes twice the CPU.
        """
        self._verify = reach.tls.verify()
        self._shown = reach.tls.cert is not None
        adapter = reach.tls.adapter(reach.at_once, _ELSEWHERE)
        self._own = self._session(adapter)
        self._elsewhere = self._session(reach.tls.adapter(reach.at_once, _ELSEWHERE, show=False))
        try:
            request = requests.Request("GET", self._base + "/v2/").prepare()
            url = request.url or ""
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise _no_url(self._base, error) from error
        proxies = get_environ_proxies(url)
        try:
            self._pool = adapter.get_connection_with_tls_context(request, self._verify, proxies)
            adapter.cert_verify(self._pool, url, self._verify, None)
            # A plain HTTP proxy wants the whole URL on the request line.
            target = adapter.request_url(request, proxies)
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            if proxy := select_proxy(url, proxies):
                told = f"the proxy {place(proxy)} can't be used ({one_line(str(error)).rstrip('.')}); {PROXY_CURE}"
                raise RegistryError(told) from None
            raise _no_url(self._base, error) from error
        self._origin = target.removesuffix(request.path_url)
        # Compressing a few KB costs the registry and us more than it saves.
        self._headers = {"User-Agent": "regdata", "Accept-Encoding": "identity"}

    @staticmethod
    def _session(adapter: HTTPAdapter) -> requests.Session:
        """A session that takes no password from ~/.netrc by itself, after a redirect say."""
        session = requests.Session()
        session.trust_env = False
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        session.headers.update({"User-Agent": "regdata", "Accept-Encoding": "identity"})
        return session

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        *,
        retry: bool = True,
        most: int = DOCUMENT,
        cut: bool = False,
    ) -> Answer:
        """One request to the registry itself, signed if it asks for that; ``most`` and ``cut``: see `read`.

        GET and HEAD are retried where the answer did not come (unless ``retry`` is off), and where the registry puts
        them off; writes are not.
        """
        progress.now.requests += 1
        if status := self.pace.refuses:
            raise self.error(method, path, f"HTTP {status} for whatever is asked, again and again", CURES[status])
        retries = _READS if retry and method in _READING else _WRITES
        needed = need(method, path[len(self.root) :]) if self.authorization.active else None
        signed = self.authorization.header(needed) if needed else None
        tried = renewed = 0
        while True:
            sent = self.pace.wait()
            answer = self._once(method, path, headers, content, signed, retries, most, cut)
            tried += 1
            if answer.status == 401 and not renewed:
                renewed = 1
                needed = need(method, path[len(self.root) :])
                header = self.authorization.challenged(needed, _challenge(answer), signed)
                if header:
                    signed = header
                    continue
            if not self.pace.too_much(answer, sent, tried) or method not in _READING:
                return answer

    def _once(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None,
        content: bytes | None,
        signed: str | None,
        retries: Until,
        most: int,
        cut: bool,
    ) -> Answer:
        given = {**self._headers, **headers} if headers else self._headers
        given = {**given, "Authorization": signed} if signed else given
        with self._waiting(method, self._server + path) as until:
            retries = retries.new()
            retries.until = until
            try:
                return self._tried(method, path, given, content, retries, most, cut)
            except (HTTPError, OSError, ValueError) as error:
                problem, cure = cause(error, self.display, self._seconds, shown=self._shown)
                raised = self.error(method, path, problem, cure)
                raised.kind = kind(error, problem)
                raise raised from None

    @contextmanager
    def _waiting(self, method: str, url: str) -> Iterator[float]:
        """Until when an answer has to be whole. RegistryError where too many came late: nothing is asked any more.

        A write may take its time, 2.x reads every tag's link for a DELETE, and is not cut short for what was before.
        """
        what, left = f"{method} {url}", self.waited.left
        if not left:
            raise self._kept_waiting(what)
        began, failed, may_be_slow = self.waited.begin(), True, method not in _READING
        whole = self._seconds[1] * WHOLE
        try:
            yield began + (whole if may_be_slow else min(whole, left))
            failed = False
        except RegistryError as error:
            failed = error.kind == LATE
            may_be_slow = True  # what broke at once: it was we who waited before we tried again
            if failed and not self.waited.left:
                raise self._kept_waiting(what) from None
            raise
        finally:
            self.waited.took(what, began, failed=failed, may_be_slow=may_be_slow)

    def _kept_waiting(self, what: str) -> RegistryError:
        raised = RegistryError(
            f"{self.waited.last or what}: its answer came late or not at all, and so did others, for "
            f"{self.waited.most:g} s together: nothing more is asked; see what the registry does, and what is between "
            "here and there"
        )
        raised.kind = LATE
        return raised

    def _tried(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        content: bytes | None,
        retries: Until,
        most: int,
        cut: bool,
    ) -> Answer:
        """The answer, after some tries where it may be asked for again. Raises urllib3's errors, and Unbounded."""
        while True:
            try:
                response = self._pool.urlopen(
                    method,
                    self._origin + path,
                    body=content,
                    headers=headers,
                    retries=False,
                    redirect=False,
                    assert_same_host=False,
                    timeout=Timeout(connect=self._seconds[0], read=min(self._seconds[1], retries.silent)),
                    preload_content=False,
                )
                answer = Answer(response.status, response.headers, received(response, most, cut=cut))
                if not retries.is_retry(method, response.status) or not retries.total or retries.is_over:
                    return answer
                retries = retries.increment(method, path, response=response, _pool=self._pool)
            except HTTPError as error:
                retries = retries.increment(method, path, error=error, _pool=self._pool)
            retries.sleep()

    def read(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        *,
        most: int = DOCUMENT,
        cut: bool = False,
    ) -> Answer:
        """GET or HEAD of a content, which may be kept elsewhere, in an object store say: without our credentials.

        ``most``: how many bytes it may have; of a larger one the first are given (``cut``), or it is an error.
        """
        answer, where, who = self.send(method, path, headers, most=most, cut=cut), self._server + path, ""
        for _ in range(HOPS):
            if method == "HEAD" and answer.status in (405, 501):  # what is before the registry may know GET alone
                return self.read("GET", path, headers, most=1, cut=True)
            if who and answer.status in (401, 403):
                cure = "it does not take what the registry signed: see whether their clocks agree, and its log"
                raise self._told(f"{who}: {answer.error}; {cure}", AWAY)
            if answer.status not in REDIRECTS:
                return answer
            where = urljoin(where, answer.headers.get("Location", ""))
            who = f"{method} {place(where)}, to which the registry redirects"
            with self._asked(who, self._elsewhere, method, where, headers) as response:
                data = b"" if response.status_code in REDIRECTS else received(response.raw, most, cut=cut)
                answer = Answer(response.status_code, response.headers, data)
        raise self.error(method, path, "it is redirected on and on", "check what is between here and the registry")

    def _ask(self, method: str, url: str, headers: Mapping[str, str], body: str | None) -> Answer:
        """A request to the token server, which may redirect us nowhere: the password would go along.

        One that restarts, or puts us off, is asked again: a run of hours needs many tokens.
        """
        for tries in count(1):
            sent = self._token_pace.wait()
            try:
                answer = self._ask_once(method, url, headers, body)
            except RegistryError as error:
                if error.kind or tries == _TRIES:
                    raise AccessError(str(error)) from None
                answer = Answer(503, {}, b"")
            if answer.status in _BROKEN and tries < _TRIES:
                answer = answer._replace(status=503)
            if not self._token_pace.too_much(answer, sent, tries):
                break
        return answer

    def _ask_once(self, method: str, url: str, headers: Mapping[str, str], body: str | None) -> Answer:
        who = f"{place(url)}: the registry's token server"
        with self._asked(who, self._own, method, url, headers, body) as response:
            return Answer(response.status_code, response.headers, received(response.raw, _MOST))

    @contextmanager
    def _asked(
        self,
        who: str,
        session: requests.Session,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        body: str | None = None,
    ) -> Iterator[requests.Response]:
        """The answer of another server, of which nothing is read yet; what goes wrong is an error of ``who``."""
        with self._waiting("GET", place(url)) as until:
            try:
                with session.request(
                    method,
                    url,
                    headers=headers,
                    data=body,
                    timeout=(self._seconds[0], min(self._seconds[1], (until - time.monotonic()) / WHOLE)),
                    allow_redirects=False,
                    stream=True,
                    verify=self._verify,
                    proxies=get_environ_proxies(url),
                ) as response:
                    yield response
            except (requests.RequestException, HTTPError, OSError, ValueError) as error:
                problem, cure = cause(error, url, self._seconds, shown=self._shown)
                away = session is self._elsewhere
                there = "that it can be reached from here, or set storage.redirect.disable: true"
                there = there if away else "that it runs"
                cure = cure.replace("that the registry runs and that registry.url is right", there)
                cure = cure.replace("registry.url", "the registry's storage" if away else "auth.token.realm")
                found = kind(error, problem) or (AWAY if away else "")
                raise self._told(f"{who}: {problem}; {cure}", found) from None

    def path(self, repository: str, *rest: str) -> str:
        """The path of something in a repository; what is odd in a name is quoted."""
        return self.root + "/".join([quote(part, safe="/:") for part in (repository, *rest)])

    def next_page(self, path: str, answer: Answer) -> str | None:
        """The path of the page after ``path``, that ``Link`` gives with rel=next (distribution-spec, "Listing Tags").

        Of the link only the query counts: a registry behind a proxy knows neither its name nor a path before /v2/. A
        link to another list is a RegistryError.
        """
        given = parse_header_links(answer.headers.get("Link", ""))
        links = [{name.lower(): text for name, text in link.items()} for link in given]  # RFC 8288, 3: in any case
        link = next((link["url"] for link in links if "next" in link.get("rel", "next").lower().split()), None)
        if link is None:
            return None
        here = path.partition("?")[0]
        try:
            there = urlsplit(urljoin(self._server + path, link))
        except ValueError:
            there = urlsplit("")
        if not unquote(there.path).endswith("/v2/" + unquote(here[len(self.root) :])):
            problem = f"the next page's Link leads elsewhere, to {one_line(link)}"
            raise self.error("GET", path, problem, "check what is between here and the registry")
        return f"{here}?{there.query}"

    def upload(self, path: str, answer: Answer) -> tuple[str, str]:
        """The id of an upload that was begun at ``path``, and the path, with a query, where it goes on.

        Of the Location only the id and the query count: a registry may not know its own name (http.host).
        """
        try:
            location = urlsplit(answer.headers.get("Location", ""))
        except ValueError:
            location = urlsplit("")
        upload = answer.headers.get("Docker-Upload-UUID", location.path.rpartition("/")[2])
        return upload, f"{path}{quote(upload, safe='')}?{location.query}"

    def error(self, method: str, path: str, problem: str, cure: str) -> RegistryError:
        """What to raise: where, what and how to cure it."""
        return self._told(f"{method} {self._server}{path}: {problem}; {cure}", "")

    def _told(self, message: str, kind: str) -> RegistryError:
        raised = RegistryError(self.authorization.redacted(message))
        raised.kind = kind
        return raised

    def refused(self, method: str, path: str, answer: Answer) -> RegistryError:
        """What to raise for a status that was not hoped for, with the registry's own words."""
        words = answer.error + answer.own_message(self.authorization.redacted)
        if answer.status in (401, 403):
            needed = need(method, path[len(self.root) :])
            why = self.authorization.refused(needed, _challenge(answer) if answer.status == 401 else None)
            return AccessError(f"{method} {self._server}{path}: {words}: {why}")
        problem, cure = mistaken(answer) or (words, CURES.get(answer.status, "the registry's log says why"))
        return self.error(method, path, problem, cure)


def _challenge(answer: Answer) -> str:
    return answer.headers.get("WWW-Authenticate", "")


def _no_url(url: str, error: Any) -> RegistryError:
    return RegistryError(
        f"registry.url {one_line(url)!r} can't be used ({one_line(str(error))}): write it like http://127.0.0.1:5000"
    )
