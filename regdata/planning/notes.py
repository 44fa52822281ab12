"""What there is to say of a plan that its rows do not show: a reader may have meant something else."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from regdata.planning.rules import AGES, DATES, Decision, spared_for_age, words
from regdata.show.words import count, size
from regdata.sources.names import hides, means

if TYPE_CHECKING:
    from regdata.inventory.inventory import Inventory

_NAMES_ITS_SUBJECT = r"^sha256-([0-9a-f]{64})(?:\.(?:sig|att|sbom))?$"


def notes(plan: Decision, condition: str) -> Iterator[str]:
    """In a sentence each; ``condition`` is the one that selected the tags."""
    inventory = plan.inventory
    if inventory.ahead:
        side = "ahead of" if inventory.ahead > 0 else "behind"
        yield (
            f"the clock that dates what is stored is {abs(inventory.ahead):,} seconds {side} this machine's: ages are "
            "counted by it"
        )
    if not inventory.collector.sees_all:
        yield (
            f"what is outside registry.repositories ({', '.join(inventory.within or ())}) is unknown, and may share "
            "any blob: no bytes are predicted, whatever is freed"
        )
    tagged = inventory.images["image_name"].unique()
    if empty := [name for name in inventory.within or () if not any(means([name], image) for image in tagged)]:
        yield (
            f"registry.repositories: {', '.join(empty)} {'means' if len(empty) == 1 else 'mean'} nothing in which "
            "there is a tag: see how the registry spells it"
        )
    if inventory.from_store and inventory.collector.own and (young := spared_for_age(inventory)):
        bytes_ = int(inventory.blobs.loc[inventory.blobs["blob_hash"].isin(young), "blob_size"].sum())
        yield (
            f"{size(bytes_)} that no manifest uses are younger than two hours, and stay until then, as what was "
            "linked since: they may be of a push in flight"
        )
    if not inventory.from_store:
        yield from _by_build_dates(condition, plan.inventory.protect or "")
    yield from _undated(plan, condition)
    yield from _of_other_repositories(plan)


def unlisted(inventory: Inventory) -> Iterator[str]:
    """That tags may be missing; a list with two of which one extends the other is whole, and so are all."""
    if inventory.from_store or not inventory.can_untag:
        return
    names = inventory.images[["image_name", "tag_name"]].sort_values(["image_name", "tag_name"])
    pairs = pairwise(names.itertuples(index=False, name=None))
    if len(names) and not any(image == also and hides(tag, other) for (image, tag), (also, other) in pairs):
        yield (
            "distribution 3.1.0 and 3.1.1, where they store on S3, leave tags out of their lists that extend the name "
            "of another (0.1.20 beside 0.1.2): if this is one, some may be missing here; a run that deletes asks for "
            "them before a digest goes"
        )


def _by_build_dates(condition: str, protect: str) -> Iterator[str]:
    """The same condition means push dates with base_path."""
    for name, text in (("the condition", condition), ("`protect`", protect)):
        said = words(text)
        if ages := [word for word in said if word in AGES]:
            yield (
                f"without registry.base_path nobody knows when tags were pushed: {', '.join(ages)} of {name} "
                f"{'counts' if len(ages) == 1 else 'count'} from when images were built (`created`), which may be "
                "long before they were pushed"
            )
        if "pushed" in said:
            yield f"without registry.base_path nobody knows when tags were pushed: `pushed` of {name} is NULL"


def _undated(plan: Decision, condition: str) -> Iterator[str]:
    """Whatever is unknown is young, where a condition asks for an age; in other words it may come out as old."""
    if DATES.isdisjoint(words(condition)):
        return
    names = ["image_name", "tag_name"]
    images = plan.inventory.images
    undated = images.loc[images["tag_timestamp"].isna() & images["error"].isna(), names]
    gone = plan.tags.loc[plan.tags["action"] != "keep", names].merge(undated)
    if len(gone):
        image, tag = gone.iloc[0]
        yield (
            f"{_going(len(gone))}, such as {image}:{tag}, {'has' if len(gone) == 1 else 'have'} no date that can be, "
            "and the condition asks for dates: CASE, NOT EXISTS, NOT IN and ORDER BY may take what is unknown for old; "
            "add `tag_timestamp is not null` if that is not meant"
        )


def _of_other_repositories(plan: Decision) -> Iterator[str]:
    """Signatures that are kept apart from what they sign (cosign's COSIGN_REPOSITORY)."""
    tags = plan.tags[(plan.tags["action"] != "keep") & plan.tags["tag_name"].str.startswith("sha256-")]
    named = "sha256:" + tags["tag_name"].str.extract(_NAMES_ITS_SUBJECT, expand=False)
    signs = tags.assign(of=named).dropna(subset=["of"])
    if signs.empty:
        return
    known = plan.inventory.manifests[["image_name", "manifest_hash"]]
    staying = known.merge(plan.manifests[["image_name", "manifest_hash"]], how="left_anti")
    apart = signs.merge(known, how="left_anti", left_on=["image_name", "of"], right_on=["image_name", "manifest_hash"])
    there = apart.merge(staying, left_on="of", right_on="manifest_hash", suffixes=("", "_there"))
    if there.empty:
        return
    image, tag, of = there.iloc[0][["image_name", "tag_name", "image_name_there"]]
    number = len(there.drop_duplicates(["image_name", "tag_name"]))
    yield (
        f"{_going(number)}, such as {image}:{tag}, "
        f"{'belongs' if number == 1 else 'belong'} by name to images of other repositories that stay, such as one of "
        f"{of} (signatures kept apart, COSIGN_REPOSITORY): only in their own repository are signatures kept with what "
        "they sign; `protect` keeps these"
    )


def _going(number: int) -> str:
    return f"{count(number, 'tag')} that {'goes' if number == 1 else 'go'}"
