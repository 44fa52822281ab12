"""What a plan says beside its rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from regdata.inventory.graph import Collector
from regdata.inventory.inventory import Inventory
from regdata.planning.notes import unlisted
from regdata.planning.plan import plan
from tests.support.small import NOW, Small, digest, few


def signed_apart(*, beside: bool = False) -> Inventory:
    """An image in `app`, and a signature of it in `sigs`, or in `app` as well."""
    made = few()
    made.push("app", "1", days=9, x=1)
    for image in ("sigs", *(["app"] if beside else [])):
        made.push(image, f"{digest('app1').replace(':', '-')}.sig", days=9, s=1)
        kinds = made.columns["contents"]
        kinds["kind"][-1] = "signature"
    return made.inventory()


@pytest.mark.parametrize("condition", ["age_days > 90", "NEWEST_RANK > 2", "exists (select tag_timestamp from images)"])
def test_ages_without_push_dates(condition: str) -> None:
    """Over the API a condition on ages has a note that they count from the build; with the folder it has none."""
    [note] = plan(few().inventory(from_store=False), condition).notes
    assert "without registry.base_path" in note
    assert "of the condition counts from when images were built" in note
    assert plan(few().inventory(), condition).notes == ()


def test_what_has_no_ages_has_no_note() -> None:
    """A condition without ages means the same everywhere."""
    assert plan(few().inventory(from_store=False), "tag_name = '1.0' and version_rank > 1").notes == ()


def test_pushed_and_protect() -> None:
    """`pushed` is unknown over the API, and `protect` may count ages, too: each has its note."""
    inventory = replace(few().inventory(from_store=False), protect="newest_rank <= 3")
    pushed, protected = plan(inventory, "pushed < 1").notes
    assert "`pushed` of the condition is NULL" in pushed
    assert "newest_rank of `protect` counts from when" in protected


def test_signatures_kept_apart() -> None:
    """Signatures of images of another repository that stay are named; they go, since nothing there holds them."""
    tag = f"{digest('app1').replace(':', '-')}.sig"
    [note] = plan(signed_apart(), "image_name = 'sigs'").notes
    assert note.startswith(f"1 tag that goes, such as sigs:{tag}, belongs by name to images of other repositories")
    assert "such as one of app (signatures kept apart, COSIGN_REPOSITORY)" in note


@pytest.mark.parametrize(
    ("condition", "is_told"),
    [
        ("case when age_days < 90 then false else true end", True),
        ("not exists (select 1 from images i where i.tag_name = images.tag_name and i.tag_timestamp > 5)", True),
        ("age_days > 0", False),
        ("tag_timestamp is not null", False),
        ("tag_name = 'undated'", False),
    ],
)
def test_what_has_no_date(condition: str, is_told: bool) -> None:
    """Where a condition asks for dates and tags go that have none, it may mean something else than it says."""
    made = few()
    made.push("app", "undated", days=9, x=1)
    for table in ("tags", "revisions"):
        made.columns[table]["pushed"][-1] = None
    found = [note for note in plan(made.inventory(), condition).notes if "no date that can be" in note]
    assert len(found) == is_told
    assert not found or found[0].startswith("1 tag that goes, such as app:undated, has no date")


def test_what_is_too_young() -> None:
    """What no manifest uses, and is younger than two hours, is told where regdata collects."""
    made = few()
    made.blob("left", 4_000_000, days=0)
    own = made.inventory(collector=Collector(own=True))
    [note] = plan(own, "2 = 1").notes
    assert note.startswith("4 MB that no manifest uses are younger than two hours, and stay until then")
    assert plan(made.inventory(), "2 = 1").notes == ()


@pytest.mark.parametrize("condition", ["image_name in ('sigs', 'app')", "image_name = 'a/app'", "2 = 1"])
def test_no_signatures_kept_apart(condition: str) -> None:
    """Where the image goes, too, or the signature stays, selected or not, there is nothing to say."""
    assert plan(signed_apart(), condition).notes == ()
    assert plan(signed_apart(), "1 = 1", protect="1 = 1").notes == ()


def test_signatures_beside_what_they_sign() -> None:
    """A signature in its image's own repository stays with it, and needs no note."""
    assert plan(signed_apart(beside=True), "image_name = 'app' and tag_name like 'sha256-%'").notes == ()


def test_signatures_of_what_is_elsewhere_as_well() -> None:
    """A signature that goes with the image beside it is kept apart from nothing, though another repository has the same
    image, too."""
    made = few()
    made.push("app", "1", days=9, x=1)
    made.push("app", f"{digest('app1').replace(':', '-')}.sig", days=9, s=1)
    made.columns["contents"]["kind"][-1] = "signature"
    made.repository("other")
    made.row("revisions", image_name="other", manifest_hash=digest("app1"), pushed=NOW)
    made.row("tags", image_name="other", tag_name="1", tag_hash=digest("app1"), pushed=NOW)
    found = plan(made.inventory(), "image_name = 'app'")
    assert (len(found.manifests[found.manifests["image_name"] == "app"]), found.notes) == (2, ())


def test_a_clock() -> None:
    """A clock that was allowed for is told."""
    inventory = replace(Small().inventory(), ahead=-7200)
    assert plan(inventory, "2 = 1").notes == (
        "the clock that dates what is stored is 7,200 seconds behind this machine's: ages are counted by it",
    )


@pytest.mark.parametrize(
    ("more", "known", "told"),
    [
        ("2", {"from_store": False}, 1),
        ("1.00", {"from_store": False}, 0),  # beside 1.0, so that the list is whole
        ("2", {"from_store": True}, 0),
        ("2", {"from_store": False, "can_untag": False}, 0),  # 2.x
    ],
)
def test_tags_that_a_list_may_lack(more: str, known: dict[str, bool], told: int) -> None:
    """What 3.x lists over its API may lack tags, unless it shows two of which one extends the other's name."""
    made = few()
    made.push("a/app", more, days=9, x=1)
    assert len(list(unlisted(made.inventory(**known)))) == told


@pytest.mark.parametrize(("other", "told"), [("a", 0), ("b", 1)])
def test_tags_of_another_image_say_nothing(other: str, told: int) -> None:
    """That a list is whole is shown by two tags of the same image."""
    made = Small()
    made.push("a", "1", days=9)
    made.push(other, "10", days=9)
    assert len(list(unlisted(made.inventory(from_store=False)))) == told


@pytest.mark.parametrize("column", ["age_days", "newest_rank", "family_rank", "tag_timestamp"])
def test_each_column_of_ages(column: str) -> None:
    """Whichever column a condition asks for an age by, it is told that this counts from the build over the API."""
    [note] = plan(few().inventory(from_store=False), f"{column} > 1").notes
    assert f"{column} of the condition counts from when images were built" in note


def test_what_has_no_date_and_stays() -> None:
    """A tag without a date that is selected, and that `protect` keeps, does not go: there is nothing to say of it."""
    made = few()
    made.push("app", "undated", days=9, x=1)
    for table in ("tags", "revisions"):
        made.columns[table]["pushed"][-1] = None
    found = plan(made.inventory(protect="tag_name = 'undated'"), "age_days > 90 or tag_timestamp is null")
    assert "undated" in list(found.tags["tag_name"])
    assert found.notes == ()


@pytest.mark.parametrize("suffix", ["", ".sig", ".att", ".sbom"])
def test_whatever_is_kept_apart(suffix: str) -> None:
    """Be it a signature, an attestation or an SBOM: it is one tag, however many repositories have its image, and it is
    told as long as the image stays in one of them."""
    made, tag = few(), f"{digest('app1').replace(':', '-')}{suffix}"
    made.push("app", "1", days=9, x=1)
    for image in ("other", "third"):
        made.repository(image)
        made.row("revisions", image_name=image, manifest_hash=digest("app1"), pushed=NOW)
        made.row("tags", image_name=image, tag_name="1", tag_hash=digest("app1"), pushed=NOW)
    made.push("sigs", tag, days=9, s=1)
    made.columns["contents"]["kind"][-1] = "signature"
    [note] = plan(made.inventory(), "image_name in ('app', 'sigs')").notes
    assert note.startswith(f"1 tag that goes, such as sigs:{tag}, belongs by name to images of other repositories")
    assert "such as one of app (" not in note


@pytest.mark.parametrize(
    "column", ["age_days", "newest_rank", "family_rank", "tag_timestamp", "pushed", "created", "idle_days"]
)
def test_each_column_of_dates(column: str) -> None:
    """Whichever column of dates a condition asks for, it is told that a tag goes which has none."""
    made = few()
    made.push("app", "undated", days=9, x=1)
    for table, name in (("tags", "pushed"), ("revisions", "pushed"), ("contents", "created")):
        made.columns[table][name][-1] = None
    [note] = plan(made.inventory(), f"case when {column} < 0 then false else true end").notes
    assert note.startswith("1 tag that goes, such as app:undated, has no date that can be")


def test_a_column_that_a_condition_names_twice() -> None:
    """It is told once."""
    [note] = plan(few().inventory(from_store=False), "age_days > 90 or AGE_DAYS < 2").notes
    assert ": age_days of the condition counts from when images were built" in note
