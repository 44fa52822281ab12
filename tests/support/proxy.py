"""A proxy between us and a real registry that breaks what a test wants broken."""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.support.server import Reply, Request, serving


@dataclass(frozen=True)
class Fault:
    """What happens to a request: it is carried out or not, and then answered otherwise, cut short, reset or stalled;
    ``before`` comes first."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: Callable[[bytes], bytes] = lambda body: body
    how: str = "whole"
    carried_out: bool = False
    before: Callable[[], object] = lambda: None


@dataclass
class _Rule:
    method: str
    path: re.Pattern[str]
    fault: Fault
    times: float


class FaultProxy:
    """Passes everything on to ``upstream`` but for what `on` says; ``seen`` is its log."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream.removeprefix("http://")
        self.url = ""
        self.seen: list[str] = []
        self.down: Callable[[], bool] = lambda: False
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()

    def on(self, method: str, path: str, fault: Fault, *, times: float = float("inf")) -> None:
        """Does ``fault`` to the first requests, so many ``times``, whose path matches somewhere.

        ``method`` may be several, with blanks between them.
        """
        self._rules.append(_Rule(method, re.compile(path), fault, times))

    def mend(self) -> None:
        """From now on nothing is broken."""
        self._rules.clear()

    def answer(self, request: Request) -> Reply:
        """What comes back, from the registry behind or otherwise."""
        fault = self._fault(request.method, request.target)
        if fault:
            fault.before()
        came = self._pass_on(request) if fault is None or fault.carried_out else Reply()
        if fault is None:
            return came
        return Reply(fault.status or came.status, fault.body(came.body), came.headers | fault.headers, fault.how)

    def _fault(self, method: str, path: str) -> Fault | None:
        if self.down():
            return Fault(how="reset")
        with self._lock:
            self.seen.append(f"{method} {path}")
            for rule in self._rules:
                if method in rule.method.split() and rule.times > 0 and rule.path.search(path):
                    rule.times -= 1
                    return rule.fault
        return None

    def _pass_on(self, request: Request) -> Reply:
        # With the client's Host, so that the registry's Location is on the proxy.
        connection = http.client.HTTPConnection(self.upstream)
        try:
            connection.request(request.method, request.target, request.body, request.headers)
            answer = connection.getresponse()
            dropped = {"connection", "transfer-encoding", "date"}
            if request.method != "HEAD":  # which alone tells the size of what is not sent
                dropped.add("content-length")
            headers = {name: value for name, value in answer.getheaders() if name.lower() not in dropped}
            return Reply(answer.status, answer.read(), headers)
        finally:
            connection.close()


class OldRedis(FaultProxy):
    """Claims blobs as a registry before 3.1.0 does that caches in Redis: a repository that ever had one has it as long
    as anybody has, link or not; what is deleted in one is asked for anew."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self._ever: set[str] = set()
        self._known: set[str] = set()

    def answer(self, request: Request) -> Reply:
        """What comes back, from the cache or the registry behind."""
        if not (match := re.fullmatch(r"/v2/.+/blobs/(sha256:[0-9a-f]{64})", request.target)):
            return super().answer(request)
        if request.method == "HEAD" and request.target in self._ever and match[1] in self._known:
            return Reply(200)
        came = super().answer(request)
        if request.method == "HEAD" and came.status == 200:
            self._ever.add(request.target)
            self._known.add(match[1])
        if request.method == "DELETE":
            self._known.discard(match[1])
        return came


@contextmanager
def faults_before(upstream: str, kind: type[FaultProxy] = FaultProxy) -> Iterator[FaultProxy]:
    """Runs a proxy to the registry at ``upstream`` on a free loopback port."""
    proxy = kind(upstream)
    with serving(proxy.answer) as proxy.url:
        yield proxy
