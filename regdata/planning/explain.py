"""Why a tag or a manifest goes or stays, in a sentence."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from regdata.errors import RegdataError
from regdata.planning.rules import REASONS, solve

if TYPE_CHECKING:
    from regdata.planning.plan import Plan

# How many names a sentence lists.
SHOWN = 3


def explain(plan: Plan, reference: str) -> str:
    """One sentence on ``image:tag`` or ``image@sha256:…``. Raises RegdataError when the registry had no such thing."""
    if not reference:
        return "To have the fate of a tag or a manifest explained, give image:tag or image@sha256:…."
    image, at, digest = reference.partition("@")
    if at:
        return _manifest(plan, image, digest)
    image, _, tag = reference.rpartition(":")
    return _tag(plan, image, tag)


def _tag(plan: Plan, image: str, tag: str) -> str:
    name = f"{image}:{tag}"
    known = plan.inventory.images.query("image_name == @image and tag_name == @tag")
    if known.empty:
        raise _unknown(plan, name)
    row = plan.tags.query("image_name == @image and tag_name == @tag")
    if row.empty:
        return f"{name} stays: the condition does not select it."
    action, reason = row["action"].iloc[0], row["reason"].iloc[0]
    if action == "delete" and reason == "referrer":
        return f"{name} goes although the condition does not select it: it belongs to a manifest that goes."
    if action == "delete":
        return f"{name} goes: the condition selects it, and nothing that stays needs its digest."
    if reason in ("protected", "unreadable") and action == "keep":
        return f"{name} stays although the condition selects it: {REASONS[reason]}."
    because = f"{REASONS[reason]}{_holders(plan, image, known['tag_hash'].iloc[0], besides=tag)}"
    if action == "untag":
        return f"{name} goes, but its digest stays and frees nothing: {because}."
    if reason == "signs-kept-image":
        return f"{name} stays although the condition selects it: {because}."
    return f"{name} stays although the condition selects it: {because}, and this registry can't delete a tag alone."


def _manifest(plan: Plan, image: str, digest: str) -> str:
    name = f"{image}@{digest}"
    if plan.inventory.manifests.query("image_name == @image and manifest_hash == @digest").empty:
        raise _unknown(plan, name)
    row = plan.manifests.query("image_name == @image and manifest_hash == @digest")
    if not row.empty:
        return f"{name} goes: {REASONS[row['reason'].iloc[0]]}."
    with solve(plan.inventory, plan.selected, plan.protected) as work:
        query = f"select why from root where node in ({_NODE})"
        why = {reason for (reason,) in work.execute(query, [image, digest]).fetchall()}
    for reason in ("unreadable", "grace"):
        if reason in why:
            return f"{name} stays: {REASONS[reason]}."
    return f"{name} stays: something that stays needs it{_holders(plan, image, digest)}."


def _holders(plan: Plan, image: str, digest: str, *, besides: str = "") -> str:
    """The tags that hold a manifest, in brackets; empty where no tag does."""
    with solve(plan.inventory, plan.selected, plan.protected) as work:
        found = work.execute(
            f"""with recursive up(node) as (
                   {_NODE}
                   union
                   select h.src from up join holds h on h.dst = up.node
               )
               select t.tag_name from up join root r on r.node = up.node and r.why = 'tag'
               join tag_node t on t.node = up.node
               where t.tag_name <> ? and t.id not in (select id from touched where kept_because is null)
               order by t.tag_name""",
            [image, digest, besides],
        ).fetchall()
    names = [f"{image}:{tag}" for (tag,) in found]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f" ({', '.join(names[:SHOWN])}{more})" if names else ""


_NODE = """
select n.node from node n join image i using (image) join digest d using (digest)
where i.image_name = ? and d.hash = ?"""


def _unknown(plan: Plan, name: str) -> RegdataError:
    images = plan.inventory.images
    near = difflib.get_close_matches(name, list(images["image_name"] + ":" + images["tag_name"]), n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ". Write image:tag or image@sha256:…"
    return RegdataError(f"the registry had no {name} when it was scanned{hint}")
