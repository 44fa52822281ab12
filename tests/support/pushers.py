"""A client that pushes all kinds of images all the time, in a process of its own that can be stopped and continued.

``python -m tests.support.pushers URL SEED LOG`` writes a line of JSON for each manifest that it pushed: repository,
digest, when it was sent, and the registry's answer.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from regdata.demo.samples import Blob, Image, make_image, make_index, make_layer, make_referrer
from tests.support.helpers import ROOT

REPOSITORIES = ("shop/web", "shop/api", "shop/api/worker", *(f"team-{number}/app" for number in range(20)))
LAYERS = [make_layer(("soak", number), 300 + 137 * number) for number in range(10)]
TAGS = [*map(str, range(1, 20)), "latest"]


class Refused(Exception):
    """The registry did not take a manifest: what it names is not there (400)."""


class Pusher:
    """Pushes as docker does: it asks for each blob, mounts or uploads what is missing, and starts again if refused."""

    def __init__(self, url: str, seed: int, log: Path) -> None:
        self.url, self.log = url, log
        self.chance = random.Random(seed)
        self.session = requests.Session()
        self.session.trust_env = False

    def run(self) -> None:
        while True:
            image, repository = self.any_image(), self.chance.choice(REPOSITORIES)
            reference = self.chance.choice(TAGS) if self.chance.random() < 0.8 else None
            time.sleep(self.chance.random() * 0.3)
            for _ in range(3):
                try:
                    self.push(repository, reference, image)
                    break
                except Refused:
                    continue
                except requests.ConnectionError:  # it is stopped while it is collected
                    time.sleep(0.2)

    def any_image(self) -> Image:
        """One of a few hundred: most have been there before."""
        kind = self.chance.random()
        if kind < 0.15:
            return make_index([self.plain(), self.plain()])
        if kind < 0.25:
            return make_referrer(self.plain())
        return self.plain()

    def plain(self) -> Image:
        layers = self.chance.sample(LAYERS, self.chance.randint(1, 3))
        return make_image(layers, created=1_600_000_000 + self.chance.randrange(3), oci=self.chance.random() < 0.5)

    def push(self, repository: str, reference: str | None, image: Image) -> None:
        base = f"{self.url}/v2/{repository}"
        for child in image.children:
            self.push(repository, None, child)
        for blob in image.blobs:
            if self.session.head(f"{base}/blobs/{blob.digest}").status_code != 200:
                self.bring(base, blob)
        sent = time.time()
        answer = self.session.put(
            f"{base}/manifests/{reference or image.digest}",
            data=image.manifest,
            headers={"Content-Type": image.media_type},
        )
        self.write(repository=repository, digest=image.digest, sent=sent, status=answer.status_code)
        if answer.status_code != 201:
            raise Refused

    def bring(self, base: str, blob: Blob) -> None:
        mount = {"mount": blob.digest, "from": self.chance.choice(REPOSITORIES)} if self.chance.random() < 0.5 else {}
        begun = self.session.post(f"{base}/blobs/uploads/", params=mount)
        if begun.status_code == 201:
            return
        where, half = begun.headers["Location"], len(blob.data) // 2
        if self.chance.random() < 0.2:
            sent = self.session.patch(
                where, data=blob.data[:half], headers={"Content-Type": "application/octet-stream"}
            )
            time.sleep(self.chance.random() * 0.5)
            self.session.put(sent.headers["Location"], params={"digest": blob.digest}, data=blob.data[half:])
        else:
            self.session.put(where, params={"digest": blob.digest}, data=blob.data)

    def write(self, **line: Any) -> None:
        with self.log.open("a") as file:
            file.write(json.dumps(line) + "\n")


@contextmanager
def pushers(url: str, folder: Path, count: int, *, seed: int = 0) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many of them, at work; their logs are in ``folder``."""
    command = [sys.executable, "-m", __name__, url]
    started = [
        subprocess.Popen([*command, str(seed + number), str(folder / f"pushed-{number}.jsonl")], cwd=ROOT)
        for number in range(count)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def pushed(folder: Path) -> list[dict[str, Any]]:
    """What they wrote down."""
    lines = [line for log in folder.glob("pushed-*.jsonl") for line in log.read_text().splitlines()]
    return [json.loads(line) for line in lines if line.endswith("}")]


if __name__ == "__main__":
    Pusher(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])).run()
