"""Lists of what runs: each shape that they have, references in each spelling, and each way in which they fail."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from regdata.config import load_config
from regdata.errors import CleanupError
from regdata.usage.inuse import Use, read

NAMES = ("registry.example:5000", "registry.prod.svc", "mirror.example/docker")
HEX = "ab" * 32
DIGEST = f"sha256:{HEX}"


def uses(text: str, path: Path, names: Sequence[str] = NAMES) -> list[Use]:
    """What a list with this text names."""
    path.write_text(text)
    return read([path], names, Path())[str(path)]


def named(document: Any, path: Path) -> set[tuple[str, str]]:
    """repository:tag or repository@digest, and who uses it."""
    return {
        (f"{use.repository}@{use.digest}" if use.digest else f"{use.repository}:{use.tag}", use.by)
        for use in uses(document if isinstance(document, str) else json.dumps(document), path)
        if use.ours
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "running"


SPELLINGS = {
    "registry.example:5000/shop/api:1.2": ("shop/api", "1.2", ""),
    "registry.example:5000/shop/api": ("shop/api", "latest", ""),
    f"registry.example:5000/shop/api@{DIGEST}": ("shop/api", "", DIGEST),
    f"registry.example:5000/shop/api:1.2@{DIGEST}": ("shop/api", "1.2", DIGEST),
    "REGISTRY.Example:5000/shop/api:1.2": ("shop/api", "1.2", ""),
    "registry.prod.svc/api:v1_x-Y.z": ("api", "v1_x-Y.z", ""),
    "registry.prod.svc:443/api:1": ("api", "1", ""),
    "registry.prod.svc:80/api:1": ("api", "1", ""),
    "mirror.example/docker/library/nginx:1": ("library/nginx", "1", ""),
    f"docker-pullable://registry.prod.svc/a@{DIGEST}": ("a", "", DIGEST),
    "  registry.prod.svc/a__b/c-d.e:1  ": ("a__b/c-d.e", "1", ""),
}


@pytest.mark.parametrize("text", SPELLINGS)
def test_spellings(text: str, path: Path) -> None:
    """A reference is understood in each spelling, by each name that the registry has."""
    assert [use[:3] for use in uses(text, path) if use.ours] == [SPELLINGS[text]]


def test_without_a_registry(path: Path) -> None:
    """A reference that names no registry may mean this one; one that names another does not."""
    assert uses("shop/api:1", path) == [Use("shop/api", "1", "", str(path), ours=False)]
    assert [use.repository for use in uses("nginx", path)] == ["nginx", "library/nginx"]
    for text in (
        "quay.io/shop/api:1",
        "localhost/api",
        "registry.example/api:1",
        "registry.example:5001/api",
        "mirror.example/x",
    ):
        assert not any(use.ours for use in uses(text, path)), text
        assert all(
            "/" in use.repository and ("." in use.repository or "localhost" in use.repository)
            for use in uses(text, path)
        )


def test_ids(path: Path) -> None:
    """An image's id, whole or as `docker ps` shortens it, may be any image's."""
    for text in (DIGEST, HEX, f"docker://{DIGEST}", HEX[:12]):
        found = uses(text, path)[0]
        assert found == Use("", "", text.removeprefix("docker://").removeprefix("sha256:"), str(path), ours=False)


def test_text(path: Path) -> None:
    """One reference a line; blank lines and comments say nothing, and a BOM and CRLF do no harm."""
    text = "\ufeff# what runs\r\n\r\nregistry.prod.svc/a:1\r\n  registry.prod.svc/b:2\r\nregistry.prod.svc/a:1\n"
    assert [use[:2] for use in uses(text, path) if use.ours] == [("a", "1"), ("b", "2")]


def pod_spec(*images: str) -> dict[str, Any]:
    return {"containers": [{"name": f"c{number}", "image": image} for number, image in enumerate(images)]}


def workload(kind: str, name: str, *images: str, **spec: Any) -> dict[str, Any]:
    """A deployment or its like, as `kubectl get -o json` gives it."""
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": "shop",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": '{"image":"registry.prod.svc/old:1"}'},
        },
        "spec": {"template": {"metadata": {"labels": {"app": name}}, "spec": pod_spec(*images)}, **spec},
    }


# As in the Kubernetes API reference: Pod v1 core, ContainerStatus, EphemeralContainer, ImageVolumeSource.
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "web-7d4b9-x2x",
        "namespace": "shop",
        "ownerReferences": [{"kind": "ReplicaSet", "name": "web-7d4b9"}],
    },
    "spec": {
        "initContainers": [
            {"name": "init", "image": "registry.prod.svc/init:1", "env": [{"name": "image", "value": "x"}]}
        ],
        "containers": [{"name": "web", "image": "registry.prod.svc/web:1.2", "imagePullPolicy": "Always"}],
        "ephemeralContainers": [
            {"name": "debug", "image": "registry.prod.svc/debug:latest", "targetContainerName": "web"}
        ],
        "volumes": [
            {"name": "model", "image": {"reference": "registry.prod.svc/model:7", "pullPolicy": "IfNotPresent"}}
        ],
        "imagePullSecrets": [{"name": "registry.prod.svc"}],
    },
    "status": {
        "phase": "Running",
        "containerStatuses": [
            {
                "name": "web",
                "image": "registry.prod.svc/web:1.2",
                "imageID": f"docker-pullable://registry.prod.svc/web@{DIGEST}",
                "containerID": f"containerd://{'cd' * 32}",
                "state": {"running": {"startedAt": "2026-11-01T00:00:00Z"}},
            }
        ],
        "initContainerStatuses": [
            {"name": "init", "image": "registry.prod.svc/init:1", "imageID": f"registry.prod.svc/init@{DIGEST}"}
        ],
        "ephemeralContainerStatuses": [{"name": "debug", "image": "registry.prod.svc/debug:latest", "imageID": ""}],
    },
}
POD_NAMES = {"init:1", "web:1.2", "debug:latest", "model:7", f"web@{DIGEST}", f"init@{DIGEST}"}


def test_pods(path: Path) -> None:
    """A pod's containers of each sort, its volumes, and by digest what really runs."""
    whole = {(name, "shop/Pod/web-7d4b9-x2x") for name in POD_NAMES}
    listed = {"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": [POD]}
    bare = {"kind": "PodList", "metadata": {}, "items": [{k: v for k, v in POD.items() if k != "kind"}]}
    for document in (POD, listed, bare, [POD], f"{json.dumps(listed)}\n{json.dumps(POD, indent=2)}"):
        assert named(document, path) == whole


@pytest.mark.parametrize(
    "kind", ["Deployment", "StatefulSet", "DaemonSet", "Job", "ReplicaSet", "ReplicationController"]
)
def test_workloads(path: Path, kind: str) -> None:
    """What starts pods names what they need, also while it has none: a replica set of an earlier rollout, say."""
    document = {
        "kind": f"{kind}List",
        "items": [workload(kind, "web", "registry.prod.svc/a:1", "quay.io/b:2", replicas=0)],
    }
    assert ("a:1", f"shop/{kind}/web") in named(document, path)


def test_cron_jobs(path: Path) -> None:
    """A cron job's template lies deeper."""
    template = {"spec": workload("Job", "x", "registry.prod.svc/a:1")["spec"]}
    job = {
        "kind": "CronJob",
        "metadata": {"name": "nightly", "namespace": "ops"},
        "spec": {"schedule": "0 3 * * *", "jobTemplate": template},
    }
    assert ("a:1", "ops/CronJob/nightly") in named(job, path)


@pytest.mark.parametrize(
    "document",
    [
        '{"Image":"registry.prod.svc/a:1","Names":"web","ID":"0123456789ab","State":"running"}\n{"Image":"0123456789ab","Names":"db"}',
        [{"Image": "registry.prod.svc/a:1", "Names": ["web"], "ImageID": HEX}],
        [{"Config": {"Image": "registry.prod.svc/a:1"}, "Name": "/web", "Image": DIGEST}],
    ],
    ids=["docker ps", "podman ps", "docker inspect"],
)
def test_containers(path: Path, document: Any) -> None:
    """Docker's and Podman's lists."""
    assert ("a:1", "container/web") in named(document, path)


@pytest.mark.parametrize(
    "image",
    ["", "<none>", "a b", ":::", "../../etc", "A/B", None, 5, ["x"], {"reference": None}, "x" * 99999, "\ud800"],
)
def test_odd_images(path: Path, image: Any) -> None:
    """What can't be pulled runs nowhere: whoever may start pods can't stop the clean-up with one."""
    assert named([{"image": image}, {"image": "registry.prod.svc/a:1"}], path) >= {("a:1", "")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names nothing at all"),
        ("\n# nothing\n", "names nothing at all"),
        ("[]", "names nothing at all"),
        ('{"kind": "List", "items": []}', "names nothing at all"),
        ('{"kind": "Status", "status": "Failure", "message": "Forbidden"}', "names nothing at all"),
        ("No resources found in default namespace.", r"line 1 \('No resources"),
        ("registry.prod.svc/a:1\nerror: timed out", r"line 2 \('error"),
        ("<html>", "line 1"),
        ('{"kind": "List", "items": [{"image": "registry.pr', "is not JSON"),
        ('{"image": "a"} rubbish', "is not JSON"),
        ("[" * 100_000, "is no list"),
        ("[" + "1" * 5000 + "]", "is no list"),
    ],
)
def test_bad_lists(path: Path, text: str, said: str) -> None:
    """A list that is empty, cut off or something else is an error that names it."""
    with pytest.raises(CleanupError, match=f"^in-use: {path} .*{said}.*Nothing was deleted"):
        uses(text, path)


def command(script: str) -> tuple[str, ...]:
    return (sys.executable, "-c", script)


def test_commands() -> None:
    """A command's output is a list."""
    argv = command("print('registry.prod.svc/a:1')")
    (found,) = read([argv], NAMES, Path()).values()
    assert found[0][:3] == ("a", "1", "")


def test_what_a_command_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs in conf.json's folder, as all commands of that do, and without regdata's own secrets."""
    for name in ("REGDATA_PASSWORD", "REGDATA_TOKEN", "REGISTRY_AUTH_FILE"):
        monkeypatch.setenv(name, "secret")
    (tmp_path / "running.sh").write_text("#!/bin/sh\necho registry.prod.svc/a:$(env | grep -c secret)\n")
    (tmp_path / "running.sh").chmod(0o755)
    (found,) = read([("./running.sh",)], NAMES, tmp_path).values()
    assert [use.tag for use in found if use.ours] == ["0"]


def test_a_secret_in_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who uses a tag is said as conf.json says it, wherever that gets to: plan, tags.csv, snapshot."""
    monkeypatch.setenv("CLUSTER_TOKEN", "t0p s3cret")
    (tmp_path / "t0p s3cret").write_text("registry.prod.svc/b:1")
    lists = [["echo", "registry.prod.svc/a:1", "#", "${CLUSTER_TOKEN}"], "${CLUSTER_TOKEN}"]
    (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": "http://r"}, "sql": {}, "in-use": lists}))
    config = load_config(tmp_path)
    found = read([config.in_use[0][:2], *config.in_use[1:]], NAMES, tmp_path)  # type: ignore[index]
    found |= read([("sh", "-c", "echo registry.prod.svc/a:1", config.in_use[0][3])], NAMES, tmp_path)  # type: ignore[index]
    assert "s3cret" not in repr(found)
    assert {use.by.rpartition("/")[2].strip("'") for uses_ in found.values() for use in uses_ if use.ours} == {
        "a:1",
        "${CLUSTER_TOKEN}",
        "a:1' '${CLUSTER_TOKEN}",
    }


def test_no_room_for_what_it_prints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A disk that is full, or a TMPDIR that is none."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with pytest.raises(CleanupError, match=r"has nowhere to print to .*make room, or let TMPDIR say where"):
        read([command("pass")], NAMES, tmp_path)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("no-such-command",), "can't be run"),
        (
            command("import sys; print('registry.prod.svc/a:1'); sys.exit('no cluster')"),
            r"failed \(exit code 1\): no cluster",
        ),
        (
            command("import os; print('registry.prod.svc/a:1', flush=True); os.kill(os.getpid(), 9)"),
            r"failed \(exit code -9\)",
        ),
        (command("pass"), "names nothing at all"),
        (command("import sys; sys.stdout.buffer.write(b'\\xff\\xfe')"), "is not UTF-8"),
    ],
)
def test_bad_commands(argv: tuple[str, ...], said: str) -> None:
    """A command that fails or says nothing is an error, whatever it printed before."""
    with pytest.raises(CleanupError, match=f"in-use: .*{said}"):
        read([argv], NAMES, Path())


@pytest.mark.slow
def test_slow_command(tmp_path: Path) -> None:
    """A command that hangs is ended, with what it started."""
    mark = tmp_path / "mark"
    child = f"import time; time.sleep(3); open({str(mark)!r}, 'w')"
    argv = command(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])")
    with pytest.raises(CleanupError, match=r"took more than 0\.5 s"):
        read([argv], NAMES, Path(), limit=0.5)
    time.sleep(3.5)
    assert not mark.exists()


def test_endless_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that prints without end is ended before it fills the disk."""
    monkeypatch.setattr("regdata.usage.inuse.LARGEST", 2**20)
    with pytest.raises(CleanupError, match="printed more than 1048576 bytes"):
        read([("yes", "registry.prod.svc/a:1")], NAMES, Path())


@pytest.mark.parametrize("text", ["[" * 200, "[" + "1," * 200, "a\n" * 200])
def test_many_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A list of very many parts is an error before each of them takes memory."""
    monkeypatch.setattr("regdata.usage.inuse.PARTS", 100)
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(CleanupError, match="is larger than 100 lines or parts"):
        read([tmp_path / "a.txt"], NAMES, Path())


def test_files(tmp_path: Path) -> None:
    """A glob is all of its files, each with something to say; one that finds none, and no file, are errors."""
    (tmp_path / "a.txt").write_text("registry.prod.svc/a:1")
    (tmp_path / "b[1].txt").write_text("registry.prod.svc/b:1")
    assert len(read([tmp_path / "*.txt"], NAMES, Path())) == 2
    assert len(read([tmp_path / "b[1].txt"], NAMES, Path())) == 1
    (tmp_path / "c.txt").write_text("")
    with pytest.raises(CleanupError, match=r"c\.txt names nothing"):
        read([tmp_path / "*.txt"], NAMES, Path())
    for path, said in (
        (tmp_path / "absent", "can't be read"),
        (tmp_path / "x*", "matches no file"),
        (tmp_path, "is no file"),
        (tmp_path / ("x" * 300), "can't be read .File name too long"),
    ):
        with pytest.raises(CleanupError, match=said):
            read([path], NAMES, Path())


def test_large_list(path: Path) -> None:
    """A cluster of 20,000 pods is read in no time."""
    pods = [POD | {"metadata": {"name": f"p{number}", "namespace": "shop"}} for number in range(2_000)]
    assert len({use.by for use in uses(json.dumps({"kind": "List", "items": pods}), path)}) == 2_000


@pytest.mark.parametrize("who", [{"metadata": {"name": "\ud800x"}}, {"Names": ["/\ud800"]}])
def test_odd_names_of_who_uses_it(path: Path, who: dict[str, Any]) -> None:
    """Half a surrogate pair in a name is shown as what it is not."""
    ((_, by),) = named([{"kind": "Pod", "image": "registry.prod.svc/a:1", **who}], path)
    assert "\N{REPLACEMENT CHARACTER}" in by
