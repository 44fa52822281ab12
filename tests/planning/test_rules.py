"""Keep-rules: what they spare stays, with what it needs, for the reason that they give."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

import regdata
from regdata.inventory import references
from regdata.planning.collectors import objections, without_blobs
from regdata.planning.plan import Plan
from regdata.planning.rules import (
    REASONS,
    Spared,
    attached,
    decide,
    held_by,
    manifests_left,
    parts,
    protected,
    spared_again,
)
from regdata.tables.schema import Engine
from tests.support.small import NOW, Small, digest, few, indexed

BOTH = [1, 2]  # the tags 1.0 and 2.0 of a/app


def planned(small: Small, selected: list[int], *frames: pd.DataFrame, can_untag: bool = True) -> Plan:
    inventory = small.inventory(can_untag=can_untag)
    return Plan(**vars(decide(inventory, selected, Spared.of(frames))), condition="made up")


def tags(*ids: int, reason: str = "protected") -> pd.DataFrame:
    return pd.DataFrame({"id": list(ids), "reason": reason})


def manifests(*names: str, reason: str = "protected") -> pd.DataFrame:
    return pd.DataFrame({"image_name": "a/app", "manifest_hash": [digest(name) for name in names], "reason": reason})


def actions(plan: Plan) -> dict[str, tuple[str, str]]:
    rows = plan.tags[["tag_name", "action", "reason"]].itertuples(index=False)
    return {str(tag): (action, reason) for tag, action, reason in rows}


def test_a_tag_that_is_spared() -> None:
    """It stays with its digest, for the reason of the first rule that spares it."""
    plan = planned(few(), BOTH, tags(1, reason="grace"), tags(1, 3))
    assert actions(plan) == {"1.0": ("keep", "grace"), "2.0": ("delete", "selected")}
    assert digest("a/app1.0") not in set(plan.manifests["manifest_hash"])
    assert plan.explain("a/app:1.0") == f"a/app:1.0 stays although the condition selects it: {REASONS['grace']}."


@pytest.mark.parametrize("can_untag", [True, False])
def test_a_manifest_that_is_spared(can_untag: bool) -> None:
    """It stays, as an orphan, too; a tag on it goes alone where that can be, and says why."""
    orphan = "a/appNone"
    plan = planned(few(), BOTH, manifests("a/app1.0", orphan), can_untag=can_untag)
    assert actions(plan) == {"1.0": ("untag" if can_untag else "keep", "protected"), "2.0": ("delete", "selected")}
    assert set(plan.manifests["manifest_hash"]) == {digest("a/app2.0")}
    said = f"a/app@{digest(orphan)} stays: {REASONS['protected']}."
    assert plan.explain(f"a/app@{digest(orphan)}") == said
    assert REASONS["protected"] in plan.explain("a/app:1.0")


def test_nothing_is_spared() -> None:
    """Without `protect`, and where no rule finds anything, everything selected goes."""
    plan = planned(few(), BOTH, protected(few().inventory()))
    assert set(actions(plan)) == {"1.0", "2.0"}
    assert plan.reclaimable == regdata.plan(few().inventory(), "image_name = 'a/app'").reclaimable


def test_protect_as_the_plan_was_told() -> None:
    """Words that the plan gets instead of conf.json's go with it, also to those who look again."""
    inventory = few().inventory(protect="2=1")
    plan = regdata.plan(inventory, "1=1", protect="tag_name = '1.0'", engine="sqlite")
    assert list(plan.spared.tags["id"]) == [1, 3]
    assert (plan.inventory.protect, plan.inventory.engine) == ("tag_name = '1.0'", "sqlite")
    assert plan.inventory.graph is inventory.graph
    assert regdata.plan(inventory, "1=1").inventory is inventory
    assert regdata.plan(few().inventory(protect="1=1"), "1=1", protect="").spared.tags.empty


def test_what_was_spared_is_spared_again() -> None:
    """A newer reading spares what the rules find there, and what was spared before, by name: ids differ."""
    before = few()
    found = regdata.plan(before.inventory(protect="tag_name = '2.0'"), "1=1")
    found = replace(found, spared=Spared.of([*found.spared, manifests("a/appNone")]))
    now = Small()
    now.push("a/app", "0.9", days=500, base=100)
    now.push("a/app", "2.0", days=1, base=100)
    again = spared_again(found, now.inventory(protect="tag_name = '0.9'"))
    assert set(again.tags["id"]) == {1, 2}
    assert list(again.manifests["manifest_hash"]) == [digest("a/appNone")]


def test_exclusive_size_beside_an_unknown_type() -> None:
    """A manifest of unknown type keeps what it mentions, and nothing else."""
    small = few()
    unknown, mentioned = digest("unknown"), digest("a/app2.0")
    small.row("revisions", image_name="a/app", manifest_hash=unknown, pushed=0)
    small.row("contents", manifest_hash=unknown, manifest_size=1, error="unknown media type application/x")
    small.row("references", manifest_hash=unknown, reference_hash=mentioned, reference_kind="unknown")
    inventory = small.inventory()
    anyway = regdata.plan(inventory, "2=1").reclaimable
    assert regdata.plan(inventory, "id = 1").reclaimable - anyway == 1 + 10 + 50
    assert list(inventory.images["exclusive_size"]) == [1 + 10 + 50, 0, 1 + 10 + 30]


@pytest.mark.parametrize("selected", [[], BOTH, [1, 2, 3]])
def test_what_only_an_unknown_type_mentions(selected: list[int]) -> None:
    """A manifest without a tag that one of unknown type names stays, with its layers, whatever else goes."""
    small = few()
    unknown, child = digest("unknown"), digest("a/appNone")
    small.row("revisions", image_name="a/app", manifest_hash=unknown, pushed=0)
    small.row("contents", manifest_hash=unknown, manifest_size=1, error="unknown media type application/x")
    small.row("references", manifest_hash=unknown, reference_hash=child, reference_kind="unknown")
    plan = planned(small, selected)
    assert set(plan.manifests["manifest_hash"]).isdisjoint({unknown, child})
    assert digest("w") not in set(plan.blobs["blob_hash"])
    assert len(plan.manifests) == len(selected)


@pytest.mark.parametrize("pushed", [-1, 0, 1])
def test_what_an_interrupted_run_was_to_delete(pushed: int) -> None:
    """It goes whatever its age, with what it listed, unless it was pushed again since that run began."""
    began = NOW - 600
    small = indexed()
    small.columns["tags"]["tag_hash"][small.columns["tags"]["tag_name"].index("multi")] = digest("aold")
    revisions = small.columns["revisions"]
    for name, date in (("multi", began), ("aNone", began + pushed)):
        revisions["pushed"][revisions["manifest_hash"].index(digest(name))] = date
    inventory = small.inventory()
    assert regdata.plan(inventory, "2=1").manifests.empty
    resumed = [("a", digest(name), began) for name in ("multi", "aNone")]
    gone = regdata.plan(inventory, "2=1", resumed=resumed).manifests
    assert set(gone["manifest_hash"]) == {digest("multi"), *([digest("aNone")] if pushed <= 0 else [])}


@pytest.mark.parametrize(
    ("from_store", "began", "goes"), [(True, NOW - 600, False), (True, None, True), (False, NOW - 600, True)]
)
def test_what_an_interrupted_run_was_to_delete_without_a_date(from_store: bool, began: int | None, goes: bool) -> None:
    """In a folder it may have been pushed again, unless that is known; over the API nothing has a date."""
    small = few()
    small.columns["revisions"]["pushed"] = [None] * 4
    resumed = [("a/app", digest("a/appNone"), began)]
    gone = regdata.plan(small.inventory(from_store=from_store), "2=1", resumed=resumed).manifests
    assert list(gone["manifest_hash"]) == [digest("a/appNone")] * goes


def test_what_is_attached_goes_before_its_subject() -> None:
    """By subject or by a tag's name: else a run that is killed between the two leaves what nobody finds again."""
    small = Small()
    for tag in ("image", "sbom", signature := f"sha256-{digest('aimage').removeprefix('sha256:')}.sig"):
        small.push("a", tag, days=9, base=100)
    contents = small.columns["contents"]
    contents["subject_hash"][contents["manifest_hash"].index(digest("asbom"))] = digest("aimage")
    contents["kind"][contents["manifest_hash"].index(digest(f"a{signature}"))] = "signature"
    plan = regdata.plan(small.inventory(), "tag_name in ('image', 'sbom')")
    assert set(plan.tags["tag_name"]) == {"image", "sbom", signature}
    order = set(zip(plan.order["first"], plan.order["second"], strict=True))
    assert order == {(digest(f"a{tag}"), digest("aimage")) for tag in ("sbom", signature)}


@pytest.mark.parametrize("can_untag", [True, False])
def test_a_tag_on_a_child(can_untag: bool) -> None:
    """A tag on what an index that stays lists goes alone, where that can be, and says why; not once the index goes."""
    inventory = indexed().inventory(can_untag=can_untag)
    plan = regdata.plan(inventory, "image_name = 'a' and tag_name = 'amd64'")
    assert actions(plan) == {"amd64": ("untag" if can_untag else "keep", "index-child")}
    assert plan.manifests.empty
    plan = regdata.plan(inventory, "image_name = 'a' and tag_name in ('amd64', 'multi')")
    assert set(actions(plan).values()) == {("delete", "selected")}
    became = dict(zip(plan.manifests["manifest_hash"], plan.manifests["reason"], strict=True))
    assert became == {digest("multi"): "selected", digest("aamd64"): "selected", digest("aNone"): "child"}


UNREAD = "1 manifests can't be read by distribution, such as a/"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("unknown media type application/x", [UNREAD]),
        ("no complete answer", []),
        ("HTTP 500", []),
        (None, [UNREAD]),
    ],
)
def test_what_stops_a_collector_by_the_api(error: str | None, told: list[str]) -> None:
    """A manifest that the API served and at which a collector stops counts until it goes, as does one at which 3.x
    fails; what did not come whole says nothing."""
    made = few()
    made.columns["contents"]["error"][0] = error
    made.row("oddities", what="stops", hash=digest("a/app1.0"), target="all")
    found = objections(made.inventory(from_store=False), manifests(), version="2.x")
    assert [one[:53] for one in found] == told
    by_3 = objections(made.inventory(from_store=False), manifests(), version="3.x")
    assert any(one.startswith("1 tag can't be served, such as a/app:1.0, ") for one in by_3) is (error == "HTTP 500")
    assert objections(made.inventory(from_store=False), manifests("a/app1.0"), version="2.x") == []


@pytest.mark.parametrize(
    ("layer", "goes", "told"),
    [
        ("x", [], False),
        ("x", ["a/app1.0"], True),
        ("base", ["a/app1.0"], False),
        ("z", [], True),
        ("nobody", [], True),
        ("not stored", [], False),
    ],
)
def test_a_link_by_another_digest_stops_a_collector(layer: str, goes: list[str], told: bool) -> None:
    """A collector of 3.x stops where a link by sha512 is left to what no manifest of its repository names by sha256,
    whether or not another's does; one of 2.x does not."""
    made = few()
    made.row("oddities", image_name="a/app", what="alias", hash=f"sha512:{'5' * 128}", target=digest(layer))
    going = manifests(*goes)[["image_name", "manifest_hash"]]
    assert not objections(made.inventory(), going, version="2.x")
    found = objections(made.inventory(), going, version="3.x")
    assert [one.partition(" layers are linked by another digest")[0] for one in found] == ["1"] * told
    assert all(f"a/app@sha512:{'5' * 128}" in one and "leave gc-command out of conf.json" in one for one in found)


def test_parts_that_do_not_say_what_they_are() -> None:
    """Configs and layers without a media type are parts, too; a layer that is fetched from elsewhere is none."""
    small = few()
    references = small.columns["references"]
    elsewhere = references["reference_hash"].index(digest("x"))
    references["media_type"] = [None] * len(references["media_type"])
    references["media_type"][elsewhere] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    inventory = small.inventory()
    found = parts(inventory, inventory.manifests)
    assert set(found["blob_hash"]) == {*references["reference_hash"]} - {digest("x")}


@pytest.mark.parametrize(
    ("version", "cured", "holds", "told"),
    [
        ("2.x", [], True, ["such as {}, whose repository has no folder _layers"]),
        (
            "3.x",
            [],
            True,
            [
                "such as {}, whose repository has no folder _layers",
                "1 repositories have no folder _layers, such as bare,",
            ],
        ),
        ("2.x", [], False, []),
        ("3.x", [], False, ["1 repositories have no folder _layers, such as bare,"]),
        ("2.x", ["bare"], True, []),
        ("3.x", ["bare"], True, []),
    ],
)
def test_a_repository_without_a_folder_for_layers(version: str, cured: list[str], holds: bool, told: list[str]) -> None:
    """A collector of 2.x passes it over and takes the index that it holds, one of 3.x stops at it, be it empty; neither
    does once it has that folder."""
    made = few()
    made.repository("bare")
    made.row("oddities", image_name="bare", what="no-layers")
    if holds:
        made.blob("index", 1, 9)
        made.row("revisions", image_name="bare", manifest_hash=digest("index"), pushed=NOW)
        made.row("contents", manifest_hash=digest("index"), media_type="m", manifest_size=1, kind="index")
    found = objections(made.inventory(), manifests(), version=version, cured=cured)
    taken = f"{digest('index')} of bare@{digest('index')}"
    assert [words.format(taken) in one for words, one in zip(told, found, strict=True)] == [True] * len(told)


def test_what_an_interrupted_run_was_to_delete_and_is_elsewhere_too() -> None:
    """The same manifest in another repository may be a push in flight: there it is spared for its age."""
    small = Small()
    small.push("a", None, days=1 / 48, x=1)
    small.repository("b")
    small.row("revisions", image_name="b", manifest_hash=digest("aNone"), pushed=NOW - 1800)
    gone = regdata.plan(small.inventory(), "2=1", resumed=[("a", digest("aNone"), NOW)]).manifests
    assert list(gone["image_name"]) == ["a"]


def test_what_is_attached() -> None:
    """What names its image as its subject, whatever its own tag is called, and a signature that is tagged with its
    image's digest: a run that deletes these gives them back where the image stays after all."""
    small = Small()
    for tag in ("image", "bom", signature := f"sha256-{digest('aimage').removeprefix('sha256:')}.sig"):
        small.push("a", tag, days=9)
    contents = small.columns["contents"]
    contents["subject_hash"][contents["manifest_hash"].index(digest("abom"))] = digest("aimage")
    contents["kind"][contents["manifest_hash"].index(digest(f"a{signature}"))] = "signature"
    assert attached(small.inventory()) == {("a", digest("abom")), ("a", digest(f"a{signature}"))}


def test_what_is_explained_first() -> None:
    """The tags that don't simply go come first: of a long table the first rows alone are shown."""
    rows = regdata.plan(few().inventory(protect="tag_name = '2.0'"), "1=1").explanations
    assert list(rows["image_name"] + ":" + rows["tag_name"]) == ["a/app:2.0", "a/app:1.0", "b/app:1.0"]


@pytest.mark.parametrize("from_store", [True, False])
def test_the_cure_for_what_stops_a_collector(from_store: bool) -> None:
    """regdata collects by itself where it knows the registry's folder: by the API alone that has to be given, too."""
    made = few()
    made.row("oddities", what="stops", hash=digest("a/app1.0"), target="all")
    [said] = objections(made.inventory(from_store=from_store), manifests(), version="2.x")
    assert "leave gc-command out of conf.json" in said
    assert ("give registry.base_path, and leave" in said) is not from_store


def test_where_there_may_be_no_folder_for_layers() -> None:
    """Over the API a repository has that folder if a config was pushed into it, be it without a layer; one of an empty
    index alone may have none."""
    made = Small()
    made.push("labels", "1", days=9)
    made.repository("bare")
    made.row("revisions", image_name="bare", manifest_hash=digest("index"), pushed=NOW)
    made.row("contents", manifest_hash=digest("index"), media_type="m", manifest_size=1, kind="index")
    assert without_blobs(made.inventory(from_store=False)) == ["bare"]


def test_folders_for_layers_where_there_are_many_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the API a repository has that folder if a manifest of it names a layer, however many references are read at
    a time."""
    monkeypatch.setattr(references, "BATCH", 1)
    assert without_blobs(few().inventory(from_store=False)) == []


@pytest.mark.parametrize("goes", [True, False])
def test_a_link_by_another_digest_to_a_manifest(goes: bool) -> None:
    """A collector of 3.x has marked a manifest that stays, and does not stop at a link by sha512 to its bytes; it does
    where that goes."""
    made = few()
    made.row("oddities", image_name="a/app", what="alias", hash=f"sha512:{'5' * 128}", target=digest("a/app1.0"))
    going = manifests(*(["a/app1.0"] if goes else []))
    assert bool(objections(made.inventory(), going, version="3.x")) is goes


@pytest.mark.parametrize("from_store", [True, False])
def test_a_link_by_another_digest_over_the_api(from_store: bool) -> None:
    """By the API alone nobody knows how a blob is linked that is served by sha512, too: an image that is named so and
    goes is no reason against a collection of 3.x."""
    made = few()
    made.row("oddities", image_name="a/app", what="alias", hash=f"sha512:{'5' * 128}", target=digest("x"))
    found = objections(made.inventory(from_store=from_store), manifests("a/app1.0"), version="3.x")
    assert bool(found) is from_store


def test_how_many_go_and_why() -> None:
    """Of tags and of manifests it is counted for which reason they go or stay."""
    rows = regdata.plan(indexed().inventory(protect="tag_name = 'old'"), "image_name = 'a'").reasons
    assert sorted(rows[["what", "action", "reason", "count"]].itertuples(index=False, name=None)) == [
        ("manifest", "delete", "child", 1),
        ("manifest", "delete", "selected", 2),
        ("tag", "delete", "selected", 2),
        ("tag", "keep", "protected", 1),
    ]
    assert list(rows["meaning"]) == [REASONS[reason] for reason in rows["reason"]]


@pytest.mark.parametrize(
    ("how", "number", "why"),
    [
        ("blob", 2, "which is linked among the repository's blobs and not among its manifests"),
        ("alias", 1, "which names it by another digest than that by which it is stored"),
    ],
)
def test_what_a_collector_would_take(how: str, number: int, why: str) -> None:
    """It is told how many blobs that are, each once though several repositories need it, and why it does not see that
    they are needed."""
    made = indexed()
    if how == "blob":
        for image in ("a", "b"):
            made.row("oddities", image_name=image, what="blob", hash=digest("aNone"))
        for name in ("multi", "aNone"):
            made.row("revisions", image_name="b", manifest_hash=digest(name), pushed=NOW)
    else:
        other, hashes = f"sha512:{'5' * 128}", made.columns["references"]["reference_hash"]
        hashes[hashes.index(digest("z"))] = other
        made.row("oddities", image_name="a", what="alias", hash=other, target=digest("z"))
    [said] = objections(made.inventory(), manifests(), version="2.x")
    assert said.startswith(f"the registry's garbage collection would take {number} blobs that what stays needs")
    assert why in said


@pytest.mark.parametrize("engine", ["duckdb", "sqlite"])
@pytest.mark.parametrize(
    ("protect", "stays"),
    [
        ("age_days < 30 or newest_rank <= 1", True),
        ("age_days < 30 -- a comment", True),
        ("tag_name = 'none' and age_days < 30", False),
        ("labels like '%keep%'", False),
    ],
)
def test_what_protect_can_not_say_of_a_date(protect: str, stays: bool, engine: Engine) -> None:
    """Of a tag without a date that can be believed `protect` by age says nothing: unknown is young, so it stays; in
    words on other things what is unknown protects nothing."""
    made = few()
    made.push("a/app", "undated", days=1, u=5)
    for table, column in (("tags", "pushed"), ("revisions", "pushed"), ("contents", "created")):
        made.columns[table][column][-1] = 0
    found = regdata.plan(made.inventory(), "image_name = 'a/app'", protect=protect, engine=engine).tags
    rows = found.set_index("tag_name")
    assert (rows["action"]["undated"], rows["action"]["1.0"]) == ("keep" if stays else "delete", "delete")


@pytest.mark.parametrize("listed", [True, False])
def test_bytes_of_what_was_linked_as_a_blob_alone(listed: bool) -> None:
    """A manifest that is linked as a blob alone is there as long as another one lists it; once none does its bytes are
    left of it."""
    made = Small()
    for tag in ("index", None):
        made.push("a", tag, days=9)
    made.row("oddities", image_name="a", what="blob", hash=digest("aNone"))
    if listed:
        row = {"manifest_hash": digest("aindex"), "reference_hash": digest("aNone"), "reference_kind": "manifest"}
        made.row("references", reference_size=1, **row)
    assert manifests_left(made.inventory()) == ([] if listed else [digest("aNone")])


def test_what_protect_matches_beside_what_has_no_date() -> None:
    """A tag without a date stays where `protect` asks for ages, and so does, as ever, what that matches."""
    made = few()
    made.push("a/app", "undated", days=1, u=5)
    for table, column in (("tags", "pushed"), ("revisions", "pushed"), ("contents", "created")):
        made.columns[table][column][-1] = None
    plan = regdata.plan(made.inventory(protect="newest_rank <= 1"), "image_name = 'a/app'")
    stays = ("keep", "protected")
    assert actions(plan) == {"1.0": ("delete", "selected"), "2.0": stays, "undated": stays}


def test_why_a_tag_stays_that_can_not_be_read() -> None:
    """It has no date either; but it stays since it can't be read, and not for `protect`: that is to be mended."""
    made = few()
    made.row("tags", image_name="a/app", tag_name="broken", error="broken tag link")
    plan = regdata.plan(made.inventory(protect="age_days < 30"), "tag_name = 'broken'")
    assert actions(plan) == {"broken": ("keep", "unreadable")}


@pytest.mark.parametrize(
    ("how", "goes"), [("child", True), ("subject", True), ("grandchild", True), ("child of two", False)]
)
def test_what_is_held_by_what_goes(how: str, goes: bool) -> None:
    """What is linked as a blob alone goes with the last one that lists it or names it its subject, at any depth; so its
    config counts as used until then, and regdata's own collector does not spare that for its age."""
    made = Small()
    for tag in ("index", "middle", "other", None):
        made.push("a", tag, days=9)
    for name in ("amiddle", "aNone"):
        made.row("oddities", image_name="a", what="blob", hash=digest(name))
    for cells in made.columns["tags"].values():
        del cells[1]
    pairs = {"child": ["index"], "grandchild": ["middle"], "child of two": ["index", "other"]}.get(how, [])
    contents = made.columns["contents"]
    if how == "subject":
        contents["subject_hash"][contents["manifest_hash"].index(digest("aindex"))] = digest("aNone")
    for name, child in [("index", "amiddle"), *((name, "aNone") for name in pairs)]:
        row = {"manifest_hash": digest(f"a{name}"), "reference_hash": digest(child), "reference_kind": "manifest"}
        made.row("references", reference_size=1, **row)
    held = held_by(made.inventory(), manifests("index").assign(image_name="a", manifest_hash=digest("aindex")))
    assert {("a", digest("aindexc")), ("a", digest("amiddlec"))} <= held
    assert (("a", digest("aNonec")) in held) is goes


def test_bytes_of_manifests_that_are_gone() -> None:
    """Of manifests that were deleted before, only those are left whose bytes are stored."""
    made = few()
    made.blob("there", 7, 9)
    for name in ("there", "gone"):
        made.row("oddities", what="manifest", hash=digest(name))
    assert manifests_left(made.inventory()) == [digest("there")]


def test_parts_of_several_images() -> None:
    """A layer that several images have is looked for, and counted, once."""
    inventory = few().inventory()
    found = parts(inventory, inventory.manifests)
    assert sorted(found["blob_hash"]) == sorted({*inventory.references["reference_hash"]})


@pytest.mark.parametrize("began", [NOW * 1000, -1])
def test_a_time_at_which_no_run_began(began: int) -> None:
    """Milliseconds are no time at which a run began: all that is being pushed would go as what was pushed before."""
    with pytest.raises(regdata.RegdataError, match="when that began"):
        regdata.plan(few().inventory(), "2=1", resumed=[("a/app", digest("a/appNone"), began)])


def test_a_condition_as_it_is_shown() -> None:
    """Without the blanks and line ends around it, as it is shown and kept."""
    plan = regdata.plan(few().inventory(), "\n  tag_name = '1.0'\n")
    assert plan.condition == "tag_name = '1.0'"


def test_what_goes_alone_is_explained_first() -> None:
    """A tag whose digest stays frees nothing, which nobody expects: it comes before those that simply go."""
    made = few()
    made.row("tags", image_name="a/app", tag_name="stable", tag_hash=digest("a/app2.0"), pushed=NOW)
    rows = regdata.plan(made.inventory(), "tag_name in ('1.0', '2.0')").explanations
    assert list(rows["image_name"] + ":" + rows["tag_name"]) == ["a/app:2.0", "a/app:1.0", "b/app:1.0"]


def test_why_a_child_of_an_index_that_goes_stays() -> None:
    """It is told what keeps it, a tag that belongs to it; and not an index, since that goes."""
    made = indexed()
    made.push("a", "bom", days=9)
    contents = made.columns["contents"]
    contents["subject_hash"][contents["manifest_hash"].index(digest("abom"))] = digest("aamd64")
    plan = regdata.plan(made.inventory(), "image_name = 'a' and tag_name in ('amd64', 'multi')")
    assert actions(plan) == {"amd64": ("untag", "has-kept-referrer"), "multi": ("delete", "selected")}


def test_how_many_manifests_stop_a_collector() -> None:
    """A manifest at which a collector stops counts once, though a store that is read in parts tells of it in each."""
    made = few()
    for _ in range(2):
        made.row("oddities", what="stops", hash=digest("a/app1.0"), target="all")
    [said] = objections(made.inventory(), manifests(), version="2.x")
    assert said.startswith("1 manifests can't be read by distribution")


def test_what_an_interrupted_run_was_to_delete_from_elsewhere() -> None:
    """It may come as lists, as JSON has them, and with numbers as frames have them."""
    made = few()
    made.columns["revisions"]["pushed"] = [NOW - 900] * 4
    for row in (["a/app", digest("a/appNone"), NOW - 600], ("a/app", digest("a/appNone"), pd.Series([NOW - 600])[0])):
        plan = regdata.plan(made.inventory(), "2=1", resumed=[row])  # type: ignore[list-item]
        assert list(plan.manifests["manifest_hash"]) == [digest("a/appNone")]


@pytest.mark.parametrize("column", ["pushed", "created", "idle_days"])
def test_whatever_date_protect_asks_for(column: str) -> None:
    """Of a tag without a date that can be believed `protect` by any column of dates says nothing: it stays; what has
    one, and is not matched, goes."""
    made = few()
    made.push("a/app", "undated", days=1, u=5)
    for table, name in (("tags", "pushed"), ("revisions", "pushed"), ("contents", "created")):
        made.columns[table][name][-1] = None
    found = regdata.plan(made.inventory(), "image_name = 'a/app'", protect=f"{column} < 0").tags
    rows = found.set_index("tag_name")
    assert (rows["action"]["undated"], rows["action"]["1.0"]) == ("keep", "delete")
