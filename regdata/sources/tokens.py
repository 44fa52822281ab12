"""What a request to a registry is signed with: a password, or a token from the server that the registry names.

The protocol: RFC 9110, 11 (challenges), RFC 7617 (Basic), and distribution's spec/auth/token.md, oauth.md and scope.md.
A token is asked for with the scope of the registry's own challenge, kept by scope, and renewed before it expires.
"""

import base64
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from threading import Lock
from typing import NamedTuple, NoReturn
from urllib.parse import parse_qsl, quote, quote_plus, urlencode, urljoin, urlsplit

from requests.utils import parse_list_header, unquote_header_value

from regdata.errors import AccessError
from regdata.sources.answers import REDIRECTS, Answer, one_line, place
from regdata.sources.credentials import Credential, Credentials, places

# What a token server means that says nothing (spec/auth/token.md), and how much of a token's time is used.
LIFETIME = 60.0
_USED = 0.8
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_CLIENT = "regdata"


class Need(NamedTuple):
    """What a request needs a right to: an action in a repository; `catalog` and the plain `/v2/` have no repository."""

    repository: str
    action: str


class Challenge(NamedTuple):
    """One of a WWW-Authenticate header; the scheme in lower case."""

    scheme: str
    parameters: dict[str, str]


class Wanted(NamedTuple):
    """What a token is asked for, and where."""

    realm: str
    service: str
    scope: str


class Token(NamedTuple):
    """A header's value, and until when it is sent."""

    header: str
    until: float


# Tokens are kept by what they are for and whose they are: a namespace may have a login of its own.
Asked = tuple[Wanted, Credential | None]

Ask = Callable[[str, str, Mapping[str, str], str | None], Answer]


def need(method: str, path: str) -> Need:
    """What a request to a path below ``/v2/`` needs a right to (distribution's docs/content/spec/auth/scope.md)."""
    bare = path.partition("?")[0]
    found = _IN_REPOSITORY.fullmatch(bare)
    if not found:
        return Need("", "catalog" if bare == "_catalog" else "")
    if method in ("GET", "HEAD"):
        return Need(found[1], "pull")
    return Need(found[1], "delete" if method == "DELETE" and not found[2] else "upload")


_IN_REPOSITORY = re.compile(
    r"(.+)/(?:manifests/[^/]+|tags/list|referrers/[^/]+|blobs/(?!uploads)[^/]+|(blobs/uploads)/.*)"
)


def challenges(header: str) -> list[Challenge]:
    """The challenges of a WWW-Authenticate header, also of several that were joined by commas."""
    found: list[Challenge] = []
    for item in parse_list_header(header):
        scheme = re.match(r"([!#$%&'*+.^_`|~\w-]+)(?:\s+|$)(?!\s*=)", item)
        if scheme:
            found.append(Challenge(scheme[1].lower(), {}))
        name, equals, value = item[scheme.end() if scheme else 0 :].partition("=")
        if found and equals:
            found[-1].parameters[name.strip().lower()] = unquote_header_value(value.strip())
    return found


def normalised(scope: str) -> str:
    """The same text for the same rights: `repository:a:push,pull` is `repository:a:pull,push`."""
    parts = []
    for part in dict.fromkeys(scope.split()):
        name, colon, actions = part.rpartition(":")
        parts.append(name + colon + ",".join(sorted(set(actions.split(",")))))
    return " ".join(sorted(parts))


class Authorization:
    """The Authorization headers for one registry's requests; safe to use from many threads.

    ``ask`` sends a request to a token server: method, URL, headers, body.
    """

    def __init__(self, url: str, ask: Ask, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.credentials = Credentials(url)
        self._url, self._ask, self._clock = url, ask, clock
        self._basic = False
        self._wanted: dict[Need, Wanted] = {}
        self._forms: dict[str, Wanted] = {}  # by action: what is wanted in any repository, its name left open
        self._tokens: dict[Asked, Token] = {}
        self._locks: dict[Asked, Lock] = {}
        self._failed: dict[Asked, tuple[float, AccessError]] = {}
        self._refresh: dict[Credential, str] = {}  # where the server gives a new one each time
        self._secrets: set[str] = set()
        self.active = False  # whether the registry has ever asked who we are

    def header(self, need: Need) -> str | None:
        """What to send at once, as far as earlier challenges tell; a token that is about to expire is renewed."""
        if not self.active:
            return None
        credential = self.credentials.find(need.repository)
        if self._basic or (credential and credential.registry_token):
            return self._password(credential)
        wanted = self._wanted.get(need) or self._expected(need)
        if wanted is None:
            return None
        token = self._tokens.get((wanted, credential))
        return token.header if token and self._clock() < token.until else self._renewed(need, wanted, token)

    def challenged(self, need: Need, header: str, sent: str | None) -> str | None:
        """What to send after a 401 with this WWW-Authenticate; None where there is nothing else to try.

        ``sent``: what the refused request had been sent with. AccessError where no token can be had.
        """
        by_scheme = {challenge.scheme: challenge.parameters for challenge in reversed(challenges(header))}
        self.active = True
        credential = self.credentials.find(need.repository)
        if not credential or not credential.registry_token:
            if "realm" in by_scheme.get("bearer", {}):
                return self._with_token(need, by_scheme["bearer"], credential, sent)
            if "basic" not in by_scheme:
                return None
            self._basic = True
        header = self._password(credential) or ""
        if header == sent:  # a helper may know a newer one
            self.credentials.forget()
            header = self._password(self.credentials.find(need.repository)) or ""
        return header if header not in ("", sent) else None

    def refused(self, need: Need, header: str | None) -> AccessError:
        """What to raise where a request is refused for good: the user, where the credentials are from, the right.

        ``header``: the WWW-Authenticate of a 401; None for a 403, which says that we are known.
        """
        credential = self.credentials.find(need.repository)
        found = challenges(header or "")
        error = next((c.parameters["error"] for c in found if "error" in c.parameters), "")
        if header is None or error == "insufficient_scope" or (need in self._wanted and error != "invalid_token"):
            return self._lacks(need, credential)
        if credential is None:
            return self._nobody("the registry wants to know who asks")
        if not self._secrets:
            cure = "it, or what is before it, has to name Basic, or Bearer and its realm, in WWW-Authenticate"
            named = one_line(header) or "none is named"
            return AccessError(
                f"the registry asks for credentials in no way that is known here ({named}), so none were sent: {cure}"
            )
        if credential.registry_token and not any(challenge.scheme == "bearer" for challenge in found):
            cure = "set REGDATA_USERNAME and REGDATA_PASSWORD in its place, or log in by docker login"
            return AccessError(f"the registry takes no token such as {credential.what}, but a user's password; {cure}")
        if error == "invalid_token":
            realm = place(self._wanted[need].realm) if need in self._wanted else credential.origin
            cure = "see whether the two trust each other (issuer, service, certificate) and their clocks agree"
            return AccessError(f"the registry does not take the token that {realm} gave to {credential.user}; {cure}")
        return self._wrong(credential, "the registry")

    def redacted(self, text: str) -> str:
        """The text without any secret that was sent: a server may repeat it in its answer."""
        for secret in sorted(self._secrets - {""}, key=len, reverse=True):
            for form in {secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]}:
                text = text.replace(form, "***")
        return text

    def who(self) -> str:
        """The users and their credentials' origin; `anonymous` where none are known or the registry never asked."""
        return ", ".join(self.credentials.users()) or "anonymous"

    def _password(self, credential: Credential | None) -> str | None:
        """Basic, in UTF-8 (RFC 7617, 2.1); a registry token has no other form than its own."""
        if credential is None:
            return None
        if credential.registry_token:
            return self._secret(credential.registry_token, "Bearer ")
        secret = credential.password or credential.identity_token
        self._secrets.add(secret)
        name = credential.username or "<token>"
        return self._secret(base64.b64encode(f"{name}:{secret}".encode()).decode(), "Basic ")

    def _secret(self, value: str, scheme: str) -> str:
        self._secrets.add(value)
        return scheme + value

    def _expected(self, need: Need) -> Wanted | None:
        form = self._forms.get(need.action) if need.repository else None
        return form and form._replace(scope=form.scope.format(need.repository))

    def _with_token(
        self, need: Need, parameters: dict[str, str], credential: Credential | None, sent: str | None
    ) -> str:
        scope = normalised(parameters.get("scope", ""))
        wanted = Wanted(parameters["realm"], parameters.get("service", ""), scope)
        self._check(wanted.realm)
        self._wanted[need] = wanted
        name, open_name = f"repository:{need.repository}:", "repository:{}:"
        if need.repository and scope.startswith(name) and not re.search(r"[{}\s]", scope):
            self._forms[need.action] = wanted._replace(scope=scope.replace(name, open_name, 1))
        token = self._tokens.get((wanted, credential))
        return token.header if token and token.header != sent else self._renewed(need, wanted, token)

    def _check(self, realm: str) -> None:
        """Passwords go nowhere in the clear that the registry itself is not asked in the clear."""
        try:
            parts = urlsplit(realm)
            scheme, host, _ = parts.scheme, parts.hostname, parts.port
        except ValueError:
            scheme, host = "", None
        if scheme not in ("http", "https") or not host:
            raise AccessError(f"the registry names no token server, but {place(realm)!r}; mend its auth.token.realm")
        if scheme == "http" and urlsplit(self._url).scheme == "https":
            raise AccessError(
                f"the registry's token server {place(realm)} has no TLS, which the registry has, so no password is "
                "sent there; set auth.token.realm to its https:// address"
            )

    def _renewed(self, need: Need, wanted: Wanted, before: Token | None) -> str:
        """A new token's header; of several threads that want it, one asks, and its failure is the others', too."""
        began = self._clock()
        asked = wanted, self.credentials.find(need.repository)
        with self._locks.setdefault(asked, Lock()):
            token = self._tokens.get(asked)
            if token is None or token is before:
                failed, problem = self._failed.get(asked, (-math.inf, None))
                if problem and failed >= began:
                    raise AccessError(str(problem))
                try:
                    token = self._tokens[asked] = self._token(need, *asked)
                except AccessError as error:
                    self._failed[asked] = self._clock(), error
                    raise
        return token.header

    def _token(self, need: Need, wanted: Wanted, credential: Credential | None) -> Token:
        asked = self._clock()
        where = place(wanted.realm)
        reply = self._answer(wanted, credential)
        if reply.status in (400, 401) and credential:  # a helper, or somebody who logged in anew, may know a newer one
            self.credentials.forget()
            newer = self.credentials.find(need.repository)
            if newer != credential:
                credential, reply = newer, self._answer(wanted, newer)
        if reply.status in (400, 401, 403):
            self._not_given(where, wanted, credential, reply)
        if not 200 <= reply.status < 300:
            self._none_given(where, wanted, reply)
        value = reply.member("token") or reply.member("access_token")
        if not isinstance(value, str) or not re.fullmatch(r"[\x21-\x7e]+", value):
            raise AccessError(f"{where}: the registry's token server answers without a token; its log says why")
        refresh = reply.member("refresh_token")
        if credential and credential.identity_token and isinstance(refresh, str) and refresh:
            self._secrets.add(refresh)
            self._refresh[credential] = refresh
        lifetime = reply.member("expires_in")
        seconds = lifetime if isinstance(lifetime, int | float) and 0 < lifetime < 1e9 else LIFETIME
        return Token(self._secret(value, "Bearer "), asked + _USED * seconds)

    def _answer(self, wanted: Wanted, credential: Credential | None) -> Answer:
        """The token server's answer by the way that it takes."""
        methods = (self._post, self._get) if credential and credential.identity_token else (self._get, self._post)
        reply = methods[0](wanted, credential)
        if reply.status in (404, 405) and credential:
            other = methods[1](wanted, credential)
            reply = reply if other.status in (404, 405) else other
        return reply

    def _get(self, wanted: Wanted, credential: Credential | None) -> Answer:
        """The token server's plain way; without credentials it may give an anonymous token."""
        realm = urlsplit(wanted.realm)
        scopes = [("scope", scope) for scope in wanted.scope.split()]
        account = [("account", credential.username)] if credential and credential.username else []
        service = [("service", wanted.service)] if wanted.service else []
        query = urlencode([*parse_qsl(realm.query, keep_blank_values=True), *service, *scopes, *account])
        password = self._password(credential)
        headers = {"Authorization": password} if password else {}
        return self._ask("GET", realm._replace(query=query, fragment="").geturl(), headers, None)

    def _post(self, wanted: Wanted, credential: Credential | None) -> Answer:
        """OAuth 2's way: for identity tokens, and for token servers that know no other."""
        if credential is None:
            return Answer(405, {}, b"")
        identity = self._refresh.get(credential) or credential.identity_token
        self._secrets |= {secret for secret in (identity, credential.password) if secret}
        form = {"service": wanted.service, "scope": wanted.scope, "client_id": _CLIENT}
        if identity:
            form |= {"grant_type": "refresh_token", "refresh_token": identity}
        else:
            form |= {"grant_type": "password", "username": credential.username, "password": credential.password}
        return self._ask("POST", wanted.realm, _FORM, urlencode(form))

    def _not_given(self, where: str, wanted: Wanted, credential: Credential | None, reply: Answer) -> NoReturn:
        """What to raise where the token server knows us and refuses, or does not know us."""
        words = reply.own_message(self.redacted)
        if credential is None:
            raise self._nobody(f"{where} gives a token only to those whom it knows")
        if reply.status == 403:
            cure = _REPOSITORIES if wanted.scope.startswith("registry:catalog:") else _GRANT
            raise AccessError(f"{where} gives {credential.user} no token for {wanted.scope}{words}; {cure}")
        raise self._wrong(credential, where, words)

    def _none_given(self, where: str, wanted: Wanted, reply: Answer) -> NoReturn:
        """What to raise where it is the token server's fault."""
        problem, cure = f"HTTP {reply.status}{reply.own_message(self.redacted)}", "its log says why"
        if reply.status in REDIRECTS and "Location" in reply.headers:
            there = self.redacted(place(urljoin(wanted.realm, reply.headers["Location"])))
            cure = f"it redirects to {there}, where no password is sent: set auth.token.realm to its own address"
        raise AccessError(f"{where}: the registry's token server gives no token: {problem}; {cure}")

    def _nobody(self, problem: str) -> AccessError:
        host = urlsplit(self._url).netloc.rpartition("@")[2]
        return AccessError(
            f"{problem}, and there are no credentials for {host} in any of {', '.join(places())}; log in by "
            f"docker login, podman login or skopeo login {host}, or set REGDATA_USERNAME and REGDATA_PASSWORD"
        )

    def _wrong(self, credential: Credential, where: str, words: str = "") -> AccessError:
        return AccessError(
            f"{where} does not take {credential.what}{words}; log in anew by docker login, podman login or "
            "skopeo login, or correct it there"
        )

    def _lacks(self, need: Need, credential: Credential | None) -> AccessError:
        right = {"catalog": "to list the catalog", "upload": f"to upload to {need.repository}", "": "to use it"}
        problem = f"{credential.user if credential else 'anonymous'} has not the right "
        problem += right.get(need.action, f"to {need.action} in {need.repository}")
        if need.action == "catalog":
            return AccessError(
                f"{problem}; {_REPOSITORIES}{'' if credential else ', or log in as somebody who has it'}"
            )
        besides = ", or name only the others in registry.repositories" if need.action == "pull" else ""
        return AccessError(f"{problem}; {_GRANT}{besides}") if credential else self._nobody(problem)


_GRANT = "have it granted where the registry's rights are kept, or log in as somebody who has it"
_REPOSITORIES = (
    'name the repositories in registry.repositories of conf.json, such as ["team/app"], or have the right granted '
    "where the registry's rights are kept"
)
