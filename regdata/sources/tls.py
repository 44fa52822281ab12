"""Certificates: whom to trust, what to show, and what was wrong when a connection failed."""

import os
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy
from urllib3 import Retry
from urllib3.exceptions import (
    ConnectTimeoutError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
)
from urllib3.util.ssl_ import create_urllib3_context

from regdata.errors import RegistryError
from regdata.sources.answers import Answer, one_line
from regdata.sources.bounds import BoundedAdapter, Unbounded

# What is taken where conf.json has no registry.ca; requests itself reads no SSL_CERT_FILE.
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


PROXY_CURE = "check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY, or name the registry's host in NO_PROXY"
_WANTED = ("the registry wants a client's certificate", "set registry.cert and registry.key")
_UNTRUSTED = (
    "the registry does not take our certificate",
    "set registry.cert and registry.key to a certificate that it trusts",
)


class Tls(NamedTuple):
    """registry.ca: whom to trust besides the usual ones; registry.cert and registry.key: who we are."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def adapter(self, connections: int, retries: Retry, *, show: bool = True) -> HTTPAdapter:
        """What opens connections. ``show``: our certificate to who asks for it. RegistryError for a bad file."""
        own = self if show else self._replace(cert=None, key=None)
        return _Adapter(own._context(), max_retries=retries, pool_maxsize=connections, pool_block=True)

    def verify(self) -> bool | str:
        """requests' ``verify``: a bundle of the environment's, or True. RegistryError where it is not there."""
        name = next((name for name in BUNDLES if os.environ.get(name)), None)
        if self.ca or name is None:
            return True
        if not os.path.exists(os.environ[name]):
            raise RegistryError(f"{name} {os.environ[name]!r} is not there: correct it, or set registry.ca")
        return os.environ[name]

    def _context(self) -> ssl.SSLContext | None:
        if not self.ca and not self.cert:
            return None
        context = create_urllib3_context()
        if self.ca:
            with _file("registry.ca", self.ca, "a CA's certificate in PEM form"):
                _trust(context, self.ca)
        if self.cert:
            key = self.key or self.cert
            # Without a password OpenSSL would ask for one on the terminal.
            with _file("registry.cert", self.cert, "a certificate in PEM form"):
                if b"-----BEGIN CERTIFICATE-----" not in self.cert.read_bytes():
                    raise ssl.SSLError
            with _file("registry.key", key, "the certificate's own key in PEM form, without a password"):
                context.load_cert_chain(self.cert, key, password="")
        return context


def _trust(context: ssl.SSLContext, ca: Path) -> None:
    """A file's certificates, or those of each file in a folder: OpenSSL itself finds there what has a hash for a name.

    Raises ssl.SSLError where there is none."""
    if not ca.is_dir():
        return context.load_verify_locations(ca)
    before = context.cert_store_stats()["x509"]
    for path in sorted(path for path in ca.iterdir() if path.is_file()):
        with suppress(ssl.SSLError):
            context.load_verify_locations(path)
    if context.cert_store_stats()["x509"] == before:
        raise ssl.SSLError


class _file:
    """Says of which key's file an error is."""

    def __init__(self, key: str, path: Path, wanted: str) -> None:
        self.key, self.path, self.wanted = key, path, wanted

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ssl.SSLError):
            raise RegistryError(f"{self.key} {self.path} does not hold {self.wanted}: give the right file") from None
        if isinstance(error, OSError):
            cure = "give the right path, relative to conf.json"
            raise RegistryError(f"{self.key} {self.path} can't be read ({error.strerror}): {cure}") from None


class _Adapter(BoundedAdapter):
    """With a context of its own; what requests adds to it are the usual CAs, or those of the environment."""

    def __init__(self, context: ssl.SSLContext | None, **options: object) -> None:
        self.more = {"ssl_context": context} if context else {}
        super().__init__(**options)  # type: ignore[arg-type]

    def init_poolmanager(self, *values: object, **options: object) -> None:
        super().init_poolmanager(*values, **options | self.more)

    def proxy_manager_for(self, proxy: str, **options: object) -> object:
        return super().proxy_manager_for(proxy, **options | self.more)


def cause(error: BaseException, url: str, timeout: tuple[float, float], *, shown: bool) -> tuple[str, str]:
    """What went wrong on the way to ``url``, and the cure.

    ``timeout``: seconds to connect and to answer. ``shown``: whether we have a certificate to show.
    """
    chain = list(_chain(error))
    for problem in chain:
        if isinstance(problem, ProxyError):
            return _proxy(url, problem)
        if isinstance(problem, ssl.SSLError):
            return _tls(problem, url, shown)
    check = "check that the registry runs and that registry.url is right"
    for problem in chain:
        if isinstance(problem, Unbounded):
            return str(problem), "it is no registry's answer: check what is between here and there"
        if isinstance(problem, ReadTimeoutError | TimeoutError) and not isinstance(problem, NewConnectionError):
            return f"no answer within {timeout[1]:g} s", check
        if isinstance(problem, NameResolutionError):
            return f"there is no host {urlsplit(url).hostname}", check
        if isinstance(problem, NewConnectionError):
            reason = problem.__cause__
            return f"can't connect: {getattr(reason, 'strerror', None) or reason}", check
        if isinstance(problem, ConnectTimeoutError):
            return f"no connection within {timeout[0]:g} s", check
        if "\\x15\\x03" in str(problem):  # a TLS alert
            return "the port speaks TLS", "write https:// in registry.url"
    return f"the connection broke: {one_line(str(chain[-1] if chain else error))}", check


def mistaken(answer: Answer) -> tuple[str, str] | None:
    """The problem and cure that a server's words on a 400 mean: they come from below HTTP, and have no other form; or
    a proxy's 407."""
    if answer.status == 407:
        return "the proxy wants a user and a password", f"write them into its URL; {PROXY_CURE}"
    if answer.status != 400:
        return None
    text = answer.data[:2000].decode(errors="replace")
    if "HTTP request to an HTTPS server" in text or "plain HTTP request was sent to HTTPS port" in text:
        return "the port speaks TLS", "write https:// in registry.url"
    if "No required SSL certificate was sent" in text:
        return _WANTED
    if "SSL certificate error" in text:
        return _UNTRUSTED
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was made of, the innermost last."""
    seen: list[BaseException] = []
    queue: list[object] = [error]
    while queue:
        found = queue.pop(0)
        if isinstance(found, BaseException) and found not in seen:
            seen.append(found)
            queue += [getattr(found, "reason", None), *found.args, found.__cause__, found.__context__]
            if not isinstance(found, MaxRetryError) or found.reason is None:
                yield found


def _proxy(url: str, problem: ProxyError) -> tuple[str, str]:
    proxy = urlsplit(select_proxy(url, get_environ_proxies(url)) or "")
    told = one_line(str(problem.original_error).rpartition(": ")[2])
    return f"the proxy {proxy.hostname}:{proxy.port} does not let us through ({told})", PROXY_CURE


def _tls(problem: ssl.SSLError, url: str, shown: bool) -> tuple[str, str]:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return _untrusted(problem, url)
    reason = problem.reason or ""
    if any(word in reason for word in ("WRONG_VERSION_NUMBER", "RECORD_LAYER", "HTTP_REQUEST", "PACKET_LENGTH")):
        return "the port speaks no TLS", "write http:// in registry.url"
    if "NO_CERTIFICATE" in reason or "PEM" in reason:
        name = next((name for name in BUNDLES if os.environ.get(name)), "the usual bundle")
        return f"{name} holds no CA's certificate in PEM form", "correct it, or set registry.ca"
    about_ours = "ALERT" in reason and any(
        word in reason for word in ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE")
    )
    if about_ours and not shown:  # Go calls none a bad one
        return _WANTED
    if about_ours:
        return _UNTRUSTED
    # Who wants a certificate may hang up so fast that the alert gets lost.
    besides = "" if shown else "; it may want a client's certificate (registry.cert and registry.key)"
    return f"TLS failed: {one_line(str(problem))}", f"the registry's log says why{besides}"


def _untrusted(problem: ssl.SSLCertVerificationError, url: str) -> tuple[str, str]:
    told = one_line(problem.verify_message)
    code = problem.verify_code
    if code in (18, 19, 20, 21):  # X509_V_ERR_…: self-signed, or nobody whom we know has signed it
        cure = "set registry.ca in conf.json to the CA's certificate (or REQUESTS_CA_BUNDLE, or SSL_CERT_FILE)"
        return f"its certificate is of a CA that is not known here ({told})", cure
    if code in (62, 64):  # of a name, of an address
        cure = "write a name that it has in registry.url, or give it this one as subjectAltName (a CN does not count)"
        return f"its certificate is not for {urlsplit(url).hostname}", cure
    if code in (9, 10):
        return f"its certificate is not valid now ({told})", "renew it, or set this machine's clock"
    return f"its certificate can't be trusted ({told})", "mend the certificate, or see what registry.ca holds"
