"""Who we are for a registry: what the environment, the container tools' files, their helpers and ~/.netrc say.

The files are those of containers-auth.json(5) (github.com/containers/image) and of Docker's config.json; a helper
speaks the protocol of github.com/docker/docker-credential-helpers. No library reads all of it: Docker's SDK passes over
registrytoken, a plain username and password, and keys with a namespace.

A secret is in no message and in no repr: not in those about a file, a helper's output or an entry that is broken.
"""

import base64
import binascii
import json
import netrc
import os
import re
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn
from urllib.parse import SplitResult, unquote, urlsplit

from regdata.errors import AccessError

# Seconds that a helper may take; it may ask a cloud's service, but there is nobody who could answer a question of its.
HELPER_TIME = 30.0
# Bytes of its answer at most: a token is the largest secret there is.
_MOST = 1 << 20
_DEFAULT_PORTS = {"http": 80, "https": 443}

# Asks a helper, by its path, for a server; the last says whom a message is about.
Ask = Callable[[str, str, str], tuple[str, str] | None]


@dataclass(frozen=True)
class Credential:
    """One of: a password, an identity token (a refresh token for the token server), a registry token (sent as it is).

    ``origin`` says where it comes from, as a message names it.
    """

    origin: str
    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @property
    def user(self) -> str:
        """For messages and reports: the user, if there is one, and where it comes from."""
        return f"{self.username} ({self.origin})" if self.username else f"token of {self.origin}"

    def whole(self) -> "Credential":
        """Itself. AccessError where it holds what can't be sent."""
        try:
            f"{self.username}{self.password}{self.identity_token}".encode()
        except UnicodeEncodeError:
            _refuse(self.origin, "gives a user or password that is no text (UTF-8)", "set it anew, or log in anew")
        return self

    @property
    def what(self) -> str:
        """The same for a message that says that it is refused."""
        if self.identity_token or self.registry_token:
            return f"the {self.user}" if not self.username else f"the token of {self.user}"
        return f"the user or password of {self.user}"


class Credentials:
    """The credentials for the registry at a URL. They are looked up only when they are asked for."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._hosts = _hosts(self._url)
        self._found: dict[str, Credential | None] = {}
        self._broken: AccessError | None = None
        self._answers = cache(_answer)
        self._lock = Lock()

    def find(self, repository: str = "") -> Credential | None:
        """Those for a repository, or for the registry as a whole; None where nobody knows any.

        The first place in the order of `places` that has some for this host and port is taken; within a file the key
        that names the most of the repository. AccessError where a place is broken. However many ask, a helper is run
        once for each key, also one that fails.
        """
        with self._lock:
            if self._broken:
                raise AccessError(str(self._broken))
            if repository not in self._found:
                try:
                    self._found[repository] = self._sought(repository)
                except AccessError as error:
                    self._broken = error
                    raise
            return self._found[repository]

    def _sought(self, repository: str) -> Credential | None:
        """The registry as a whole is asked by a namespace's login where there is no other, as podman login does."""
        given = [self._keys(repository)] if repository else [self._keys(""), self._namespaces()]
        return next((found.whole() for keys in given for place in self._places() if (found := place(keys))), None)

    def _namespaces(self) -> list[str]:
        """The keys of this registry's namespaces in the container tools' files."""
        sections = [
            _section(_read(path), name, path)
            for path in container_files(os.environ, _home(), os.getuid())
            for name in ("auths", "credHelpers")
        ]
        parts = [name.rstrip("/").partition("/") for section in sections for name in section]
        below = f"/{path}/" if (path := self._url.path.strip("/")) else "/"
        names = {f"{host.lower()}/{rest}" for host, _, rest in parts if rest}
        return sorted(name for name in names if name.startswith(tuple(f"{host}{below}" for host in self._hosts)))

    def forget(self) -> None:
        """Ask again next time: a helper may give another password than it did hours ago."""
        with self._lock:
            self._found.clear()
            self._answers.cache_clear()
            self._broken = None

    def users(self) -> list[str]:
        """Those that were found so far, as `Credential.user` names them."""
        with self._lock:
            return sorted({found.user for found in self._found.values() if found})

    def _places(self) -> Iterator[Callable[[list[str]], Credential | None]]:
        yield lambda keys: _from_url(self._url)
        yield lambda keys: _from_environment(os.environ)
        for path in container_files(os.environ, _home(), os.getuid()):
            yield lambda keys, path=path: _from_file(path, keys, self._answers)  # type: ignore[misc]
        yield lambda keys: _from_netrc(_netrc_file(os.environ), self._hosts)

    def _keys(self, repository: str) -> list[str]:
        """The keys that an entry may have, the most specific first: host/team/app, host/team, host."""
        parts = repository.split("/") if repository else []
        names = ["/".join(parts[:size]) for size in range(len(parts), 0, -1)]
        path = self._url.path.strip("/")
        below = [f"{path}/{name}" for name in [*names, ""] if path] + names
        return [f"{host}/{name}".rstrip("/") for name in below for host in self._hosts] + self._hosts


def places() -> list[str]:
    """Where credentials are looked for, in this order, as a message names them."""
    files = [str(path) for path in container_files(os.environ, _home(), os.getuid())]
    return ["REGDATA_USERNAME and REGDATA_PASSWORD", "REGDATA_TOKEN", *files, str(_netrc_file(os.environ))]


def container_files(environ: Mapping[str, str], home: Path, uid: int) -> list[Path]:
    """The files of podman, skopeo and Docker, in the order of containers-auth.json(5).

    A job that cron starts lacks XDG_RUNTIME_DIR: then the folders are tried where systemd and podman have them.
    """
    runtime = environ.get("XDG_RUNTIME_DIR")
    in_memory = [f"{runtime}/containers"] if runtime else [f"/run/user/{uid}/containers", f"/run/containers/{uid}"]
    given = environ.get("REGISTRY_AUTH_FILE")
    return [
        *([Path(given)] if given else []),
        *(Path(folder) / "auth.json" for folder in in_memory),
        Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "containers/auth.json",
        Path(environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json",
    ]


def _home() -> Path:
    return Path(os.path.expanduser("~"))  # Path.home() raises for a user without one


def _hosts(url: SplitResult) -> list[str]:
    """host:port as keys write it; the scheme's own port may be left out."""
    host = (url.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    default = _DEFAULT_PORTS.get(url.scheme)
    port = url.port or default
    return [host, f"{host}:{port}"] if port == default else [f"{host}:{port}"]


def _from_url(url: SplitResult) -> Credential | None:
    if not url.username:
        return None
    return Credential("registry.url", unquote(url.username), unquote(url.password or ""))


def _from_environment(environ: Mapping[str, str]) -> Credential | None:
    username, token = environ.get("REGDATA_USERNAME", ""), environ.get("REGDATA_TOKEN", "").strip()
    password = environ.get("REGDATA_PASSWORD", "").rstrip("\r\n")  # as `docker login --password-stdin` takes it
    if bool(username) != bool(password):
        missing = "REGDATA_PASSWORD" if username else "REGDATA_USERNAME"
        _refuse("REGDATA_USERNAME and REGDATA_PASSWORD", "go together", f"set {missing}, too, or neither")
    if ":" in username:
        _refuse("REGDATA_USERNAME", "holds a colon, which no user's name may (RFC 7617)", "set it to the name alone")
    if username:
        return Credential("REGDATA_USERNAME", username, password)
    return Credential("REGDATA_TOKEN", registry_token=_checked(token, "REGDATA_TOKEN")) if token else None


def _from_file(path: Path, keys: list[str], ask: Ask) -> Credential | None:
    """What the file says for the first of the keys that it has something for, whatever its helpers know included."""
    document = _read(path)
    auths, helpers = (_section(document, name, path) for name in ("auths", "credHelpers"))
    store = document.get("credsStore")
    for key in keys:
        entries = {name: auths[name] for name in sorted(auths, key=lambda name: name != key) if _is(key, name)}
        asked = [(helper, [key], "credHelpers") for name, helper in helpers.items() if _is(key, name)]
        if store and "/" not in key:
            asked.append((store, list(dict.fromkeys([key, *entries])), "credsStore"))
        answers = (_ask(ask, helper, servers, f"{section} in {path}") for helper, servers, section in asked)
        written = (_from_entry(entry, str(path), name) for name, entry in entries.items())
        if found := next(filter(None, chain(answers, written)), None):
            return found
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes() or b"{}")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        if _is_others(path):
            return {}
        _refuse(str(path), f"can't be read ({error.strerror})", "make it readable, or take it away")
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        _refuse(str(path), "is no JSON object, as docker login or podman login writes it", "log in anew")
    return document


def _is_others(path: Path) -> bool:
    """Whether a file is where one was guessed, in a folder that is not for this user."""
    named = os.environ.get("XDG_RUNTIME_DIR") or str(path) == os.environ.get("REGISTRY_AUTH_FILE")
    return not named and path.parts[:2] == ("/", "run") and not os.access(path.parent, os.X_OK)


def _section(document: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    section = document.get(name)
    if section is not None and not isinstance(section, dict):
        _refuse(str(path), f"has {name} that is no object", "log in anew")
    return section or {}


def _is(key: str, name: str) -> bool:
    """Whether an entry's name is the key. Docker wrote URLs, of which the host alone counts: https://host/v1/."""
    bare = re.sub(r"^https?://", "", name, flags=re.IGNORECASE)
    if bare != name or re.fullmatch(r"[^/]+/v[12]/?", name):
        bare = bare.partition("/")[0]
    host, slash, rest = bare.rstrip("/").partition("/")
    return key == host.lower() + slash + rest


def _from_entry(entry: object, path: str, name: str) -> Credential | None:
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key, ""), str | None) for key in _ENTRY):
        _refuse(path, f"has an entry for {name} of another shape than docker login writes", "log in anew")
    auth, username, password, identity, token = (entry.get(key) or "" for key in _ENTRY)
    if auth:
        username, password = _decoded(auth, path, name)
    if token:
        return Credential(path, registry_token=_checked(token, path))
    if identity:
        return Credential(path, username, identity_token=identity)
    return Credential(path, username, password) if username else None


_ENTRY = ("auth", "username", "password", "identitytoken", "registrytoken")


def _decoded(auth: str, path: str, name: str) -> tuple[str, str]:
    """User and password of an entry's ``auth``."""
    with suppress(ValueError, binascii.Error):
        # Go's decoder, which the container tools have, passes over line ends.
        plain = base64.b64decode(re.sub(r"[\r\n]", "", auth), validate=True)
        username, colon, password = plain.decode().partition(":")
        if colon:
            return username, password.strip("\0")  # Docker pads with it
    _refuse(path, f"has an auth for {name} that is not user:password in base64", "log in anew")


def _ask(ask: Ask, helper: object, servers: list[str], where: str) -> Credential | None:
    """What a credential helper has for the first of the servers that it knows."""
    if not isinstance(helper, str) or not re.fullmatch(r"[A-Za-z0-9._-]+", helper):
        _refuse(where, "names no credential helper", "log in anew, or mend it")
    program = f"docker-credential-{helper}"
    path = shutil.which(program)
    if path is None:
        _refuse(program, f"is named by {where}, but is no program on PATH", "install it, or take the entry out")
    for server in servers:
        answer = ask(path, server, f"{program} (named by {where})")
        if answer is not None:
            username, secret = answer
            if username == "<token>" and secret:
                return Credential(program, identity_token=secret)
            return Credential(program, username, secret) if username not in ("", "<token>") else None
    return None


def _answer(path: str, server: str, who: str) -> tuple[str, str] | None:
    """Username and secret that the helper has for the server; None where it says that it has none."""
    try:
        process = subprocess.Popen(
            [path, "get"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it may hold anything
            start_new_session=True,  # so that what it starts can be ended, too
        )
    except OSError as error:
        _refuse(who, f"can't be run ({error.strerror})", "mend it")
    try:
        output = _received(process, server)
    except BaseException as error:  # a Ctrl-C, too
        _end(process)
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        _refuse(who, f"gave no answer for {server} within {HELPER_TIME:g} s", "log in anew, or mend it")
    if process.returncode and len(output) <= _MOST:
        # Its own words for it (credentials/error.go), on standard output.
        if b"credentials not found" in output:
            return None
        cure = f"see what it says: echo {server} | {Path(path).name} get"
        _refuse(who, f"failed with exit code {process.returncode} for {server}", cure)
    with suppress(ValueError, RecursionError, TypeError):
        answer = json.loads(output)
        username, secret = answer["Username"], answer["Secret"]
        if isinstance(username, str) and isinstance(secret, str):
            return username, secret
    _refuse(who, f"answered for {server} with something else than a Username and a Secret", "log in anew, or mend it")


def _received(process: subprocess.Popen[bytes], server: str) -> bytes:
    """What a helper prints for a server until it ends; of endless rubbish the first. Raises TimeoutExpired."""
    until, output = time.monotonic() + HELPER_TIME, b""
    assert process.stdin
    assert process.stdout
    with suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(server.encode())
    with process.stdout as stdout, selectors.DefaultSelector() as selector:
        selector.register(stdout, selectors.EVENT_READ)
        while (left := until - time.monotonic()) > 0 and selector.select(left):
            part = os.read(stdout.fileno(), _MOST)
            output += part
            if not part:
                process.wait(left)
                return output
            if len(output) > _MOST:
                _end(process)
                return output
    raise subprocess.TimeoutExpired(process.args, HELPER_TIME)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(1)
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with suppress(OSError):
                pipe.close()


def _netrc_file(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("NETRC") or _home() / ".netrc")


def _from_netrc(path: Path, hosts: list[str]) -> Credential | None:
    """Its format knows no ports: a host's entry is for all of them, unless one is written with the port."""
    try:
        entries = netrc.netrc(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        _refuse(str(path), f"can't be read ({error.strerror})", "make it readable, or take it away")
    except netrc.NetrcParseError as error:
        _refuse(f"{path}, line {error.lineno},", "is not as a netrc file must be", "mend it")
    except ValueError:
        _refuse(str(path), "is not UTF-8", "mend it")
    plain = re.sub(r":\d+$", "", hosts[0]).strip("[]")
    written = {name.lower(): entry for name, entry in reversed(entries.hosts.items())}
    found = next((written[name] for name in (*reversed(hosts), plain, "default") if name in written), None)
    return Credential(str(path), found[0], found[2] or "") if found and found[0] else None


def _checked(token: str, where: str) -> str:
    """A token goes into a header: one that can't would be shown in the error of whoever tries."""
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        _refuse(where, "holds a token with characters that no token has", "log in anew")
    return token


def _refuse(where: str, what: str, cure: str) -> NoReturn:
    raise AccessError(f"{where} {what}: {cure}") from None
