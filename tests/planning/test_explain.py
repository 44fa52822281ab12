"""Why a tag or a manifest goes or stays, in a sentence."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import regdata
from regdata import Inventory, Plan, RegdataError
from regdata.demo.samples import make_signature, referrers_tag, signature_tag
from regdata.planning.rules import REASONS
from regdata.sources.columns import merge
from regdata.sources.storage import Storage
from tests.support.scene import AMD, CONDITION, INDEX, LATEST, LIBRARY, OLD, ORPHAN, SBOM, SHARED
from tests.support.small import DAY, NOW, Small, digest, few, indexed

NewPlan = Callable[..., Plan]


@pytest.fixture(scope="module")
def new_plan(scene_folder: Path) -> NewPlan:
    """`new_plan(condition, protect=…, can_untag=…, scanned_at=…)` on the scene's store."""
    storage = Storage(scene_folder / "store")
    columns = merge([storage.read(part) for part in storage.split(1)])

    def make(condition: str = CONDITION, protect: str = "", **known: Any) -> Plan:
        known = {"scanned_at": int(time.time()), "from_store": True} | known
        return regdata.plan(Inventory.from_columns(columns, **known), condition, protect=protect)

    return make


SENTENCES = {
    "prod/app:1.0": "goes: the condition selects it, and nothing that stays needs its digest.",
    "prod/app:2.0": "goes, but its digest stays and frees nothing: another tag that stays is on the same digest "
    "(prod/app:stable).",
    "prod/app:latest": "stays: the condition does not select it.",
    f"prod/app:{signature_tag(INDEX)}": "goes although the condition does not select it: it belongs to a manifest "
    "that goes.",
    f"prod/app:{signature_tag(LATEST)}": "stays: the condition does not select it.",
    f"prod/app@{INDEX.digest}": "goes: the condition selects it.",
    f"prod/app@{AMD.digest}": "goes: only a deleted index lists it.",
    f"prod/app@{make_signature(INDEX).digest}": "goes: it belongs to a manifest that goes.",
    f"prod/app@{ORPHAN.digest}": "goes: no tag reaches it.",
    f"prod/app@{SHARED.digest}": "stays: something that stays needs it (prod/app:stable).",
    f"prod/app@{SBOM.digest}": "stays: something that stays needs it (prod/app:latest).",
    f"base/lib@{LIBRARY.digest}": "stays: something that stays needs it (base/lib:1).",
}


@pytest.mark.parametrize("reference", SENTENCES)
def test_sentences(new_plan: NewPlan, reference: str) -> None:
    """A sentence says whether it goes, why, and which tags hold what stays."""
    assert new_plan().explain(reference) == f"{reference} {SENTENCES[reference]}"


def test_selected_but_kept(new_plan: NewPlan) -> None:
    """What the condition selects and what stays all the same is told with the reason."""
    plan = new_plan("1=1", "tag_name in ('latest', '1.0')")
    name = "prod/app:latest"
    assert plan.explain(name) == f"{name} stays although the condition selects it: `protect` matches it."
    name = f"prod/app:{signature_tag(LATEST)}"
    assert plan.explain(name) == (
        f"{name} stays although the condition selects it: it belongs to a manifest that stays (prod/app:latest)."
    )
    name = f"prod/app:{referrers_tag(LATEST)}"
    assert "it belongs to a manifest that stays (prod/app:latest)" in plan.explain(name)
    name = f"prod/app@{AMD.digest}"
    assert plan.explain(name) == f"{name} stays: something that stays needs it (prod/app:1.0)."


def test_registry_that_cannot_untag(new_plan: NewPlan) -> None:
    """Where a tag can't go alone, that is why it stays."""
    name = "prod/app:2.0"
    assert new_plan(can_untag=False).explain(name) == (
        f"{name} stays although the condition selects it: another tag that stays is on the same digest "
        "(prod/app:stable), and this registry can't delete a tag alone."
    )


def test_grace(new_plan: NewPlan) -> None:
    """A young orphan stays, since a push may be in flight."""
    pushed = int(time.time()) - 3 * 86400
    name = f"prod/app@{ORPHAN.digest}"
    assert new_plan(scanned_at=pushed + 3600).explain(name) == (
        f"{name} stays: no tag reaches it, but it is younger than 2 hours, or nobody knows how old: a push may be in "
        "flight."
    )


@pytest.mark.parametrize(
    ("reference", "hint"),
    [
        ("prod/app:1.1", r"did you mean prod/app:1\.0"),
        (f"prod/old@{INDEX.digest}", f"prod/old@{INDEX.digest} when it was scanned"),
        ("prod/app", "when it was scanned"),
        ("1.2", "^the registry had no 1.2 when"),
        ("'; drop table x --:y", "Write image:tag"),
    ],
)
def test_unknown(new_plan: NewPlan, reference: str, hint: str) -> None:
    """What the registry did not have is an error, with what may have been meant."""
    with pytest.raises(RegdataError, match=hint if hint[0] == "^" else f"^the registry had no .*{hint}"):
        new_plan().explain(reference)


def test_nothing_asked(new_plan: NewPlan) -> None:
    """Without a reference it says what to give: the notebook's parameter is empty by default."""
    assert new_plan().explain("").startswith("To have the fate of a tag or a manifest explained, give image:tag")


def test_one_image_at_a_time(new_plan: NewPlan) -> None:
    """The same digest in another image has its own sentence."""
    plan = new_plan("image_name = 'prod/old'")
    assert plan.explain(f"prod/old@{OLD.digest}").endswith("goes: the condition selects it.")
    assert plan.explain("prod/app:1.0").endswith("stays: the condition does not select it.")


def test_tags_that_name_one_another() -> None:
    """Of two signatures in a ring, by their tags' names, each stays, and none is its own reason."""
    made, names = Small(), {"a": f"sha256-{digest('b')[7:]}.sig", "b": f"sha256-{digest('a')[7:]}.sig"}
    made.repository("app")
    for name, tag in names.items():
        made.row("revisions", image_name="app", manifest_hash=digest(name), pushed=NOW - 90 * DAY)
        made.row("tags", image_name="app", tag_name=tag, tag_hash=digest(name), pushed=NOW - 90 * DAY)
        made.row("contents", manifest_hash=digest(name), media_type="m", manifest_size=1, kind="signature")
    plan = regdata.plan(made.inventory(), "1 = 1")
    for name in (f"app:{tag}" for tag in names.values()):
        assert plan.explain(name) == (
            f"{name} stays although the condition selects it: it belongs to a manifest that stays."
        )


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("a:1", "goes: the condition selects it, and nothing that stays needs its digest."),
        ("b:1", "stays: the condition does not select it."),
        (f"a@{digest('a1')}", "goes: the condition selects it."),
        (f"b@{digest('a1')}", "stays: something that stays needs it (b:1)."),
    ],
)
def test_the_same_in_two_images(reference: str, said: str) -> None:
    """The fate of a tag, or of a digest, is that in the image that is asked for, not in another that has it, too."""
    made = Small()
    made.push("a", "1", days=9)
    made.repository("b")
    made.row("revisions", image_name="b", manifest_hash=digest("a1"), pushed=NOW - 9 * DAY)
    made.row("tags", image_name="b", tag_name="1", tag_hash=digest("a1"), pushed=NOW - 9 * DAY)
    assert regdata.plan(made.inventory(), "image_name = 'a'").explain(reference) == f"{reference} {said}"


@pytest.mark.parametrize(
    ("can_untag", "said"),
    [
        (True, "goes, but its digest stays and frees nothing: {}."),
        (False, "stays although the condition selects it: {}, and this registry can't delete a tag alone."),
    ],
)
def test_a_digest_that_something_else_needs(can_untag: bool, said: str) -> None:
    """Where an index lists it, or something belongs to it, it is told which tags are on that."""
    made = indexed()
    made.push("a", "bom", days=9)
    contents = made.columns["contents"]
    contents["subject_hash"][contents["manifest_hash"].index(digest("abom"))] = digest("aold")
    plan = regdata.plan(made.inventory(can_untag=can_untag), "image_name = 'a' and tag_name in ('amd64', 'old')")
    for name, why in (
        ("a:amd64", "an index that stays lists it (a:multi)"),
        ("a:old", "a tag that stays belongs to it (a:bom)"),
    ):
        assert plan.explain(name) == f"{name} {said.format(why)}"


@pytest.mark.parametrize(("others", "said"), [(3, "a:0, a:1, a:2"), (4, "a:0, a:1, a:2 and 1 more")])
def test_many_tags_on_a_digest(others: int, said: str) -> None:
    """Three of those that hold it are named, and it is told how many more there are."""
    made = Small()
    made.push("a", "old", days=9)
    for number in range(others):
        made.row("tags", image_name="a", tag_name=str(number), tag_hash=digest("aold"), pushed=NOW - DAY)
    plan = regdata.plan(made.inventory(), "tag_name = 'old'")
    assert plan.explain("a:old").endswith(f": another tag that stays is on the same digest ({said}).")


@pytest.mark.parametrize(
    ("image", "said"),
    [("a/app", "the registry had no a/app@.* when it was scanned"), ("b/app", "is outside registry.repositories")],
)
def test_a_digest_that_is_not_there(image: str, said: str) -> None:
    """Of a repository within registry.repositories it is unknown; only others were not looked at."""
    plan = regdata.plan(few().inventory(within=("a/app",)), "2=1")
    with pytest.raises(RegdataError, match=said):
        plan.explain(f"{image}@{digest('absent')}")


def test_what_stays_for_several_reasons() -> None:
    """A tag that holds a digest is named once, though the digest stays for another reason as well."""
    made = Small()
    made.push("a", "old", days=9)
    made.row("tags", image_name="a", tag_name="other", tag_hash=digest("aold"), pushed=NOW - DAY)
    made.row("tags", image_name="a", tag_name="broken", error="broken tag link")
    said = regdata.plan(made.inventory(), "tag_name = 'old'").explain("a:old")
    assert said.endswith(": another tag that stays is on the same digest (a:other).")


def test_the_reason_that_lasts() -> None:
    """A young manifest without a tag, beside what can't be read, stays for that: in two hours it would not go."""
    made = Small()
    made.push("a", None, days=1 / 48)
    made.row("tags", image_name="a", tag_name="broken", error="broken tag link")
    said = regdata.plan(made.inventory(), "2=1").explain(f"a@{digest('aNone')}")
    assert said == f"a@{digest('aNone')} stays: {REASONS['unreadable']}."


def test_what_an_interrupted_run_was_to_delete_and_is_listed_again() -> None:
    """Its own age does not keep it, and is not told; it stays since an index lists it that came since."""
    made, began = indexed(), NOW - 600
    made.columns["tags"]["tag_hash"][made.columns["tags"]["tag_name"].index("multi")] = digest("aold")
    revisions = made.columns["revisions"]
    for name, date in (("multi", began + 60), ("aNone", began)):
        revisions["pushed"][revisions["manifest_hash"].index(digest(name))] = date
    plan = regdata.plan(made.inventory(), "2=1", resumed=[("a", digest("aNone"), began)])
    assert plan.explain(f"a@{digest('multi')}") == f"a@{digest('multi')} stays: {REASONS['grace']}."
    assert plan.explain(f"a@{digest('aNone')}") == f"a@{digest('aNone')} stays: something that stays needs it."
