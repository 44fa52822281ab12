"""What a run deleted, put back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
import requests

import regdata
from regdata import load_config
from regdata.cleaning import undo
from regdata.config import Config
from regdata.demo.samples import make_image, push, signature_tag
from regdata.errors import CleanupError, ConfigError, RegistryError, StorageError
from regdata.notebook import run
from regdata.records.reading import read_facts
from regdata.sources.site import Site
from regdata.sources.storage import Storage
from tests.support.helpers import ROOT, pull_all
from tests.support.proxy import Fault
from tests.support.scene import AMD, BASE, INDEX, LATEST, OLD, ORPHAN, SHARED, NewScene, Scene, broken, repositories
from tests.support.sweeping import data_path

# Only the manifest is its own: config and layers are those of an image that stays.
RELABELLED = make_image([BASE], created=1_500_000_000, annotations={"label": "another"})


def config_of(scene: Scene) -> Config:
    return load_config(scene.conf)


def outcomes(frame: pd.DataFrame) -> dict[str, str]:
    """Outcome by image:tag or image@digest."""
    names = frame["image_name"] + frame["reference"].map(lambda text: f"@{text}" if ":" in text else f":{text}")
    return dict(zip(names, frame["outcome"], strict=True))


@pytest.mark.parametrize("store", [True, False], ids=["store", "api"])
def test_undo(new_scene: NewScene, tmp_path: Path, store: bool) -> None:
    """Before a collection everything comes back: indexes, untagged tags, orphans, signatures, byte for byte."""
    scene = new_scene(store=store)
    before = scene.store()
    names = ["prod/app:1.0", f"prod/app:{signature_tag(INDEX)}", "prod/app:2.0", "prod/old:old"]
    names += [f"prod/app@{ORPHAN.digest}"] if store else []
    pulled = [pull_all(scene.registry, name, tmp_path / f"before-{number}") for number, name in enumerate(names)]
    assert scene.clean(gc=False) == ""
    assert scene.store() != before
    assert scene.store().repositories == before.repositories  # with the links of those that are empty
    frame = regdata.restore(scene.records()[0], config_of(scene))
    assert set(frame["outcome"]) == {"restored"}
    assert scene.store() == before
    again = [pull_all(scene.registry, name, tmp_path / f"after-{number}") for number, name in enumerate(names)]
    assert again == pulled
    tags = (~frame["reference"].str.contains("sha256:")).sum()
    said = undo.verdict(frame)
    assert said.startswith(f"{len(frame)} restored; as pushed today: {tags} tags") if not store else "today" not in said
    assert set(regdata.restore(scene.records()[0], config_of(scene))["outcome"]) == {"present"}


@pytest.mark.parametrize("store", [True, False], ids=["store", "api"])
def test_after_a_collection(new_scene: NewScene, tmp_path: Path, store: bool) -> None:
    """After a collection what it took is lost, and said to be; what it left comes back."""
    scene = new_scene(store=store)
    push(scene.registry.url, "prod/app", "old", RELABELLED)
    pulled = pull_all(scene.registry, "prod/app:old", tmp_path / "before")
    assert scene.clean() == ""
    after = scene.store()
    found = outcomes(frame := undo.restore(scene.records()[0], config_of(scene)))
    assert found["prod/app:old"] == found[f"prod/app@{RELABELLED.digest}"] == "restored"
    assert pull_all(scene.registry, "prod/app:old", tmp_path / "after") == pulled
    lost = [f"prod/app@{AMD.digest}", f"prod/app@{INDEX.digest}", "prod/app:1.0", f"prod/old@{OLD.digest}"]
    assert {found[name] for name in lost} == {"lost"}
    assert scene.store().lacks(after) == after.lacks(after)
    assert broken(scene.base_path) == []
    with pytest.raises(
        CleanupError, match=rf"of {len(frame)} could not be restored \(.* lost.*\), such as prod/\S+: its"
    ):
        undo.verdict(frame)


def test_lost_child(new_scene: NewScene) -> None:
    """The reason names what is missing: a layer, or an index's child."""
    scene = new_scene()
    scene.clean()
    frame = undo.restore(scene.records()[0], config_of(scene))
    why = frame.set_index("reference")["why"]
    assert why[AMD.digest] == f"its config {AMD.blobs[0].digest} is gone"
    assert why[INDEX.digest] == f"its manifest {INDEX.children[0].digest} is gone"
    assert why["1.0"] == f"its manifest {INDEX.digest} is gone"


@pytest.mark.parametrize("store", [True, False], ids=["store", "api"])
def test_stale_cache(new_scene: NewScene, store: bool) -> None:
    """A cache that claims what a collection took does not fool it: nothing broken is put back."""
    scene = new_scene(store=store, cache=True)
    push(scene.registry.url, "prod/app", "old", RELABELLED)
    for image in (OLD, AMD, INDEX, RELABELLED):
        for digest in (image.digest, *(blob.digest for blob in image.blobs)):
            for repository in ("prod/app", "prod/old"):
                requests.get(f"{scene.registry.url}/v2/{repository}/blobs/{digest}", timeout=5)
    said = scene.clean()
    assert said == "" if store else "cache" in said
    after = scene.store()
    (folder,) = scene.records()
    found = outcomes(frame := undo.restore(folder, config_of(scene)))
    assert found[f"prod/old@{OLD.digest}"] == "lost"
    assert scene.store().lacks(after) == after.lacks(after)
    assert broken(scene.base_path) == []
    if store:  # gc-after did not restart it, so that manifests' bytes were put back
        assert found["prod/app:old"] == found[f"prod/app@{RELABELLED.digest}"] == "restored"
        return
    assert scene.store().revisions == after.revisions
    relabelled = frame.set_index("reference").loc[RELABELLED.digest]
    assert relabelled["outcome"] == "failed"
    assert "restart the registry and restore again" in relabelled["why"]
    scene.registry.restart()
    found = outcomes(undo.restore(folder, config_of(scene)))
    assert found["prod/app:old"] == found[f"prod/app@{RELABELLED.digest}"] == "restored"
    assert broken(scene.base_path) == []


def test_taken_tag(new_scene: NewScene) -> None:
    """A tag that is on another image by now stays there, unless forced; its old digest comes back."""
    scene = new_scene()
    before = scene.store()
    scene.clean(gc=False)
    push(scene.registry.url, "prod/app", "1.0", LATEST)
    folder = scene.records()[0].relative_to(scene.folder)
    frame = undo.restore(folder, config_of(scene))
    found = outcomes(frame)
    assert found.pop("prod/app:1.0") == "taken"
    assert set(found.values()) == {"restored"}
    assert "1 taken" in undo.verdict(frame)
    assert read_facts(scene.folder / folder)["restored"] == "partly"
    assert ("prod/app", "1.0", LATEST.digest) in scene.store().tags
    assert outcomes(undo.restore(folder, config_of(scene), force=True))["prod/app:1.0"] == "restored"
    assert read_facts(scene.folder / folder)["restored"] == "wholly"
    assert scene.store() == before


@pytest.mark.parametrize("gc", [False, True])
def test_an_untagged_digest_that_went_later(new_scene: NewScene, gc: bool) -> None:
    """A tag that went alone comes back though a later run took its digest, from the bytes in its own run's record;
    once a collection has taken the layers it is lost."""
    scene = new_scene()
    before = scene.store()
    assert scene.clean(gc=False) == ""
    scene.set(sql={"none": "2=1", "scene": "tag_name = 'stable'"})
    assert scene.clean(gc=gc) == ""
    first, second = scene.records()
    frame = undo.restore(first, config_of(scene)).set_index("reference")
    if gc:
        assert tuple(frame.loc["2.0", ["outcome", "why"]]) == ("lost", f"its manifest {SHARED.digest} is gone")
        return
    assert set(frame["outcome"]) == {"restored"}
    assert ("prod/app", "2.0", SHARED.digest) in scene.store().tags
    assert outcomes(undo.restore(second, config_of(scene)))["prod/app:stable"] == "restored"
    assert scene.store() == before


def test_killed_run(new_scene: NewScene) -> None:
    """What a killed run had deleted but not written down comes back, too."""
    scene = new_scene()
    before = scene.store()
    scene.clean(gc=False)
    (folder,) = scene.records()
    journal = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    done = ('"event": "deleted"', '"event": "untagged"', '"event": "finished"')
    (folder / "journal.jsonl").write_text("".join(line for line in journal if not any(end in line for end in done)))
    undo.verdict(undo.restore(folder, config_of(scene)))
    assert scene.store() == before


def test_applied_plan(new_scene: NewScene) -> None:
    """What regdata.apply deleted without a notebook can be restored as well."""
    scene = new_scene()
    before = scene.store()
    config = config_of(scene)
    plan = regdata.plan(regdata.scan(config), config.sql["scene"])
    assert regdata.apply(plan, config, gc=False).errors == []
    undo.verdict(regdata.restore(scene.records()[0], config))
    assert scene.store() == before


def test_damaged_manifest(new_scene: NewScene) -> None:
    """A manifest whose bytes are damaged or missing in the record is lost, and the others come back."""
    scene = new_scene()
    scene.clean(gc=False)
    (folder,) = scene.records()
    file = folder / "manifests" / OLD.digest.replace(":", "-")
    file.write_bytes(file.read_bytes()[:-1])
    (folder / "manifests" / ORPHAN.digest.replace(":", "-")).unlink()
    frame = undo.restore(folder, config_of(scene))
    found = outcomes(frame)
    assert {name for name, outcome in found.items() if outcome == "lost"} == {
        f"prod/old@{OLD.digest}",
        "prod/old:old",
        f"prod/app@{ORPHAN.digest}",
    }
    assert "is damaged: content does not match its digest" in frame.set_index("reference")["why"][OLD.digest]
    with pytest.raises(CleanupError, match=r"3 of .* restored .*(is damaged|No such file).* give trash_days"):
        undo.verdict(frame)


def test_refusals(new_scene: NewScene) -> None:
    """What is no run of this registry is one clear error, and nothing is restored."""
    scene = new_scene()
    scene.clean(gc=False)
    after = scene.store()
    config, (folder,) = config_of(scene), scene.records()
    with pytest.raises(CleanupError, match=r"reports/none is not the record of a run: the last one that dele"):
        undo.restore("reports/none", config)
    for wrong in (5, 1.5, 0, ["x"], "x" * 5000, "x\0"):
        with pytest.raises(CleanupError, match=r"regdata runs .*latest"):
            undo.restore(wrong, config)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="force is 'false'"):
        undo.restore(folder, config, force="false")  # type: ignore[arg-type]
    scene.set(registry={"url": "http://127.0.0.1:1"})
    with pytest.raises(
        CleanupError, match=r"is the record of a run on http://127\.0\.0\.1:\d+, but .* is about http://127\.0\.0\.1:1"
    ):
        undo.restore(folder, config_of(scene))
    with Site.open(config).lock(), pytest.raises(StorageError, match="Another regdata run is working on"):
        undo.restore(folder, config)
    (folder / "plan.parquet").write_bytes(b"PAR1")
    with pytest.raises(CleanupError, match=r"plan\.parquet can't be read"):
        undo.restore(folder, config)
    assert undo.runs(config).empty
    assert scene.store() == after


def test_outside_of_what_may_be_touched(new_scene: NewScene) -> None:
    """What is outside registry.repositories is not put back, and it is said why."""
    scene = new_scene()
    scene.clean(gc=False)
    after = scene.store()
    scene.set(registry=scene.settings["registry"] | {"repositories": ["base/*"]})
    frame = undo.restore("latest", config_of(scene))
    assert set(frame["outcome"]) == {"failed"}
    assert set(frame["why"]) == {"it is outside registry.repositories: give it there"}
    assert scene.store() == after


def test_failing_registry(new_scene: NewScene) -> None:
    """A refused manifest does not stop the others, and another try puts it back; without a registry it is an error."""
    scene = new_scene()
    before = scene.store()
    scene.clean(gc=False)
    (folder,) = scene.records()
    scene.proxy.on("PUT", f"/manifests/{OLD.digest}", Fault(500))
    frame = undo.restore(folder, config_of(scene))
    found = outcomes(frame)
    assert (found[f"prod/old@{OLD.digest}"], found["prod/old:old"]) == ("failed", "lost")
    assert set(found.values()) == {"failed", "lost", "restored"}
    with pytest.raises(CleanupError, match=r"2 of .* PUT http.*: HTTP 500.* Restore again once"):
        undo.verdict(frame)
    scene.proxy.on("PUT", f"/manifests/{OLD.digest}", Fault(how="reset"))
    scene.proxy.down = lambda: any(line.startswith("PUT") for line in scene.proxy.seen[len(seen) :])
    seen = list(scene.proxy.seen)
    with pytest.raises(RegistryError, match="the connection broke"):
        undo.restore(folder, config_of(scene))
    scene.proxy.down = lambda: False
    scene.proxy.mend()
    link = repositories(scene.base_path) / "prod/old/_manifests/revisions" / OLD.digest.replace(":", "/") / "link"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.write_bytes(b"")  # as a full disk leaves it
    with pytest.raises(CleanupError, match=rf"HTTP 500.*{link} holds no digest: remove the folder that it is in"):
        undo.verdict(undo.restore(folder, config_of(scene)))
    shutil.rmtree(link.parent)
    undo.verdict(undo.restore(folder, config_of(scene)))
    assert scene.store() == before


def test_what_does_not_read_back(new_scene: NewScene) -> None:
    """A manifest whose bytes the registry did not store once more, since its cache knows them, is taken away again, and
    said to have failed."""
    scene = new_scene(cache=True)
    scene.clean(gc=False)
    data = data_path(scene.registry, OLD.digest)
    scene.proxy.on("GET", f"/manifests/{OLD.digest}", Fault(carried_out=True, before=data.unlink), times=1)
    frame = undo.restore("latest", config_of(scene)).set_index("reference")
    assert frame.loc[OLD.digest, "outcome"] == "failed"
    assert "restart the registry and restore again" in str(frame.loc[OLD.digest, "why"])
    assert ("prod/old", OLD.digest) not in scene.store().revisions


@pytest.mark.parametrize("store", [True, False])
@pytest.mark.parametrize("fault", [Fault(500), Fault(how="reset"), Fault(403)], ids=["500", "reset", "403"])
def test_what_can_not_be_read_back(new_scene: NewScene, fault: Fault, store: bool) -> None:
    """Where the registry fails though the bytes are there, what was put back stays, with what was pushed onto it."""
    scene = new_scene(store=store)
    scene.clean(gc=False)

    def pushed() -> None:
        push(scene.registry.url, "prod/old", "new", OLD)

    scene.proxy.on("GET", f"/manifests/{OLD.digest}", replace(fault, before=pushed), times=1)
    scene.proxy.on("GET", f"/manifests/{OLD.digest}", fault)
    frame = undo.restore("latest", config_of(scene)).set_index("reference")
    assert frame.loc[OLD.digest, "outcome"] == "failed"
    assert "restart the registry" not in str(frame.loc[OLD.digest, "why"])
    assert ("prod/old", "new", OLD.digest) in scene.store().tags
    scene.proxy.mend()
    undo.verdict(undo.restore("latest", config_of(scene)))


def test_runs(new_scene: NewScene) -> None:
    """The runs that deleted something, the last one first, and whether a collection has begun since."""
    scene = new_scene()
    config = config_of(scene)
    assert undo.runs(config).empty
    assert scene.clean(gc=False) == ""
    folder = f"reports/{scene.records()[0].name}"
    run.start(sql_id="none", conf=str(scene.conf)).scan()
    (first,) = undo.runs(config).to_dict("records")
    assert first["started"].endswith("Z")
    assert {key: value for key, value in first.items() if key != "started"} == {
        "run": folder,
        "sql_id": "scene",
        "manifests": 8,
        "tags": 4,
        "collected": False,
    }
    another_registrys(scene.records()[0])
    assert undo.runs(config).to_dict("records") == [first]
    push(scene.registry.url, "prod/app", "1.0", LATEST)
    assert scene.clean() == ""
    frame = undo.runs(config)
    assert list(frame["run"])[1:] == [folder]
    assert list(frame["collected"]) == [True, True]


def test_runs_that_failed(new_scene: NewScene) -> None:
    """A run that failed after its deletions can be restored as well, and what it may have collected is counted."""
    scene = new_scene()
    scene.set(gc_command=["sh", "-c", "exit 3"])
    assert scene.clean() != ""
    (failed,) = undo.runs(config_of(scene)).to_dict("records")
    assert (failed["tags"], failed["collected"]) == (4, True)
    undo.verdict(undo.restore(failed["run"], config_of(scene)))
    assert scene.clean(gc=False) == ""
    assert list(undo.runs(config_of(scene))["collected"]) == [False, True]


def another_registrys(folder: Path) -> None:
    """A later record beside this one, of a run on another registry which collected."""
    other = Path(shutil.copytree(folder, folder.with_name("99991231T000000Z-scene")))
    facts = json.loads((other / "record.json").read_bytes())
    elsewhere = {"registry": "http://elsewhere:5000", "registry_id": None, "started": "9999-12-31T00:00:00Z"}
    (other / "record.json").write_text(json.dumps(facts | elsewhere))
    with (other / "journal.jsonl").open("a") as journal:
        journal.write('{"event": "running", "step": "gc-command"}\n')


def papermill(scene: Scene, *options: str) -> tuple[int, nbformat.NotebookNode]:
    """The user's command, in the folder of conf.json; its exit code and the executed notebook."""
    command = ["papermill", str(ROOT / "notebooks/restore.ipynb"), "out.ipynb", *options]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=scene.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    return done.returncode, nbformat.read(scene.folder / "out.ipynb", as_version=4)


def test_notebook(new_scene: NewScene) -> None:
    """`papermill restore.ipynb out.ipynb -p run reports/<…>` restores; where something is lost its last cell fails."""
    scene = new_scene()
    before = scene.store()
    scene.clean(gc=False)
    folder = f"reports/{scene.records()[0].name}"
    code, notebook = papermill(scene, "-p", "run", folder)
    assert code == 0
    assert scene.store() == before
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output["data"]["text/plain"] for output in outputs if "data" in output]
    assert folder in shown[0]
    assert outputs[-1]["text"] == f"{len(undo.restore(folder, config_of(scene)))} restored\n"
    scene.clean()
    lost = f"reports/{scene.records()[1].name}"
    code, notebook = papermill(scene, "-p", "run", lost)
    assert code == 1
    (output,) = notebook.cells[-1]["outputs"]
    assert output["ename"] == "CleanupError"
    assert "could not be restored" in output["evalue"]


def test_notebook_form() -> None:
    """The notebook is a list of calls: no outputs, no functions, parameters with types and comments."""
    notebook = nbformat.read(ROOT / "notebooks/restore.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell["outputs"] for cell in code] == [[]] * len(code)
    assert not any("def " in cell.source for cell in code)
    assert [line.partition(" = ")[0] for line in code[0].source.splitlines()] == [
        "run: str",
        "conf: str",
        "force: bool",
    ]


def test_what_does_not_read_back_and_got_a_tag_meanwhile(new_scene: NewScene) -> None:
    """A manifest whose bytes the registry did not store once more, and onto which somebody has pushed a tag by then,
    stays with it: the tag is whole once the registry was restarted and it is restored again."""
    scene = new_scene(cache=True)
    scene.clean(gc=False)
    data = data_path(scene.registry, OLD.digest)

    def pushed() -> None:
        push(scene.registry.url, "prod/old", "new", OLD)
        data.unlink()

    scene.proxy.on("GET", f"/manifests/{OLD.digest}", Fault(carried_out=True, before=pushed), times=1)
    frame = undo.restore("latest", config_of(scene)).set_index("reference")
    assert frame.loc[OLD.digest, "outcome"] == "failed"
    assert ("prod/old", "new", OLD.digest) in scene.store().tags


def test_nothing_is_restored_without_a_run(tmp_path: Path) -> None:
    """Run All in restore.ipynb as it stands puts nothing back, asks nobody, and is no error."""
    (tmp_path / "conf.json").write_text(json.dumps({"registry": {"url": "http://127.0.0.1:1"}, "sql": {}}))
    frame = undo.restore("", load_config(tmp_path / "conf.json"))
    assert (len(frame), undo.verdict(frame)) == (0, "nothing was to be restored")


def test_what_the_folder_does_not_take(new_scene: NewScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the folder can't be written for one tag, on a full disk say, that has failed, and the others come back."""
    scene = new_scene()
    scene.clean(gc=False)
    backdate = Storage.backdate

    def full(storage: Storage, repository: str, *of: str, **dates: Any) -> bool:
        if repository == "prod/old":
            raise StorageError("No space left on device")
        return backdate(storage, repository, *of, **dates)

    monkeypatch.setattr(Storage, "backdate", full)
    frame = undo.restore("latest", config_of(scene))
    found = outcomes(frame)
    assert found.pop("prod/old:old") == "failed"
    assert set(found.values()) == {"restored"}
    with pytest.raises(CleanupError, match=r"such as prod/old:old: No space left on device\. Restore again once"):
        undo.verdict(frame)


@pytest.mark.parametrize(
    ("reference", "named"), [("sha256:ab", "app@sha256:ab"), ("1.0", "app:1.0")], ids=["manifest", "tag"]
)
def test_what_could_not_be_restored_by_its_name(reference: str, named: str) -> None:
    """The error names the first that did not come back, as a client would: a manifest by @, a tag by a colon; how many
    tags have today's date it says, too."""
    rows = [("app", "2.0", "restored", f"tag put back on sha256:cd; {undo.TODAY}"), ("app", "3.0", "taken", "it is on")]
    rows += [("app", reference, "lost", "its layer is gone"), ("app", "4.0", "failed", "refused")]
    frame = pd.DataFrame(rows, columns=["image_name", "reference", "outcome", "why"])
    with pytest.raises(CleanupError) as raised:
        undo.verdict(frame)
    assert str(raised.value).startswith("2 of 4 could not be restored (1 restored, 1 taken, 1 lost, 1 failed; as ")
    assert "as pushed today: 1 tag, whose dates" in str(raised.value)
    assert f"such as {named}: its layer is gone. {undo.KEPT}" in str(raised.value)
