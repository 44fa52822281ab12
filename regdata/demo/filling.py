"""Sample images that look like two years of builds, pushed into a real registry and dated; the tests use the same."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import requests

from regdata.demo.local import LocalRegistry
from regdata.demo.samples import (
    Blob,
    Image,
    make_helm_chart,
    make_image,
    make_index,
    make_layer,
    make_referrer,
    make_signature,
    push,
    referrers_tag,
    signature_tag,
)

DAY = 86400


# Two years of builds


class Push(NamedTuple):
    """One push: `when` in epoch seconds; no tags = by digest alone."""

    when: int
    repository: str
    tags: tuple[str, ...]
    image: Image


class App(NamedTuple):
    """A repository that is built again and again; `kilobytes` is its first build's own layer."""

    repository: str
    builds: int
    kilobytes: int
    releases: int  # every n-th build gets a version tag, all move `latest`: the rest are orphans
    platforms: tuple[str, ...] = ("linux/amd64",)


APPS = (
    App("shop/prod-web", 14, 180, releases=1),
    App("shop/prod-api", 12, 150, releases=1),
    App("data/prod-etl", 7, 200, releases=1, platforms=("linux/amd64", "linux/arm64/v8")),
    App("shop/test-web", 8, 180, releases=3),
    App("data/notebook", 7, 300, releases=2),
    App("ml/train", 4, 1500, releases=1),
    App("platform/ci/runner/linux", 3, 120, releases=1),
)
EMPTY_REPOSITORY = "shop/old-cart"


def fill(registry: LocalRegistry, *, now: int | None = None) -> list[Push]:
    """Push the sample images, date them in the store; returns the pushes, oldest first.

    The same `now` (epoch seconds, by default the present) makes the same bytes.
    """
    now = int(time.time()) if now is None else now
    pushes = sorted(_life(now), key=lambda push: push.when)
    for one in pushes:
        for tag in one.tags or (None,):
            push(registry.url, one.repository, tag, one.image)
    deleted = Push(pushes[0].when, EMPTY_REPOSITORY, ("1.0",), pushes[0].image)
    _empty(registry, deleted)
    _date(registry.base_path, pushes)
    _date_layers(registry.base_path, [deleted, *pushes])
    return pushes


def _life(now: int) -> Iterator[Push]:
    bases = [make_layer(("base", year), 700_000 + 80_000 * year) for year in range(4)]
    for year, base in enumerate(bases):
        when = now - 760 * DAY + year * 190 * DAY
        yield Push(when, "platform/base", (f"{year + 1}.0",), make_image([base], created=when))
    builds = {app.repository: list(_builds(app, now, bases)) for app in APPS}
    for made in builds.values():
        yield from made

    web, api, etl = (builds[name] for name in ("shop/prod-web", "shop/prod-api", "data/prod-etl"))
    for released in (web[-4], api[-3]):
        yield released._replace(when=released.when + DAY, tags=("stable",))
    for signed in (web[-1], api[2]):
        signature = make_signature(signed.image)
        yield Push(signed.when + 60, signed.repository, (signature_tag(signed.image),), signature)
    subject, sbom = etl[-1].image, make_referrer(etl[-1].image)
    yield Push(etl[-1].when + 60, etl[-1].repository, (), sbom)
    referrers = make_index([sbom])
    yield Push(etl[-1].when + 61, etl[-1].repository, (referrers_tag(subject),), referrers)
    # A reproducible build says 1970: its date tells nothing about its age.
    epoch = make_image([bases[2], make_layer("reproducible", 250_000)], created=0, oci=True)
    yield Push(now - 45 * DAY, "data/prod-import", ("2.0",), epoch)
    chart = make_helm_chart("web", 20_000)
    yield Push(now - 120 * DAY, "platform/charts/web", ("0.1.0",), chart)


def _builds(app: App, now: int, bases: Sequence[Blob]) -> Iterator[Push]:
    chance = random.Random(app.repository)
    for number in range(app.builds):
        when = now - DAY - int(730 * DAY * (app.builds - 1 - number + chance.random()) / app.builds)
        base = bases[number * len(bases) // app.builds]
        size = int(app.kilobytes * 1000 * (1 + 2 * number / app.builds) * chance.uniform(0.8, 1.2))
        libraries = make_layer((app.repository, "libraries", number // 4), app.kilobytes * 1500)
        images = [
            make_image(
                [base, libraries, make_layer((app.repository, number, platform), size)],
                created=when - 300,
                platform=platform,
                oci=len(app.platforms) > 1,
            )
            for platform in app.platforms
        ]
        image = make_index(images, attest=True) if len(images) > 1 else images[0]
        version = (f"1.{number}",) if number % app.releases == 0 else ()
        yield Push(when, app.repository, (*version, "latest"), image)


def _empty(registry: LocalRegistry, one: Push) -> None:
    """Leave a repository whose only image was deleted; the catalog goes on listing it."""
    digest = push(registry.url, one.repository, one.tags[0], one.image)
    where = f"{registry.url}/v2/{one.repository}/manifests/{digest}"
    with requests.Session() as session:
        session.trust_env = False
        session.delete(where).raise_for_status()


def _date(base_path: Path, pushes: Sequence[Push]) -> None:
    """Set the store's dates to when things were pushed: blobs at first, tags and links at last."""
    root = base_path / "docker/registry/v2"
    for one in reversed(pushes):
        for digest in _digests(one.image):
            algorithm, value = digest.split(":")
            data = root / "blobs" / algorithm / value[:2] / value / "data"
            os.utime(data, (one.when, one.when))
    for when, repository, tags, image in pushes:
        manifests = root / "repositories" / repository / "_manifests"
        links = [manifests / "revisions" / child.digest.replace(":", "/") for child in _tree(image)]
        for tag in tags:
            links.append(manifests / "tags" / tag / "current")
            links.append(manifests / "tags" / tag / "index" / image.digest.replace(":", "/"))
        for link in links:
            os.utime(link / "link", (when, when))


def _date_layers(base_path: Path, pushes: Sequence[Push]) -> None:
    """Set the dates of a repository's links to layers and configs: when they first came."""
    root = base_path / "docker/registry/v2/repositories"
    for one in reversed(pushes):
        for manifest in _tree(one.image):
            for blob in manifest.blobs:
                link = root / one.repository / "_layers" / blob.digest.replace(":", "/") / "link"
                os.utime(link, (one.when, one.when))


def _tree(image: Image) -> Iterator[Image]:
    yield image
    for child in image.children:
        yield from _tree(child)


def _digests(image: Image) -> Iterator[str]:
    for manifest in _tree(image):
        yield manifest.digest
        yield from (blob.digest for blob in manifest.blobs)


class Measure(NamedTuple):
    tags: int
    bytes: int


def measure(base_path: Path) -> Measure:
    """Tags and blob bytes of a store, counted on its files: regdata takes no part in it."""
    root = base_path / "docker/registry/v2"
    tags = sum(1 for _ in root.glob("repositories/**/_manifests/tags/*/current/link"))
    return Measure(tags, sum(data.stat().st_size for data in root.glob("blobs/*/*/*/data")))
