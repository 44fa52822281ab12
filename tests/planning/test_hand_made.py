"""One small registry for each line of the rules that random registries seldom reach."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

import regdata
from regdata.inventory.graph import GRACE, Collector
from regdata.planning.plan import Plan
from tests.support.small import DAY, NOW, Small, digest, few, indexed

pytestmark = pytest.mark.slow

HOUR = 1 / 24


def sign(made: Small, tag: str, subject: str, *, days: float = 9, suffix: str = ".sig", kind: str = "signature") -> str:
    """A signature's tag, named by its subject's digest, on a manifest that says by its kind that it is one."""
    name = f"{digest(subject).replace(':', '-')}{suffix}"
    made.push("a", tag, days=days)
    tags = made.columns["tags"]
    tags["tag_name"][tags["tag_name"].index(tag)] = name
    content(made, f"a{tag}", kind=kind)
    return name


def content(made: Small, manifest: str, **values: Any) -> None:
    """What is known of a manifest is otherwise."""
    at = made.columns["contents"]["manifest_hash"].index(digest(manifest))
    for column, value in values.items():
        made.columns["contents"][column][at] = value


def lists(made: Small, index: str, child: str) -> None:
    """A manifest lists another one."""
    row = {"manifest_hash": digest(index), "reference_hash": digest(child), "reference_kind": "manifest"}
    made.row("references", reference_size=1, **row)


def planned(made: Small, *tags: str) -> Plan:
    names = ", ".join(f"'{tag}'" for tag in tags)
    return regdata.plan(made.inventory(), f"tag_name in ({names})" if tags else "2=1")


def gone(plan: Plan) -> dict[str, str]:
    """The manifests that go, by the names in this file, and why."""
    names = {
        digest(name): name for name in ("aimage", "aother", "asigned", "aNone", "aindex", "achild", "afirst", "asecond")
    }
    manifests = plan.manifests[["manifest_hash", "reason"]].itertuples(index=False)
    return {names.get(hash_, "?"): reason for hash_, reason in manifests}


@pytest.mark.parametrize("suffix", ["", ".sig", ".att", ".sbom"])
def test_what_belongs_to_an_image(suffix: str) -> None:
    """A signature, attestation or SBOM goes and stays with its subject, whatever the condition says."""
    made = Small()
    made.push("a", "image", days=9)
    name = sign(made, "signed", "aimage", suffix=suffix)
    kept = planned(made, name)
    assert kept.tags[["action", "reason"]].to_numpy().tolist() == [["keep", "signs-kept-image"]]
    assert gone(kept) == {}
    assert gone(planned(made, "image")) == {"aimage": "selected", "asigned": "referrer"}
    assert gone(planned(made)) == {}


@pytest.mark.parametrize("suffix", ["", ".sig"])
def test_what_belongs_to_an_image_of_a_longer_digest(suffix: str) -> None:
    """A tag's name has the first 64 hex digits of its subject's digest, whatever the algorithm."""
    made, longer = Small(), f"sha512:{'ab' * 64}"
    made.push("a", "image", days=9)
    name = sign(made, "signed", "aimage", suffix=suffix)
    known = {digest("aimage"): longer, name: f"sha512-{'ab' * 32}{suffix}"}
    for table in made.columns.values():
        for column, values in table.items():
            table[column] = [known.get(value, value) if isinstance(value, str) else value for value in values]
    assert gone(planned(made, "image")) == {"?": "selected", "asigned": "referrer"}
    assert gone(planned(made)) == {}


def test_a_name_that_its_manifest_denies() -> None:
    """What names another subject than its tag does stands for itself, though nobody has that subject."""
    made = Small()
    made.push("a", "image", days=9)
    sign(made, "signed", "aimage")
    content(made, "asigned", subject_hash=digest("nobody"))
    assert gone(planned(made, "image")) == {"aimage": "selected"}


def test_a_ring_of_names() -> None:
    """Two signatures that name one another stay: nobody can tell which follows which."""
    made = Small()
    first = sign(made, "image", "aother")
    second = sign(made, "other", "aimage")
    assert gone(planned(made, first, second)) == gone(planned(made, first)) == {}


def test_a_referrer_that_stays_keeps_its_subject() -> None:
    """By OCI's subject; one that is selected beside its subject goes first, and without it stays, with its tag."""
    made = Small()
    made.push("a", "image", days=9)
    made.push("a", "other", days=9)
    content(made, "aother", subject_hash=digest("aimage"))
    plan = planned(made, "image")
    assert gone(plan) == {}
    assert plan.tags[["action", "reason"]].to_numpy().tolist() == [["untag", "has-kept-referrer"]]
    alone = planned(made, "other")
    assert gone(alone) == {}
    assert alone.tags[["action", "reason"]].to_numpy().tolist() == [["keep", "signs-kept-image"]]
    assert gone(planned(made, "image", "other")) == {"aimage": "selected", "aother": "selected"}


def test_an_index_of_what_belongs_to_several() -> None:
    """An index of referrers follows the one that its tag names where they all belong to that, else it stands for
    itself and keeps them all."""
    for several in (False, True):
        made = Small()
        for tag in ("image", "other", "first", "second", "index"):
            made.push("a", tag, days=9)
        content(made, "afirst", subject_hash=digest("aimage" if several else "aother"))
        content(made, "asecond", subject_hash=digest("aother"))
        content(made, "aindex", kind="index")
        lists(made, "aindex", "afirst")
        lists(made, "aindex", "asecond")
        tags = made.columns["tags"]
        tags["tag_name"][tags["tag_name"].index("index")] = digest("aother").replace(":", "-")
        everything = {*gone(planned(made, "other", "first", "second"))}
        assert everything == (set() if several else {"aother", "afirst", "asecond", "aindex"})


def test_what_names_its_own_child() -> None:
    """An index that is tagged with the digest of its child does not follow it: it stands for itself."""
    made = Small()
    made.push("a", "index", days=9)
    made.push("a", "child", days=9)
    lists(made, "aindex", "achild")
    content(made, "aindex", kind="index")
    content(made, "achild", kind="signature")
    tags = made.columns["tags"]
    tags["tag_name"][tags["tag_name"].index("index")] = name = digest("achild").replace(":", "-")
    assert gone(planned(made, "child")) == {}
    assert gone(planned(made, "child", name)) == {"aindex": "selected", "achild": "selected"}


def test_what_names_what_hangs_on_its_child() -> None:
    """An index that is tagged with the digest of what belongs to its child does not follow that, either."""
    made = Small()
    for tag in ("index", "child", "other"):
        made.push("a", tag, days=9)
    lists(made, "aindex", "achild")
    content(made, "aindex", kind="index")
    content(made, "achild", kind="signature")
    content(made, "aother", kind="signature", subject_hash=digest("achild"))
    tags = made.columns["tags"]
    tags["tag_name"][tags["tag_name"].index("index")] = name = digest("aother").replace(":", "-")
    assert gone(planned(made, "child", "other")) == {}
    assert gone(planned(made, "child", "other", name)) == dict.fromkeys(("aindex", "achild", "aother"), "selected")


@pytest.mark.parametrize(
    ("pushed", "goes"), [(None, False), (NOW - GRACE + 1, False), (NOW - GRACE, True), (NOW - GRACE - 1, True)]
)
def test_the_grace(pushed: int | None, goes: bool) -> None:
    """An orphan goes when it is two hours old; one without a date is young."""
    made = Small()
    made.push("a", None, days=9)
    made.columns["revisions"]["pushed"][0] = pushed
    assert gone(planned(made)) == ({"aNone": "orphan"} if goes else {})


def test_what_an_orphan_lists() -> None:
    """An index that no tag leads to and what it lists go as orphans, both."""
    made = Small()
    for tag in ("index", None):
        made.push("a", tag, days=9)
    lists(made, "aindex", "aNone")
    content(made, "aindex", kind="index")
    for cells in made.columns["tags"].values():
        cells.clear()
    assert gone(planned(made)) == {"aindex": "orphan", "aNone": "orphan"}


@pytest.mark.parametrize("hours", [1, 3])
def test_what_a_young_signature_belongs_to(hours: int) -> None:
    """An old orphan whose signature came an hour ago is in use; later both go."""
    made = Small()
    made.push("a", None, days=9)
    sign(made, "signed", "aNone", days=hours * HOUR)
    assert set(gone(planned(made))) == (set() if hours == 1 else {"aNone", "asigned"})


def test_beside_a_tag_that_can_not_be_read() -> None:
    """No manifest goes beside a tag of which nobody knows what it is on: a tag goes alone, and frees nothing."""
    made = Small()
    made.push("a", "image", days=9)
    made.push("a", None, days=9)
    made.push("b", "image", days=9)
    made.row("tags", image_name="a", tag_name="broken", error="broken tag link")
    plan = planned(made, "image", "broken")
    sizes = plan.inventory.images.set_index(["image_name", "tag_name"])["exclusive_size"]
    assert (sizes["a", "image"], sizes["b", "image"]) == (0, 11)
    assert list(plan.manifests["image_name"]) == ["b"]
    assert plan.tags[["tag_name", "action", "reason"]].to_numpy().tolist() == [
        ["broken", "keep", "unreadable"],
        ["image", "untag", "unreadable"],
        ["image", "delete", "selected"],
    ]


def test_what_is_alive_in_another_image() -> None:
    """Neither a layer, nor the manifest's own bytes are freed while another image holds them; they are counted once."""
    made = Small()
    for image in ("a", "b"):
        made.push(image, "image", days=9, shared=100)
    made.push("c", "image", days=9, shared=100, own=7)
    alone = regdata.plan(made.inventory(), "image_name = 'c'")
    assert dict(zip(alone.blobs["blob_hash"], alone.blobs["blob_size"], strict=True)) == {
        digest("own"): 7,
        digest("cimagec"): 10,
        digest("cimage"): 1,
    }
    every = regdata.plan(made.inventory(), "1=1")
    assert every.reclaimable == 100 + 7 + 3 * 11
    assert every.by_image.set_index("image_name")["bytes"]["(shared by several images)"] == 100


def test_who_collects() -> None:
    """The registry's collector takes whatever no manifest names; regdata's own leaves what is young or of unknown age,
    and what a manifest that stays mentions, by any digest; where the registry does not start anew manifests' bytes
    stay."""
    made, gone = few(), {"nobody", "ripe", "a/app1.0"}
    for name, days in (("young", HOUR), ("ripe", GRACE / DAY), ("mentioned", 9), ("aliased", 9)):
        made.blob(name, 7, days)
    made.row("blobs", blob_hash=digest("undated"), blob_size=7)
    made.row("oddities", image_name="b/app", what="link", hash=digest("mentioned"))
    made.row(
        "references", manifest_hash=digest("b/app1.0"), reference_hash=digest("mentioned"), reference_kind="mention"
    )
    other = f"sha512:{'0' * 128}"
    made.row("oddities", image_name="b/app", what="alias", hash=other, target=digest("aliased"))
    made.row("oddities", image_name="b/app", what="link", hash=digest("aliased"))
    made.row("references", manifest_hash=digest("b/app1.0"), reference_hash=other, reference_kind="mention")
    names = {digest(name): name for name in (*gone, "young", "undated", "mentioned", "aliased")}

    def freed(**collector: bool) -> set[str]:
        inventory = made.inventory(collector=Collector(**collector))
        return {
            names[one]
            for one in regdata.plan(inventory, "image_name = 'a/app' and tag_name = '1.0'").blobs["blob_hash"]
            if one in names
        }

    assert freed() == gone | {"young", "undated", "mentioned", "aliased"}
    assert freed(own=True) == gone
    assert freed(own=True, takes_manifests=False) == {"nobody", "ripe"}
    assert freed(takes_manifests=False) == {"nobody", "ripe", "young", "undated", "mentioned", "aliased"}


def test_an_index_of_which_a_platform_has_no_date() -> None:
    """Over the API it is as old as its youngest platform, and of one nobody knows how old that is: unknown is young."""
    made = indexed()
    dates = made.columns["contents"]["created"]
    known = regdata.plan(made.inventory(from_store=False), "tag_name = 'multi' and age_days > 90")
    assert len(known.tags) == 1
    dates[made.columns["contents"]["manifest_hash"].index(digest("aNone"))] = None
    unknown = regdata.plan(made.inventory(from_store=False), "tag_name = 'multi' and age_days > 90")
    assert unknown.tags.empty


def test_a_layer_that_only_some_fetch_from_elsewhere() -> None:
    """Over the API what one image pushed as an ordinary layer is stored, though another fetches the same."""
    made = Small()
    for tag in ("ours", "theirs"):
        made.push("app", tag, days=400, shared=1000)
    types = made.columns["references"]["media_type"]
    types[-1] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    inventory = made.inventory(from_store=False)
    assert regdata.plan(inventory, "1=1").reclaimable == 1000 + 2 * 10 + 2
    types[1] = types[-1]
    assert regdata.plan(made.inventory(from_store=False), "1=1").reclaimable == 2 * 10 + 2


def test_what_is_mentioned_in_another_repository() -> None:
    """What a text mentions is kept where the blob is linked: not once the manifest is left in another repository."""
    made = few()
    made.blob("named", 7, 9)
    made.row("oddities", image_name="b/app", what="link", hash=digest("named"))
    made.row("references", manifest_hash=digest("b/app1.0"), reference_hash=digest("named"), reference_kind="mention")
    made.row("revisions", image_name="c/app", manifest_hash=digest("b/app1.0"), pushed=NOW - 400 * DAY)
    made.row("tags", image_name="c/app", tag_name="1.0", tag_hash=digest("b/app1.0"), pushed=NOW - 400 * DAY)
    made.repository("c/app")
    inventory = made.inventory(collector=Collector(own=True))
    for condition, goes in (("image_name = 'b/app'", True), ("image_name = 'c/app'", False)):
        freed = set(regdata.plan(inventory, condition).blobs["blob_hash"])
        assert (digest("named") in freed) is goes
        assert digest("b/app1.0") not in freed


@pytest.mark.parametrize("hours", [1, 3])
def test_what_is_signed_since_a_run_was_killed_that_was_to_delete_it(hours: int) -> None:
    """A manifest without a tag whose signature came an hour ago is in use, though an interrupted run was to delete it;
    later both go."""
    made = Small()
    made.push("a", None, days=9)
    sign(made, "signed", "aNone", days=hours * HOUR)
    resumed = [("a", digest("aNone"), NOW - 4 * 3600)]
    plan = regdata.plan(made.inventory(), "2=1", resumed=resumed)
    assert set(gone(plan)) == (set() if hours == 1 else {"aNone", "asigned"})


@pytest.mark.parametrize("own", [True, False])
def test_blobs_beside_what_can_not_be_read(own: bool) -> None:
    """regdata's own collector leaves all that a repository links in which something can't be read, since that may need
    any of it; the registry's own does not. Elsewhere what nobody needs goes."""
    made = few()
    for image, name in (("a/app", "perhaps"), ("b/app", "elsewhere")):
        made.blob(name, 7, 9)
        made.row("oddities", image_name=image, what="link", hash=digest(name))
    made.row("revisions", image_name="a/app", manifest_hash=digest("broken"), pushed=NOW - 9 * DAY)
    made.row("contents", manifest_hash=digest("broken"), error="not JSON")
    freed = set(regdata.plan(made.inventory(collector=Collector(own=own)), "2=1").blobs["blob_hash"])
    assert {digest("elsewhere"), digest("nobody")} <= freed
    assert (digest("perhaps") in freed) is not own


def test_a_tag_that_was_served_damaged() -> None:
    """A tag that could not be read stays with what it is on, though that was read by another tag, which goes alone."""
    made = Small()
    made.push("a", "image", days=9)
    error = "content does not match its digest"
    made.row("tags", image_name="a", tag_name="damaged", tag_hash=digest("aimage"), error=error)
    plan = planned(made, "image", "damaged")
    assert gone(plan) == {}
    assert plan.tags[["tag_name", "action", "reason"]].to_numpy().tolist() == [
        ["damaged", "keep", "unreadable"],
        ["image", "untag", "shared-digest"],
    ]


def test_what_another_repository_links_as_a_blob_alone() -> None:
    """A manifest that one repository has among its blobs alone is an ordinary one in another: there it goes."""
    made = indexed()
    made.row("oddities", image_name="a", what="blob", hash=digest("aNone"))
    made.row("revisions", image_name="b", manifest_hash=digest("aNone"), pushed=NOW - 9 * DAY)
    rows = regdata.plan(made.inventory(), "2=1").manifests[["image_name", "manifest_hash", "reason"]]
    assert rows.to_numpy().tolist() == [["b", digest("aNone"), "orphan"]]


def test_a_signature_that_is_protected() -> None:
    """It stays where its image goes; it has no row in the plan, since the condition does not select it."""
    made = Small()
    made.push("a", "image", days=9)
    name = sign(made, "signed", "aimage")
    plan = regdata.plan(made.inventory(protect=f"tag_name = '{name}'"), "tag_name = 'image'")
    assert gone(plan) == {"aimage": "selected"}
    assert list(plan.tags["tag_name"]) == ["image"]
    assert plan.explain(f"a:{name}") == f"a:{name} stays: the condition does not select it."


@pytest.mark.parametrize("own", [True, False])
def test_a_layer_that_what_stays_mentions(own: bool) -> None:
    """regdata's own collector leaves a layer of an image that goes where one of its repository that stays mentions it;
    the registry's does not."""
    made = few()
    made.row("oddities", image_name="a/app", what="link", hash=digest("x"))
    made.row("references", manifest_hash=digest("a/app2.0"), reference_hash=digest("x"), reference_kind="mention")
    inventory = made.inventory(collector=Collector(own=own))
    freed = set(regdata.plan(inventory, "image_name = 'a/app' and tag_name = '1.0'").blobs["blob_hash"])
    assert digest("a/app1.0c") in freed
    assert (digest("x") in freed) is not own


@pytest.mark.parametrize("own", [True, False])
def test_a_base_image_that_what_stays_mentions(own: bool) -> None:
    """Annotations name base images: what is selected goes, though the text of a manifest that stays mentions it."""
    made = few()
    made.row(
        "references", manifest_hash=digest("a/app2.0"), reference_hash=digest("a/app1.0"), reference_kind="mention"
    )
    plan = regdata.plan(made.inventory(collector=Collector(own=own)), "image_name = 'a/app' and tag_name = '1.0'")
    assert dict(zip(plan.tags["tag_name"], plan.tags["action"], strict=True)) == {"1.0": "delete"}
    assert digest("a/app1.0") in set(plan.manifests["manifest_hash"])


@pytest.mark.parametrize(("year", "known"), [("2013-03-19T23:59:59", False), ("2013-03-20T00:00:00", True)])
def test_the_first_date_that_can_be(year: str, known: bool) -> None:
    """What is dated before Docker's first release has no date: an orphan, a tag or a blob is young with it."""
    date = int(datetime.fromisoformat(f"{year}+00:00").timestamp())
    made = few()
    for table, column in (("tags", "pushed"), ("revisions", "pushed"), ("contents", "created"), ("blobs", "blob_date")):
        cells = made.columns[table][column]
        cells[:] = [date] * len(cells)
    inventory = made.inventory(collector=Collector(own=True))
    assert inventory.images["age_days"].notna().all() == known
    assert inventory.images["age_days"].notna().any() == known
    plan = regdata.plan(inventory, "age_days > 90")
    assert (len(plan.tags), len(plan.manifests)) == ((3, 4) if known else (0, 0))
    assert (digest("nobody") in set(plan.blobs["blob_hash"])) is known


@pytest.mark.parametrize(
    ("condition", "going"),
    [
        ("image_name = 'a'", [("a", "aimage"), ("a", "aindex")]),
        ("image_name = 'b'", [("b", "aimage")]),
        ("tag_name = 'image'", [("b", "aimage")]),
    ],
)
def test_a_child_that_is_listed_by_another_digest(condition: str, going: list[tuple[str, str]]) -> None:
    """It stays with the index of its own repository that lists it by sha512; what another repository has of the two
    holds nothing there, and is held by nothing there."""
    made, other = Small(), f"sha512:{'ab' * 64}"
    made.push("a", "index", days=9)
    made.push("a", "image", days=9)
    content(made, "aindex", kind="index")
    made.row("references", manifest_hash=digest("aindex"), reference_hash=other, reference_kind="manifest")
    made.row("oddities", image_name="a", what="alias", hash=other, target=digest("aimage"))
    for image, tag in (("b", "image"), ("c", "index")):
        made.repository(image)
        made.row("revisions", image_name=image, manifest_hash=digest(f"a{tag}"), pushed=NOW - 9 * DAY)
        made.row("tags", image_name=image, tag_name=tag, tag_hash=digest(f"a{tag}"), pushed=NOW - 9 * DAY)
    rows = regdata.plan(made.inventory(), condition).manifests[["image_name", "manifest_hash"]]
    assert sorted(rows.itertuples(index=False, name=None)) == sorted((image, digest(name)) for image, name in going)


def test_a_subject_by_another_digest_in_several_repositories() -> None:
    """What names its subject by sha512 is one manifest with one tag, though several repositories know that digest; it
    keeps its subject."""
    made, other = Small(), f"sha512:{'ab' * 64}"
    for tag in ("image", "bom"):
        made.push("a", tag, days=9)
    content(made, "abom", subject_hash=other)
    made.repository("b")
    made.row("revisions", image_name="b", manifest_hash=digest("aimage"), pushed=NOW - 9 * DAY)
    made.row("tags", image_name="b", tag_name="image", tag_hash=digest("aimage"), pushed=NOW - 9 * DAY)
    for image in ("a", "b"):
        made.row("oddities", image_name=image, what="same", hash=other, target=digest("aimage"))
    plan = regdata.plan(made.inventory(), "image_name = 'a'")
    assert list(plan.tags["tag_name"]) == ["bom", "image"]
    assert sorted(plan.manifests["manifest_hash"]) == sorted([digest("aimage"), digest("abom")])
    assert regdata.plan(made.inventory(), "tag_name = 'image' and image_name = 'a'").manifests.empty


@pytest.mark.parametrize("linked", [True, False])
def test_a_layer_by_a_name_that_another_repository_knows(linked: bool) -> None:
    """What an image names by sha512 is held where its own repository links it by that: else nobody serves it there."""
    made, other = few(), f"sha512:{'ab' * 64}"
    hashes = made.columns["references"]["reference_hash"]
    hashes[hashes.index(digest("z"))] = other
    for image in ("a/app", *(["b/app"] if linked else [])):
        made.row("oddities", image_name=image, what="alias", hash=other, target=digest("x"))
    freed = set(regdata.plan(made.inventory(), "image_name = 'a/app' and tag_name = '1.0'").blobs["blob_hash"])
    assert digest("a/app1.0c") in freed
    assert (digest("x") in freed) is not linked


def test_what_belongs_to_an_orphan() -> None:
    """Its signature and its SBOM are orphans, too: no tag that stands for itself leads to them."""
    made = Small()
    for tag in (None, "other"):
        made.push("a", tag, days=9)
    name = sign(made, "signed", "aNone")
    content(made, "aother", subject_hash=digest("aNone"))
    for cells in made.columns["tags"].values():
        del cells[0]
    plan = planned(made)
    assert gone(plan) == dict.fromkeys(("aNone", "aother", "asigned"), "orphan")
    assert plan.tags[["tag_name", "action", "reason"]].to_numpy().tolist() == [[name, "delete", "referrer"]]


def test_a_tag_on_what_is_linked_as_a_blob_alone() -> None:
    """A manifest that is linked as a blob alone goes with its tag, as any other does."""
    made = Small()
    made.push("a", "image", days=9)
    made.row("oddities", image_name="a", what="blob", hash=digest("aimage"))
    plan = planned(made, "image")
    assert plan.tags[["action", "reason"]].to_numpy().tolist() == [["delete", "selected"]]
    assert gone(plan) == {"aimage": "selected"}


def test_what_several_tags_of_an_image_hold() -> None:
    """A layer of several tags of one image is that image's alone: its bytes count there, and not as shared."""
    made = Small()
    for tag in ("1", "2"):
        made.push("a", tag, days=9, shared=100)
    plan = regdata.plan(made.inventory(), "1=1")
    assert set(plan.blobs["holders"]) == {1}
    assert plan.by_image[["image_name", "bytes"]].to_numpy().tolist() == [["a", 100 + 2 * 11]]


def test_an_index_that_denies_its_name() -> None:
    """An index of signatures that names another subject than its tag does stays when the image goes that this names."""
    made = Small()
    for tag in ("image", "first", "index"):
        made.push("a", tag, days=9)
    content(made, "afirst", kind="signature")
    content(made, "aindex", kind="index", subject_hash=digest("nobody"))
    lists(made, "aindex", "afirst")
    tags = made.columns["tags"]
    tags["tag_name"][tags["tag_name"].index("index")] = digest("aimage").replace(":", "-")
    assert gone(planned(made, "image")) == {"aimage": "selected"}


def test_a_layer_of_which_only_some_say_that_it_is_elsewhere() -> None:
    """Over the API a layer is stored that one image names without a type, though another says that it is fetched from
    elsewhere."""
    made = Small()
    for tag in ("ours", "theirs"):
        made.push("app", tag, days=400, shared=1000)
    types = made.columns["references"]["media_type"]
    types[1], types[-1] = None, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    assert regdata.plan(made.inventory(from_store=False), "1=1").reclaimable == 1000 + 2 * 10 + 2


@pytest.mark.parametrize("hours", [1, 3])
def test_what_a_young_signature_of_a_signature_belongs_to(hours: int) -> None:
    """An old orphan stays, with its signature, whose own signature came an hour ago; later all of them go."""
    made = Small()
    made.push("a", None, days=9)
    sign(made, "signed", "aNone")
    sign(made, "first", "asigned", days=hours * HOUR)
    assert set(gone(planned(made))) == (set() if hours == 1 else {"aNone", "asigned", "afirst"})
