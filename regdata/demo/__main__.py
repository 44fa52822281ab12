"""The sample registry on loopback: `python -m regdata.demo run` is `make demo`, `… lab` is `make lab`."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from regdata.demo.filling import Measure, fill, measure
from regdata.demo.local import LocalRegistry, die_with_parent
from regdata.errors import RegdataError, StorageError


@contextmanager
def demo_registry(folder: Path, *, fresh: bool) -> Iterator[tuple[LocalRegistry, Path]]:
    """The demo's registry, running and filled, and its conf.json; what it was is replaced if fresh.

    Reports of earlier runs stay. StorageError when another demo is using the folder.
    """
    folder.mkdir(exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StorageError(f"{folder} is in use by a running demo: stop that one first") from None
    try:
        registry = LocalRegistry(folder, cache=True)  # as registries come
        filled = folder / "filled"
        if fresh or not filled.exists():
            filled.unlink(missing_ok=True)
            shutil.rmtree(registry.base_path, ignore_errors=True)
        with registry:
            print(f"registry    {registry.url}, its folder is {_short(registry.base_path)}")
            if not filled.exists():
                print(f"filling     {len(fill(registry))} pushes, two years of builds")
                filled.touch()
            conf = folder / "conf.json"
            conf.write_text(json.dumps(_conf(registry), indent=2) + "\n")
            yield registry, conf
    finally:
        os.close(lock)


def _conf(registry: LocalRegistry) -> dict[str, Any]:
    return {
        "registry": {"url": registry.url, "base_path": str(registry.base_path)},
        "engine": "duckdb",
        "protect": "tag_name in ('stable')",
        "sql": {
            "none": "2=1",
            "dummy": "tag_name = 'dummy'",
            "autobuild": "image_name like '%prod%' and image_tag != 'latest'",
            "older_than_90_days": "age_days > 90",
            "keep_last_10": "newest_rank > 10",
        },
        "reports": "reports",
        "cache": "cache",
    }


def run(folder: Path) -> int:
    """The main job on a fresh demo registry: `clear.py autobuild del`; returns its exit code."""
    with demo_registry(folder, fresh=True) as (registry, conf):
        before = measure(registry.base_path)
        earlier = set(folder.glob("reports/*/record.json"))
        print("cleaning    clear.py autobuild del", flush=True)
        (folder / "filled").unlink()  # from here on the next `make lab` has to fill it again
        code = _call([_script("clear.py"), "autobuild", "del"], conf)
        _tell(before, measure(registry.base_path))
        for record in set(folder.glob("reports/*/record.json")) - earlier:
            print(f"{'predicted':12}{json.loads(record.read_text())['bytes_predicted']:44,} bytes")
            print(f"\nreport      {_short(record.with_name('delete.html'))}")
        return code


def _tell(before: Measure, after: Measure) -> None:
    print(f"\n{'':12}{'before':>16}{'after':>16}{'gone':>12}")
    for name, old, new in zip(Measure._fields, before, after, strict=True):
        print(f"{name:12}{old:16,}{new:16,}{old - new:12,}")


def lab(folder: Path) -> int:
    """JupyterLab on the demo registry, with its usual token; returns its exit code."""
    notebooks = Path("notebooks").absolute()
    with demo_registry(folder, fresh=False) as (_, conf):
        command = [_script("jupyter-lab"), f"--ServerApp.root_dir={notebooks}", "--log-level=WARN"]
        command += ["--ip=127.0.0.1", "--LabApp.default_url=/lab/tree/start.ipynb"]
        if os.geteuid() == 0:  # Jupyter refuses to run as root without it
            command.append("--allow-root")
        print("JupyterLab  starts at the URL below; Ctrl-C stops it and the registry", flush=True)
        return _call(command, conf)


def _call(command: list[str], conf: Path) -> int:
    """Run a command on the demo's conf.json; it goes when we go."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"REGDATA_CONF": str(conf)},
        process_group=0,
        preexec_fn=die_with_parent,
    )
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _script(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _short(path: Path) -> str:
    return os.path.relpath(path)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    """`run` or `lab` in the folder `demo`; returns the exit code."""
    jobs = {"run": run, "lab": lab}
    if len(arguments) != 1 or arguments[0] not in jobs:
        print(f"usage: python -m regdata.demo {'|'.join(jobs)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return jobs[arguments[0]](Path("demo").absolute())
    except KeyboardInterrupt:
        print("\nstopped: the demo's registry is down, its folder demo/ stays", file=sys.stderr)
        return 130
    except RegdataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
