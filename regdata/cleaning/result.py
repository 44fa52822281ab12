"""What a clean-up did, as it is returned and recorded."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from regdata.collecting.commands import Collection
from regdata.planning.plan import Plan
from regdata.show.shown import Shown


@dataclass(frozen=True, eq=False)
class Result(Shown):
    """What a clean-up did.

    tags, manifests: the plan's rows with ``outcome``: deleted, untagged, kept, moved (it changed since the scan),
    failed (not done, because a step before it failed) or listed (nothing was to be done). ``bytes_predicted`` is what
    the plan said, ``bytes_expected`` the same for what really went, ``bytes_freed`` what the collection freed (None:
    not collected, or not to be seen without base_path).
    """

    tags: pd.DataFrame
    manifests: pd.DataFrame
    bytes_predicted: int
    bytes_expected: int
    bytes_freed: int | None
    collection: Collection
    notes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        freed = "unknown" if self.bytes_freed is None else f"{self.bytes_freed:,}"
        return f"<Result: {self.bytes_predicted:,} bytes predicted, {freed} freed, {len(self.errors)} errors>"

    @classmethod
    def unchanged(cls, plan: Plan, *notes: str) -> Result:
        """The result of a run that only listed."""
        return cls(
            tags=plan.tags.assign(outcome="listed"),
            manifests=plan.manifests.assign(outcome="listed"),
            bytes_predicted=plan.reclaimable,
            bytes_expected=0,
            bytes_freed=None,
            collection=Collection(),
            notes=list(notes),
        )


def facts_of(result: Result) -> dict[str, object]:
    """What the record says of it."""
    tags, manifests = result.tags["outcome"].value_counts(), result.manifests
    return {
        "tags_deleted": int(tags.get("deleted", 0)),
        "tags_untagged": int(tags.get("untagged", 0)),
        "tags_kept": int(tags.get("kept", 0) + tags.get("moved", 0)),
        "tags_moved": int(tags.get("moved", 0)),
        "manifests_deleted": int((manifests["outcome"] == "deleted").sum()),
        "orphans_deleted": int(((manifests["outcome"] == "deleted") & (manifests["reason"] == "orphan")).sum()),
        "bytes_predicted": result.bytes_predicted,
        "bytes_expected": result.bytes_expected,
        "bytes_freed": result.bytes_freed,
        "collected": result.collection.ran,
    }


def rows_of(planned: Plan, result: Result | None = None) -> pd.DataFrame:
    """The rows of tags.csv: ``outcome`` is empty until there is a result."""
    rows = planned.explanations
    days = pd.to_datetime(rows.pop("tag_timestamp"), unit="s", utc=True).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    rows.insert(2, "pushed" if planned.inventory.from_store else "created", days)
    rows["age_days"] = rows["age_days"].round(1)
    outcomes = planned.tags.assign(outcome="") if result is None else result.tags
    return rows.merge(outcomes[["image_name", "tag_name", "outcome"]], how="left", on=["image_name", "tag_name"])
