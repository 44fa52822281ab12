"""Requests to one registry: connections, retries, redirects, and errors with a cure.

No foreign exception gets out of here: what goes wrong on the way is a `RegistryError`; an answer
of any status is an `Answer`, and its reader decides.
"""

from collections.abc import Mapping
from urllib.parse import quote, urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import parse_header_links
from urllib3 import Retry, Timeout
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    MaxRetryError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from regdata.errors import RegistryError
from regdata.sources.answers import Answer, one_line

# Reading twice does no harm. A write is sent again only where the registry said that it did not
# carry it out: 413, 429 or 503 with Retry-After (urllib3's RETRY_AFTER_STATUS_CODES).
_READS = Retry(
    total=4,
    backoff_factor=0.2,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods=("GET", "HEAD"),
    raise_on_status=False,
    retry_after_max=30,
)
_WRITES = _READS.new(connect=0, read=0, other=0, status_forcelist=(), allowed_methods=None)
REDIRECTS = (301, 302, 303, 307, 308)
_CURES = {
    401: "the registry wants to know who asks: put a user and password for its host into ~/.netrc "
    "(Basic authentication only)",
    403: "the registry forbids it: check its access rules",
    404: "check registry.url and the name",
    405: "the registry does not allow it: it is read-only, or lacks this part of the API",
    429: "the registry limits the rate of requests: try again later",
}


class Transport:
    """Connections to the registry at ``url``; a path given to it is from the host's root."""

    def __init__(self, url: str, *, connections: int, timeout: tuple[float, float]) -> None:
        """``timeout``: seconds to connect, and to answer. RegistryError if the URL is none."""
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise _no_url(url, error) from error
        self._url = url
        self._host = parts.hostname
        self._server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._seconds = timeout
        self._timeout = Timeout(connect=timeout[0], read=timeout[1])
        self.display = self._server + parts.path
        self.root = f"{parts.path}/v2/"
        self._connect(connections)

    def _connect(self, connections: int) -> None:
        """Take from requests what it knows of proxies, certificates and passwords (also netrc).

        Requests then go to urllib3's pool below it: `Session.get` takes twice the CPU.
        """
        self._session = requests.Session()
        adapter = HTTPAdapter(max_retries=_READS, pool_maxsize=connections, pool_block=True)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        try:
            request = self._session.prepare_request(requests.Request("GET", self._url + "/v2/"))
            url = request.url or ""
            settings = self._session.merge_environment_settings(url, {}, None, None, None)
            proxies, verify, cert = (settings[key] for key in ("proxies", "verify", "cert"))
            self._pool = adapter.get_connection_with_tls_context(request, verify, proxies, cert)
            adapter.cert_verify(self._pool, url, verify, cert)
            # A plain HTTP proxy wants the whole URL on the request line.
            target = adapter.request_url(request, proxies)
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise _no_url(self.display, error) from error
        self._origin = target.removesuffix(request.path_url)
        # Compressing a few KB costs the registry and us more than it saves.
        self._headers = {"User-Agent": "regdata", "Accept-Encoding": "identity"}
        if "Authorization" in request.headers:
            self._headers["Authorization"] = str(request.headers["Authorization"])

    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        retry: bool = True,
    ) -> Answer:
        """One request to the registry itself. GET and HEAD are retried, unless ``retry`` is off."""
        try:
            response = self._pool.urlopen(
                method,
                self._origin + path,
                body=body,
                headers={**self._headers, **headers} if headers else self._headers,
                retries=_READS if retry and method in ("GET", "HEAD") else _WRITES,
                redirect=False,
                assert_same_host=False,
                timeout=self._timeout,
            )
        except (HTTPError, OSError, ValueError) as error:
            raise self._unreachable(method, path, error) from error
        return Answer(response.status, response.headers, response.data)

    def read(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """GET or HEAD of a content, which may be kept elsewhere: in an object store, say."""
        answer = self.send(method, path, headers)
        if answer.status not in REDIRECTS:
            return answer
        try:
            response = self._session.request(
                method,
                urljoin(self._server + path, answer.headers.get("Location", "")),
                headers=headers,
                timeout=self._seconds,
                allow_redirects=True,
            )
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise self._unreachable(method, path, error) from error
        return Answer(response.status_code, response.headers, response.content)

    def path(self, repository: str, *rest: str) -> str:
        """The path of something in a repository; what is odd in a name is quoted."""
        return self.root + "/".join([quote(part, safe="/:") for part in (repository, *rest)])

    def next_page(self, path: str, answer: Answer) -> str | None:
        """The path that ``Link`` gives with rel=next (distribution-spec, "Listing Tags")."""
        links = parse_header_links(answer.headers.get("Link", ""))
        url = next((link["url"] for link in links if link.get("rel") == "next"), None)
        return None if url is None else self.local(path, url)

    def local(self, path: str, location: str) -> str:
        """The path and query of a URL that the registry gave; RegistryError if another host's.

        Scheme and port may differ: a registry behind a proxy does not know its own.
        """
        try:
            parts = urlsplit(urljoin(self._server + path, location))
        except ValueError:
            parts = urlsplit("")
        if parts.hostname != self._host:
            problem = f"the registry points to another host, {one_line(location)}"
            raise self.error("GET", path, problem, "set registry.url to the registry's own name")
        return f"{parts.path}?{parts.query}" if parts.query else parts.path

    def error(self, method: str, path: str, problem: str, cure: str) -> RegistryError:
        """What to raise: where, what and how to cure it."""
        return RegistryError(f"{method} {self._server}{path}: {problem}; {cure}")

    def refused(self, method: str, path: str, answer: Answer) -> RegistryError:
        """What to raise for a status that was not hoped for, with the registry's own words."""
        cure = _CURES.get(answer.status, "the registry's log says why")
        return self.error(method, path, answer.error + answer.own_message(), cure)

    def _unreachable(self, method: str, path: str, error: Exception) -> RegistryError:
        reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
        cure = "check that the registry runs and that registry.url is right"
        if isinstance(reason, ReadTimeoutError):
            problem = f"no answer within {self._seconds[1]:g} s"
        elif isinstance(reason, NewConnectionError):
            cause = reason.__cause__
            problem = f"can't connect: {getattr(cause, 'strerror', None) or cause}"
        elif isinstance(reason, ConnectTimeoutError):
            problem = f"no connection within {self._seconds[0]:g} s"
        elif isinstance(reason, SSLError):
            problem = f"TLS failed: {one_line(str(reason))}"
            cure = "use http:// if the registry has no TLS, or set REQUESTS_CA_BUNDLE to its CA"
        else:
            problem = f"the connection broke: {one_line(str(reason))}"
        return self.error(method, path, problem, cure)


def _no_url(url: str, error: Exception) -> RegistryError:
    return RegistryError(
        f"registry.url {one_line(url)!r} can't be used ({one_line(str(error))}): write it like http://127.0.0.1:5000"
    )
