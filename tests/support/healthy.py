"""Random registries in which nothing is broken, and what a doctor says of them.

``python -m tests.support.healthy 1000`` looks at so many; two numbers are a range.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path

import requests

import regdata
from regdata.demo.local import LocalRegistry
from regdata.demo.samples import (
    Image,
    make_helm_chart,
    make_image,
    make_index,
    make_layer,
    make_referrer,
    make_signature,
    push,
    signature_tag,
)
from tests.support.helpers import age
from tests.support.odd import push_blob, push_image_by, push_index_of_blobs

NAMES = ("app", "app/web", "lib", "a/b/c")


def fill(url: str, chance: random.Random) -> None:
    """Pushes some of everything; tags move, and images go again."""
    layers = [make_layer((chance.random(), number), chance.randrange(1, 2000)) for number in range(6)]

    def plain() -> Image:
        some = chance.sample(layers, chance.randint(0, 3))
        return make_image(some, created=1_600_000_000 + chance.randrange(5), oci=chance.random() < 0.5)

    pushed: list[tuple[str, Image]] = []
    as_blobs: set[str] = set()
    for number in range(chance.randint(0, 12)):
        name, tag = chance.choice(NAMES), chance.choice(["1", "2", "latest", None])
        kind = chance.randrange(8)
        if kind == 0:
            push_blob(url, name, f"{chance.random()}".encode(), chance.choice(["sha256", "sha512"]))
        elif kind == 1:
            push_image_by(url, name, tag, chance.random(), "sha512")
        elif kind == 2:
            child = plain()
            as_blobs.add(child.digest)  # with a manifest of that digest its link would go
            push_index_of_blobs(url, name, f"{number}", child)
        elif kind == 3 and pushed:
            name, image = chance.choice(pushed)
            push(url, name, signature_tag(image), make_signature(image))
            push(url, name, None, make_referrer(image))
        else:
            image = chance.choice([plain(), make_index([plain(), plain()]), make_helm_chart(chance.random(), 900)])
            push(url, name, tag, image)
            pushed.append((name, image))
    for name, image in pushed:
        needed = image.digest in as_blobs or any(other != image and _needs(other, image) for _, other in pushed)
        if chance.random() < 0.1 and not needed:
            requests.delete(f"{url}/v2/{name}/manifests/{image.digest}", timeout=9)
    for name in NAMES:  # so that none of them is empty
        push(url, name, "kept", make_image([make_layer("kept", 10)]))


def _needs(other: Image, image: Image) -> bool:
    return any(child.digest == image.digest for child in other.children)


def unwell(seed: int, folder: Path) -> set[tuple[str, str]]:
    """What a doctor finds in a healthy store, and where."""
    chance = random.Random(seed)
    with LocalRegistry(folder, cache=chance.random() < 0.5) as registry:
        fill(registry.url, chance)
        if chance.random() < 0.8:
            age(registry.base_path, chance.randrange(10**8))
        conf = folder / "conf.json"
        where = {"url": registry.url, "base_path": str(registry.base_path)}
        conf.write_text(json.dumps({"registry": where, "engine": "duckdb", "sql": {}}))
        found = regdata.doctor(regdata.load_config(conf), digests=True)
        return set(zip(found["what"], found["place"], strict=True))


if __name__ == "__main__":
    first, last = (0, int(sys.argv[1])) if len(sys.argv) == 2 else map(int, sys.argv[1:])
    for number in range(first, last):
        with tempfile.TemporaryDirectory() as folder:
            if found := unwell(number, Path(folder)):
                print(number, found)
        if (number + 1 - first) % 50 == 0:
            print(f"{number + 1 - first} looked at", flush=True)
