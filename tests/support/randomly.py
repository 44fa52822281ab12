"""Random stores of a real registry, cleaned up by a random condition, and what holds of each.

``python -m tests.support.randomly 1000`` checks so many with regdata's own collection, every second one with what was
collected kept and restored; two numbers are a range.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

import regdata
from regdata.cleaning.undo import runs
from regdata.config import Config, load_config
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Image,
    make_image,
    make_index,
    make_layer,
    make_referrer,
    make_signature,
    push,
    referrers_tag,
)
from regdata.planning.plan import Plan
from tests.support.helpers import pull_all, store_bytes, store_tags

DAY = 86400
LAYERS = [make_layer(("pool", number), 100 + 37 * number) for number in range(8)]
IMAGES = ("shop/web", "shop/api", "shop/api/worker", "tools")
TAGS = ("1", "2", "3", "latest", "stable")
ACCEPT = {"Accept": ", ".join((DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX))}


class RandomStore:
    """Fills a registry with what pushes, moved tags, signatures and deletions leave behind."""

    def __init__(self, registry: LocalRegistry, seed: int) -> None:
        self.registry = registry
        self.chance = random.Random(seed)
        self.pushed: dict[str, list[Image]] = {}

    def fill(self) -> None:
        steps = [self.image, self.image, self.image, self.index, self.index, self.again, self.sign, self.sign]
        steps += [self.refer, self.refer, self.elsewhere, self.delete]
        for image in self.chance.sample(IMAGES, self.chance.randint(2, len(IMAGES))):
            self.pushed[image] = []
            self.image(image)
            for step in self.chance.choices(steps, k=self.chance.randint(4, 12)):
                step(image)
        self.age()
        if self.chance.random() < 0.25:
            self.lose()

    def push(self, image: str, tag: str | None, made: Image) -> None:
        push(self.registry.url, image, tag, made)
        self.pushed[image].append(made)

    def any_of(self, image: str) -> Image:
        return self.chance.choice(self.pushed[image])

    def tag(self) -> str | None:
        """A tag's name, often one that is taken; None: pushed by digest alone."""
        return self.chance.choice([*TAGS, *TAGS, None])

    def make(self) -> Image:
        layers = self.chance.sample(LAYERS, self.chance.randint(1, 3))
        created = 1_600_000_000 + self.chance.randrange(9)
        return make_image(layers, created=created, oci=self.chance.random() < 0.5)

    def image(self, image: str) -> None:
        self.push(image, self.tag(), self.make())

    def index(self, image: str) -> None:
        """An index, at times of an index, or of an image that has a tag too."""
        children = [self.make(), self.chance.choice([self.make(), self.any_of(image)])]
        attest = self.chance.random() < 0.5
        made = make_index(children, oci=attest or self.chance.random() < 0.7, attest=attest)
        if self.chance.random() < 0.3:
            made = make_index([made, self.make()])
        self.push(image, self.tag(), made)

    def again(self, image: str) -> None:
        """One more tag on a digest."""
        self.push(image, self.tag(), self.any_of(image))

    def elsewhere(self, image: str) -> None:
        """What another repository has, too."""
        other = self.chance.choice(list(self.pushed))
        if self.pushed[other]:
            self.push(image, self.tag(), self.any_of(other))

    def sign(self, image: str) -> None:
        """By cosign's tags; at times a signature of a signature."""
        subject = self.any_of(image)
        suffix = self.chance.choice([".sig", ".sig", ".att", ".sbom"])
        self.push(image, referrers_tag(subject) + suffix, make_signature(subject))

    def refer(self, image: str) -> None:
        """By `subject`: with the fallback tag, with a tag of its own, with none; at times of what isn't there."""
        subject = self.any_of(image) if self.chance.random() < 0.8 else self.make()
        made = make_referrer(subject)
        way = self.chance.choice(["fallback", "tag", "none"])
        self.push(image, "bill-of-materials" if way == "tag" else None, made)
        if way == "fallback":
            self.push(image, referrers_tag(subject), make_index([made]))

    def delete(self, image: str) -> None:
        """A deletion that nobody collected after."""
        digest = self.any_of(image).digest
        requests.delete(f"{self.registry.url}/v2/{image}/manifests/{digest}", timeout=10)
        self.pushed[image] = [made for made in self.pushed[image] if made.digest != digest] or self.pushed[image]

    def age(self) -> None:
        """Most of it is days old, some is just being pushed. Links to layers are old: where a manifest went that was
        linked within the grace, nobody knows that its layers are no push in flight."""
        for link in self.registry.base_path.glob("docker/registry/v2/repositories/**/_layers/**/link"):
            os.utime(link, (time.time() - 9 * DAY,) * 2)
        for link in self.links():
            then = time.time() - self.chance.choice([9 * DAY, 8 * DAY, 7 * DAY, 3 * 3600, 600])
            os.utime(link, (then, then))

    def links(self) -> list[Path]:
        repositories = self.registry.base_path / "docker/registry/v2/repositories"
        return sorted(repositories.glob("**/_manifests/**/link"))

    def lose(self) -> None:
        """A manifest's bytes are gone, as a disk does it."""
        link = self.chance.choice([link for link in self.links() if "revisions" in link.parts])
        hex_ = link.parent.name
        blobs = self.registry.base_path / "docker/registry/v2/blobs/sha256"
        (blobs / hex_[:2] / hex_ / "data").unlink()


def pull(session: requests.Session, url: str, image: str, reference: str) -> dict[str, str] | None:
    """Every manifest, config and layer below a reference: digest -> where; None where it isn't whole."""
    answer = session.get(f"{url}/v2/{image}/manifests/{reference}", headers=ACCEPT)
    if answer.status_code != 200:
        return None
    manifest = answer.json()
    got = {"sha256:" + hashlib.sha256(answer.content).hexdigest(): reference}
    if answer.headers["Docker-Content-Digest"] not in got:
        return None
    for child in manifest.get("manifests", []):
        below = pull(session, url, image, child["digest"])
        if below is None:
            return None
        got |= below
    for blob in [*manifest.get("layers", []), *filter(None, [manifest.get("config")])]:
        data = session.get(f"{url}/v2/{image}/blobs/{blob['digest']}")
        if data.status_code != 200 or "sha256:" + hashlib.sha256(data.content).hexdigest() != blob["digest"]:
            return None
        got[blob["digest"]] = "blob"
    return got


def names(tags: set[str]) -> str:
    return ", ".join(f"'{tag}'" for tag in sorted(tags)) or "''"


def rows(plan: Plan, *actions: str) -> set[str]:
    tags = plan.tags[plan.tags["action"].isin(actions)]
    return set(tags["image_name"] + ":" + tags["tag_name"])


@contextmanager
def skopeo_pulls(registry: LocalRegistry, tags: list[str], seed: int, folder: Path) -> Iterator[None]:
    """skopeo gets the same files before and after; in every fifth store, of the first ordinary tag."""
    ordinary = [tag for tag in tags if ":sha256-" not in tag][: seed % 5 == 0]
    before = [_copied(registry, tag, folder / "before") for tag in ordinary]
    yield
    assert [_copied(registry, tag, folder / "after") for tag in ordinary] == before


def _copied(registry: LocalRegistry, tag: str, folder: Path) -> dict[str, str] | None:
    """What skopeo gets; None where it gets nothing: it takes no list in a list."""
    try:
        return pull_all(registry, tag, folder)
    except AssertionError:
        return None


def check(seed: int, registry: LocalRegistry, folder: Path, **more: Any) -> None:
    """Fills the registry and cleans it up; ``more``: for conf.json. AssertionError where a tag that stays does not pull
    as before, the store is not smaller by what was said, a second plan finds more, or what was kept does not come
    back."""
    with requests.Session() as session:
        session.trust_env = False
        _Case(seed, registry, session, folder, more).check()


class _Case:
    def __init__(
        self, seed: int, registry: LocalRegistry, session: requests.Session, folder: Path, more: dict[str, Any]
    ) -> None:
        self.seed, self.registry, self.session, self.folder = seed, registry, session, folder
        self.store = RandomStore(registry, seed)
        self.store.fill()
        self.tags = sorted(store_tags(registry.base_path))
        self.selected = set(self.store.chance.sample(self.tags, self.store.chance.randint(0, len(self.tags))))
        self.protected = set(self.store.chance.sample(self.tags, self.store.chance.randint(0, 2)))
        self.condition = f"image_name || ':' || tag_name in ({names(self.selected)})"
        self.config = self.configured(more)

    def configured(self, more: dict[str, Any]) -> Config:
        conf = self.folder / "conf.json"
        where = {"url": self.registry.url, "base_path": str(self.registry.base_path)}
        protect = f"image_name || ':' || tag_name in ({names(self.protected)})"
        conf.write_text(json.dumps({"registry": where, "engine": "duckdb", "sql": {}, "protect": protect} | more))
        return load_config(conf)

    def pulled(self) -> dict[str, dict[str, str] | None]:
        return {tag: pull(self.session, self.registry.url, *tag.rsplit(":", 1)) for tag in self.tags}

    def check(self) -> None:
        registry, config = self.registry, self.config
        before, size = self.pulled(), store_bytes(registry.base_path)
        plan = regdata.plan(regdata.scan(config), self.condition)
        going = rows(plan, "delete", "untag")
        assert not going & self.protected
        assert all(":sha256-" in tag for tag in going - self.selected)
        staying = [tag for tag in self.tags if before[tag] and tag not in going]
        with skopeo_pulls(registry, staying, self.seed, self.folder):
            result = regdata.apply(plan, config, force=True)

        assert result.errors == [], result.errors
        assert size - store_bytes(registry.base_path) == plan.reclaimable, result.notes
        freed = 0 if config.trash_days else plan.reclaimable
        assert (result.bytes_freed, result.bytes_expected) == (freed, freed), result.notes
        assert store_tags(registry.base_path) == set(self.tags) - going
        for tag, after in self.pulled().items():
            assert after == (None if tag in going else before[tag]), tag
        again = regdata.plan(regdata.scan(config), self.condition)
        left = (rows(again, "delete", "untag"), len(again.manifests), again.reclaimable)
        assert left == (set(), 0, 0), left
        if config.trash_days and (going or not plan.manifests.empty):
            regdata.restore(runs(config)["run"].iloc[0], config)
            back = self.pulled()  # and what an index had lacked before, maybe
            assert all((before[tag] or {}).items() <= (back[tag] or {}).items() for tag in self.tags)


if __name__ == "__main__":
    first, last = (0, int(sys.argv[1])) if len(sys.argv) == 2 else map(int, sys.argv[1:])
    for number in range(first, last):
        with tempfile.TemporaryDirectory() as folder, LocalRegistry(Path(folder), cache=True) as started:
            try:
                check(number, started, Path(folder), **({"trash_days": 7} if number % 2 else {}))
            except Exception as error:
                print(number, type(error).__name__, str(error)[:500], flush=True)
        if (number + 1 - first) % 50 == 0:
            print(f"{number + 1 - first} checked", flush=True)
