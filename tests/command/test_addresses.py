"""Certificates and addresses: what is wrong with one is told by its cause and the key that cures it."""

from __future__ import annotations

import shutil

import pytest
import trustme

import regdata
from regdata.errors import RegistryError
from tests.support.ground import Ground, SetUp, certificates, clean
from tests.support.scene import read_store


@pytest.mark.real
def test_errors_of_tls(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each way in which TLS can fail is told by its cause and the key that cures it."""
    made = certificates(ground)
    url, good = made.url, {key: made.more[key] for key in ("ca", "cert", "key")}
    (ground.folder / "other.pem").write_bytes(trustme.CA().cert_pem.bytes())
    for folder in ("none", "several"):
        (ground.folder / folder).mkdir()
        (ground.folder / folder / "README").write_text("whom we trust")
    for name in ("ca.pem", "other.pem"):
        shutil.copy(ground.folder / name, ground.folder / "several")
    cases: list[tuple[str, dict[str, str], str]] = [
        (url, {}, "a CA that is not known here .* set registry.ca"),
        (url, {"ca": "other.pem"}, "a CA that is not known here"),
        (url, {"ca": "none.pem"}, r"registry.ca .*none.pem can't be read \(No such file"),
        (url, {"ca": "client.key"}, "registry.ca .*client.key does not hold a CA's certificate"),
        (url, {"ca": "ca.pem"}, "wants a client's certificate; set registry.cert and registry.key"),
        (url, {"ca": "none"}, r"registry.ca .*/none does not hold a CA's certificate"),
        (url, good | {"cert": "client.key"}, "registry.cert .*client.key does not hold a certificate in PEM form"),
        (url, good | {"key": "server.key"}, "registry.key .* does not hold the certificate's own key"),
        (url.replace("localhost", "127.0.0.1"), good, "its certificate is not for 127.0.0.1; .*subjectAltName"),
        (url.replace("https", "http"), {}, "the port speaks TLS; write https://"),
    ]
    for address, more, problem in cases:
        with pytest.raises(RegistryError, match=problem):
            regdata.scan(regdata.load_config(ground.conf(SetUp(made.registry, address, more))))
    several = good | {"ca": "several"}
    assert len(regdata.scan(regdata.load_config(ground.conf(SetUp(made.registry, url, several)))).images) > 3
    for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(variable, str(ground.folder / "ca.pem"))
        rest = {key: good[key] for key in ("cert", "key")}
        assert len(regdata.scan(regdata.load_config(ground.conf(SetUp(made.registry, url, rest)))).images) > 3
        monkeypatch.setenv(variable, str(ground.folder / "other.pem"))
        assert len(regdata.scan(regdata.load_config(ground.conf(SetUp(made.registry, url, good)))).images) > 3
        monkeypatch.delenv(variable)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ground.folder / "client.key"))
    with pytest.raises(RegistryError, match="REQUESTS_CA_BUNDLE holds no CA's certificate in PEM form; correct it"):
        regdata.scan(regdata.load_config(ground.conf(SetUp(made.registry, url, rest))))


@pytest.mark.real
@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("{url}/v2", "leave /v2 out of registry.url"),
        ("{url}/v2/prod/app", "leave /v2 and what follows it out of registry.url"),
        ("https://{host}", "the port speaks no TLS; write http://"),
        ("http://no.such.host.invalid", "there is no host no.such.host.invalid"),
    ],
)
def test_mistaken_addresses(ground: Ground, address: str, problem: str) -> None:
    """An address that is nearly right is told with what is wrong in it."""
    registry = ground.registry()
    mistaken = address.format(url=registry.url, host=registry.url.partition("//")[2])
    with pytest.raises(RegistryError, match=problem):
        regdata.scan(regdata.load_config(ground.conf(SetUp(registry, mistaken))))


@pytest.mark.real
@pytest.mark.parametrize("how", ["ipv6", "prefix"])
def test_addresses(ground: Ground, how: str) -> None:
    """By an IPv6 address, and below a path of the registry's own with relative URLs, a clean-up is as any other."""
    if how == "ipv6":
        registry = ground.registry(host="::1")
        url = registry.url
    else:
        registry = ground.registry(more={"http": {"prefix": "/deep/er/", "relativeurls": True}})
        url = f"{registry.url}/deep/er/"
    clean(ground.conf(SetUp(registry, url, {"base_path": str(registry.base_path)})))
    assert {(name, tag) for name, tag, _ in read_store(registry.base_path).tags} >= {("prod/app", "stable")}
    assert not {tag for _, tag, _ in read_store(registry.base_path).tags} & {"1.0", "2.0", "old"}


@pytest.mark.real
def test_dead_proxy(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is not there is told by its name, without its password."""
    registry = ground.registry()
    monkeypatch.setenv("HTTP_PROXY", "http://somebody:secret@127.0.0.1:9")
    with pytest.raises(RegistryError, match=r"the proxy 127\.0\.0\.1:9 does not let us through") as error:
        regdata.scan(regdata.load_config(ground.conf(SetUp(registry, registry.url))))
    assert "secret" not in str(error.value)
    for proxy, problem in (("socks5://u:secret@127.0.0.1:9", "Missing dependencies"), ("::::", "not a valid")):
        monkeypatch.setenv("HTTP_PROXY", proxy)
        with pytest.raises(RegistryError, match=f"the proxy .* can't be used .*{problem}.*check HTTP_PROXY") as error:
            regdata.scan(regdata.load_config(ground.conf(SetUp(registry, registry.url))))
        assert "secret" not in str(error.value)
