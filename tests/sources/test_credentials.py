"""Who we are for a registry: Docker's SDK and skopeo are the oracles, where they can."""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker.auth
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regdata.errors import AccessError
from regdata.sources import credentials
from regdata.sources.credentials import Credential, Credentials, container_files, places

URL = "https://registry.example.com:5000"
HOST = "registry.example.com:5000"
SECRET = "p€ss w:ö"
NAME = "pöss"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def write(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def docker_config(home: Path, **document: Any) -> Path:
    return write(home / ".docker/config.json", document)


def helper(home: Path, name: str, script: str) -> None:
    path = write(home / "bin" / f"docker-credential-{name}", f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def entry(name: str, password: str = SECRET) -> dict[str, str]:
    return {"auth": b64(f"{name}:{password}")}


def found(url: str = URL, repository: str = "") -> tuple[str, str, str, str] | None:
    """username, password, identity token, registry token."""
    credential = Credentials(url).find(repository)
    if credential is None:
        return None
    return credential.username, credential.password, credential.identity_token, credential.registry_token


# Where from


def test_nothing(home: Path) -> None:
    """Where nobody knows any credentials there are none, and the places that were tried can be named."""
    assert found() is None
    assert places()[-1] == str(home / ".netrc")


PLACES: list[tuple[str, Callable[[Path, pytest.MonkeyPatch], object]]] = [
    ("REGDATA_USERNAME", lambda home, patch: patch.setenv("REGDATA_USERNAME", "env")),
    ("REGISTRY_AUTH_FILE", lambda home, patch: patch.setenv("REGISTRY_AUTH_FILE", str(home / "given.json"))),
    ("run/containers/auth.json", lambda home, patch: None),
    (".config/containers/auth.json", lambda home, patch: None),
    (".docker/config.json", lambda home, patch: None),
    (".netrc", lambda home, patch: None),
]


@pytest.mark.parametrize("first", range(len(PLACES)))
def test_order(home: Path, monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    """The first place that knows the host is taken; those before it, which know other hosts only, are passed over."""
    monkeypatch.setenv("REGDATA_PASSWORD", SECRET) if first == 0 else None
    for number, (name, set_up) in enumerate(PLACES):
        if number or not first:
            set_up(home, monkeypatch)
        host = HOST if number >= first else "elsewhere:5000"
        file = home / ("given.json" if name == "REGISTRY_AUTH_FILE" else name)
        if number == len(PLACES) - 1:
            write(file, f'machine {host} login u{number} password "{SECRET}"')
        elif number:
            write(file, {"auths": {host: entry(f"u{number}")}})
    assert found() == ("env" if first == 0 else f"u{first}", SECRET, "", "")
    origin = Credentials(URL).find()
    assert origin
    expected = "given.json" if first == 1 else PLACES[first][0]
    assert origin.origin.endswith(expected)
    assert SECRET not in repr(origin)


def test_registry_auth_file_of_another_host(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """REGISTRY_AUTH_FILE is passed over where it is not there or has nothing for this host and port."""
    docker_config(home, auths={HOST: entry(NAME)})
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "none.json"))
    assert found() == (NAME, SECRET, "", "")
    write(home / "none.json", {"auths": {"registry.example.com": entry("other"), f"{HOST}0": entry("other")}})
    assert found() == (NAME, SECRET, "", "")


def test_files_of_a_job_without_a_session() -> None:
    """Without XDG_RUNTIME_DIR, as cron starts a job, the login of a session on this machine is still found."""
    names = [str(path) for path in container_files({}, Path("/home/me"), 7)]
    assert names == [
        "/run/user/7/containers/auth.json",
        "/run/containers/7/auth.json",
        "/home/me/.config/containers/auth.json",
        "/home/me/.docker/config.json",
    ]


def test_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password may end with a line's end, as a mounted secret does; half a pair is an error."""
    monkeypatch.setenv("REGDATA_TOKEN", " abc.def\n")
    assert found() == ("", "", "", "abc.def")
    monkeypatch.setenv("REGDATA_USERNAME", NAME)
    with pytest.raises(AccessError, match="set REGDATA_PASSWORD, too"):
        found()
    monkeypatch.setenv("REGDATA_PASSWORD", f"{SECRET}\n")
    assert found() == (NAME, SECRET, "", "")
    monkeypatch.setenv("REGDATA_USERNAME", "a:b")
    with pytest.raises(AccessError, match="colon"):
        found()
    monkeypatch.delenv("REGDATA_USERNAME")
    with pytest.raises(AccessError, match="set REGDATA_USERNAME, too"):
        found()


def test_url(home: Path) -> None:
    """A user and password in a URL, which conf.json does not allow but `Registry` takes, come first."""
    assert found("http://p%C3%B6ss:a%3Ab@localhost:5000") == (NAME, "a:b", "", "")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://registry.example.com", "registry.example.com"),
        ("https://registry.example.com", "registry.example.com:443"),
        ("https://registry.example.com:443", "https://registry.example.com"),
        ("http://Registry.Example.com", "registry.example.com"),
        ("http://registry.example.com", "Registry.example.com:80"),
        (URL, f"https://{HOST}"),
        (URL, f"https://{HOST}/v1/"),
        (URL, f"http://{HOST}/v2/"),
        (URL, f"HTTPS://{HOST.upper()}"),
        (URL, f"{HOST}/v2/"),
        ("http://[::1]:5000", "[::1]:5000"),
        (f"{URL}/sub/path", HOST),
        (f"{URL}/sub/path", f"{HOST}/sub/path"),
    ],
)
def test_keys(home: Path, url: str, name: str) -> None:
    """An entry's name may be a URL, and leave the scheme's own port out."""
    docker_config(home, auths={"other": entry("other"), name: entry(NAME)})
    assert found(url) == (NAME, SECRET, "", "")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (URL, "registry.example.com"),
        ("https://registry.example.com", "registry.example.com:80"),
        ("http://registry.example.com", "registry.example.com:443"),
        ("https://registry.example.com", "evil-registry.example.com"),
        ("https://registry.example.com", "registry.example.com.evil"),
        (URL, f"https://evil/{HOST}"),
    ],
)
def test_keys_of_others(home: Path, url: str, name: str) -> None:
    """What was meant for another host, port or namespace is not sent."""
    docker_config(home, auths={name: entry(NAME)})
    assert found(url) is None


def test_login_of_a_namespace_alone(home: Path) -> None:
    """Who logged in to a namespace alone is known by that where the registry as a whole is asked, and in no other."""
    docker_config(home, auths={f"{HOST.upper()}/team": entry(NAME), "other.example.com/team": entry("other")})
    assert found() == found(repository="team/app") == (NAME, SECRET, "", "")
    assert found(f"{URL}/another/registry") is None
    assert found(repository="teams/app") is None
    assert found("https://registry.example.com:5001") is None
    write(home / ".netrc", f"machine {HOST} login a password b")
    assert found() == ("a", "b", "", "")


def test_most_specific_key(home: Path) -> None:
    """Of several keys that fit, the one that names the most of the repository is taken."""
    names = [HOST, f"{HOST}/team", f"{HOST}/team/app"]
    docker_config(home, auths={name: entry(name.replace(":", "_")) for name in names})
    mine = Credentials(URL)
    for repository, expected in (("team/app", 2), ("team/app/x", 2), ("team/apps", 1), ("teams", 0), ("", 0)):
        credential = mine.find(repository)
        assert credential
        assert credential.username == names[expected].replace(":", "_")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"auth": b64(f"{NAME}:{SECRET}\0\0")}, (NAME, SECRET, "", "")),
        ({"auth": b64(f"{NAME}:{SECRET}")[:9] + "\n" + b64(f"{NAME}:{SECRET}")[9:] + "\n"}, (NAME, SECRET, "", "")),
        ({"username": NAME, "password": SECRET}, (NAME, SECRET, "", "")),
        ({"auth": b64("u:"), "identitytoken": "i.d"}, ("u", "", "i.d", "")),
        ({"identitytoken": "i.d"}, ("", "", "i.d", "")),
        ({"auth": b64("u:p"), "registrytoken": "r.t"}, ("", "", "", "r.t")),
        ({}, None),
        ({"auth": None, "identitytoken": ""}, None),
    ],
)
def test_entries(home: Path, fields: dict[str, str], expected: object) -> None:
    """Each form of an entry that the container tools write."""
    docker_config(home, auths={HOST: fields})
    assert found() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f'machine registry.example.com login {NAME} password "{SECRET}"', (NAME, SECRET, "", "")),
        ("machine registry.example.com login a password b\nmachine {HOST} login c password d", ("c", "d", "", "")),
        ("default login anybody password else", ("anybody", "else", "", "")),
        ("machine Registry.Example.COM login a password b\ndefault login c password d", ("a", "b", "", "")),
        ("machine registry.example.com:5001 login a password b", None),
        ("machine other login a password b", None),
    ],
)
def test_netrc(home: Path, text: str, expected: object) -> None:
    """A netrc file knows hosts, and may know a host with its port."""
    write(home / ".netrc", text.replace("{HOST}", HOST))
    assert found() == expected


def test_secret_of_kubernetes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Secret of type kubernetes.io/dockerconfigjson, as kubectl makes it, mounted where DOCKER_CONFIG says."""
    secret = {"auths": {HOST: {"username": NAME, "password": SECRET, "auth": b64(f"{NAME}:{SECRET}")}}}
    write(home / "login/config.json", secret)
    monkeypatch.setenv("DOCKER_CONFIG", str(home / "login"))
    assert found() == (NAME, SECRET, "", "")


# Docker's SDK as the oracle

_entries = st.one_of(
    st.builds(lambda user, word: entry(user, word), st.text("aä-", min_size=1), st.text("pß€: '\"", min_size=1)),
    st.builds(lambda word: {"identitytoken": word}, st.text("xy.", min_size=1)),
    st.just({}),
)
_names = st.sampled_from([HOST, f"https://{HOST}/v1/", f"http://{HOST}", "registry.example.com", "other:5000"])


@settings(max_examples=200, deadline=None)
@given(
    auths=st.dictionaries(_names, _entries, max_size=3).filter(lambda auths: sum(HOST in name for name in auths) < 2)
)
def test_same_as_docker(auths: dict[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    """What Docker's SDK finds in a config.json for a host is what we find."""
    path = tmp_path_factory.mktemp("home") / ".docker/config.json"
    write(path, {"auths": auths})
    theirs = docker.auth.load_config(str(path)).resolve_authconfig(HOST) or {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_CONFIG", str(path.parent))
        mine = Credentials(URL).find()
    expected = (theirs.get("username", ""), theirs.get("password", ""), theirs.get("IdentityToken", ""))
    assert (mine and (mine.username, mine.password, mine.identity_token)) == (expected if any(expected) else None)


@pytest.mark.parametrize("section", ["credHelpers", "credsStore"])
@pytest.mark.parametrize("user", ["someone", "<token>"])
def test_helper_as_docker(home: Path, section: str, user: str) -> None:
    """A helper's answer is what Docker's SDK makes of it."""
    answer = json.dumps({"ServerURL": HOST, "Username": user, "Secret": SECRET})
    helper(home, "kept", f'[ "$1" = get ] && [ "$(cat)" = {HOST} ] && echo \'{answer}\'')
    path = docker_config(home, **{section: "kept" if section == "credsStore" else {HOST: "kept"}})
    theirs = docker.auth.load_config(str(path)).resolve_authconfig(HOST)
    expected = (theirs.get("Username", ""), theirs.get("Password", ""), theirs.get("IdentityToken", ""))
    credential = Credentials(URL).find("team/app")
    assert credential
    assert (credential.username, credential.password, credential.identity_token) == expected
    assert credential.origin == "docker-credential-kept"


NOT_FOUND = "cat >/dev/null; echo credentials not found in native keychain; exit 1"


def test_helper_that_has_none(home: Path) -> None:
    """A helper that knows nothing for the host is passed over; it is asked for the name that Docker stored, too."""
    helper(home, "none", NOT_FOUND)
    docker_config(home, credsStore="none", auths={HOST: entry(NAME)})
    assert found() == (NAME, SECRET, "", "")
    helper(
        home,
        "old",
        f'[ "$(cat)" = https://{HOST}/v1/ ] && echo \'{{"Username":"u","Secret":"s"}}\' || {{ {NOT_FOUND}; }}',
    )
    docker_config(home, credsStore="old", auths={f"https://{HOST}/v1/": {}})
    assert found() == ("u", "s", "", "")


@pytest.mark.parametrize("user", ["", "<token>"])
def test_helper_that_prints_nothing(home: Path, user: str) -> None:
    """An answer without a secret's owner, or without the token itself, is none: the next place is looked at."""
    helper(home, "empty", f"cat >/dev/null; echo '{json.dumps({'Username': user, 'Secret': ''})}'")
    docker_config(home, credsStore="empty")
    write(home / ".netrc", f'machine {HOST} login {NAME} password "{SECRET}"')
    assert found() == (NAME, SECRET, "", "")


def test_helper_is_asked_once(home: Path) -> None:
    """One look-up for all repositories; `forget` asks again, for what a helper renews."""
    helper(home, "count", f'cat >/dev/null; echo x >>{home}/asked; echo \'{{"Username":"u","Secret":"s"}}\'')
    docker_config(home, credsStore="count")
    mine = Credentials(URL)
    assert not (home / "asked").exists()
    for name in ("app", "app", "other", "team/one", ""):
        mine.find(name)
    assert (home / "asked").read_text() == "x\n"
    assert mine.users() == ["u (docker-credential-count)"]
    mine.forget()
    mine.find("app")
    assert (home / "asked").read_text() == "x\nx\n"


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (None, "docker-credential-odd is named by credsStore in .*config.json, but is no program on PATH: install it"),
        (f"echo {SECRET}; exit 3", "failed with exit code 3 for registry.example.com:5000: see what it says"),
        (f"echo {SECRET}", "something else than a Username and a Secret"),
        (f"echo '[\"{SECRET}\"]'", "something else"),
        (f'echo \'{{"Username": 5, "Secret": "{SECRET}"}}\'', "something else"),
        ("head -c 300000 /dev/zero", "something else"),
        (f"yes {SECRET}", "something else"),
        ("kill -9 $$", "failed with exit code -9"),
        (f"echo {SECRET}; sleep 60 & sleep 60", "no answer for registry.example.com:5000 within 0.5 s"),
        (f"setsid sleep 5 & echo {SECRET}", "no answer"),
    ],
)
def test_broken_helper(home: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, problem: str) -> None:
    """A helper that is missing, fails, prints rubbish or hangs is one error, without what it printed."""
    monkeypatch.setattr(credentials, "HELPER_TIME", 0.5 if "sleep" in str(script) else 30.0)
    if script:
        helper(home, "odd", script)
    docker_config(home, credsStore="odd")
    with pytest.raises(AccessError, match=problem) as error:
        found()
    assert SECRET not in "".join(traceback.format_exception(error.value))


def test_broken_helper_is_asked_once(home: Path) -> None:
    """However many repositories there are, a helper that fails is waited for once."""
    helper(home, "odd", f"echo x >>{home}/asked; exit 3")
    docker_config(home, credsStore="odd")
    mine = Credentials(URL)
    for name in ("a", "b", "a"):
        with pytest.raises(AccessError, match="exit code 3"):
            mine.find(name)
    assert (home / "asked").read_text() == "x\n"


def test_helper_that_can_not_be_run(home: Path) -> None:
    """A program of another kind of machine is an error, too."""
    helper(home, "odd", "")
    (home / "bin/docker-credential-odd").write_bytes(b"\x7fELF rubbish")
    docker_config(home, credsStore="odd")
    with pytest.raises(AccessError, match="can't be run"):
        found()


# Broken files


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f"{SECRET}", "is no JSON object"),
        ("[]", "is no JSON object"),
        ("null", "is no JSON object"),
        ("[" * 100_000, "is no JSON object"),
        ('{"auths": []}', "auths that is no object"),
        ('{"credHelpers": "x"}', "credHelpers that is no object"),
        (f'{{"auths": {{"{HOST}": "{SECRET}"}}}}', "an entry for .* of another shape"),
        (f'{{"auths": {{"{HOST}": {{"auth": ["{SECRET}"]}}}}}}', "an entry for .* of another shape"),
        (f'{{"auths": {{"{HOST}": {{"auth": "{SECRET}"}}}}}}', "not user:password in base64"),
        (f'{{"auths": {{"{HOST}": {{"auth": "{b64(NAME)}"}}}}}}', "not user:password in base64"),
        (f'{{"auths": {{"{HOST}": {{"auth": "/////w=="}}}}}}', "not user:password in base64"),
        (f'{{"auths": {{"{HOST}": {{"registrytoken": "{SECRET}"}}}}}}', "characters that no token has"),
    ],
)
def test_broken_file(home: Path, text: str, problem: str) -> None:
    """A file that can't be understood is one error that names it, and nothing of what is in it."""
    path = home / ".docker/config.json"
    write(path, text)
    with pytest.raises(AccessError, match=problem) as error:
        found()
    assert str(path) in str(error.value)
    shown = "".join(traceback.format_exception(error.value))
    assert SECRET not in shown
    assert b64(NAME) not in shown


@pytest.mark.parametrize("where", ["environment", "file", "helper"])
def test_what_is_no_text(home: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Half a character, or bytes of another encoding, can't be sent: told with where it comes from."""
    if where == "environment":
        monkeypatch.setenv("REGDATA_USERNAME", NAME)
        monkeypatch.setenv("REGDATA_PASSWORD", "s3cret\udcfc")
    elif where == "file":
        docker_config(home, auths={HOST: {"username": "u", "password": "s3cret\ud83d"}})
    else:
        helper(home, "odd", 'echo \'{"Username": "u", "Secret": "s3cret\\ud83d"}\'')
        docker_config(home, credHelpers={HOST: "odd"})
    with pytest.raises(AccessError, match=r"gives a user or password that is no text \(UTF-8\)") as error:
        found()
    assert "s3cret" not in "".join(traceback.format_exception(error.value))


def test_a_folder_of_others(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a job has no XDG_RUNTIME_DIR a folder in /run that is for somebody else is passed over."""
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    docker_config(home, auths={HOST: entry(NAME)})
    read = Path.read_bytes

    def forbidden(path: Path) -> bytes:
        if path.parts[:2] == ("/", "run"):
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    monkeypatch.setattr("os.access", lambda path, _: Path(path).parts[:2] != ("/", "run"))
    assert (found() or ("",))[0] == NAME
    monkeypatch.setenv("REGISTRY_AUTH_FILE", "/run/mine/auth.json")
    with pytest.raises(AccessError, match=r"/run/mine/auth.json can't be read \(Permission denied\)"):
        found()


def test_unreadable_file(home: Path) -> None:
    """A file that can't be read is an error; one of a folder that is a file is none."""
    (home / ".docker/config.json").mkdir(parents=True)
    with pytest.raises(AccessError, match=r"config\.json can't be read \(Is a directory\)"):
        found()
    (home / ".docker/config.json").rmdir()
    (home / ".docker").rmdir()
    (home / ".docker").write_text("")
    assert found() is None
    write(home / ".docker", "")


@pytest.mark.parametrize("text", [f"machine registry.example.com {SECRET}", f'password "{SECRET}"', "login \udcff"])
def test_broken_netrc(home: Path, text: str) -> None:
    """A netrc file that can't be understood is one error that names the line, and nothing that is in it."""
    (home / ".netrc").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(AccessError, match=r"\.netrc") as error:
        found()
    assert SECRET.split()[0] not in "".join(traceback.format_exception(error.value))


def test_nothing_is_shown() -> None:
    """A credential's repr and its user's name hold no secret."""
    shown = Credential("o", "u", "secret-1", "secret-2", "secret-3")
    assert "secret" not in f"{shown!r} {shown} {shown.user}"
