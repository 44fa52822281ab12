"""Why a tag or a manifest goes or stays, in a sentence."""

from __future__ import annotations

import difflib
import re

from regdata.errors import RegdataError
from regdata.inventory.usage import users
from regdata.planning.rules import BECAUSE_OF_OTHERS, REASONS, Decision, holders, reasons
from regdata.sources.manifest import printable
from regdata.sources.names import means

# How many names a sentence lists.
SHOWN = 3


def explain(plan: Decision, reference: str) -> str:
    """One sentence on ``image:tag`` or ``image@sha256:…``. Raises RegdataError when the registry had no such thing."""
    if not isinstance(reference, str):
        raise RegdataError(f"{reference!r} ({type(reference).__name__}) names no tag: give image:tag or image@sha256:…")
    reference = printable(reference)
    if not reference:
        return "To have the fate of a tag or a manifest explained, give image:tag or image@sha256:…."
    image, at, digest = reference.partition("@")
    if at:
        return _manifest(plan, image, digest)
    image, colon, tag = reference.rpartition(":")
    if not colon:
        raise _unknown(plan, reference)
    return _tag(plan, image, tag)


def _tag(plan: Decision, image: str, tag: str) -> str:
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
    if action == "keep" and reason not in BECAUSE_OF_OTHERS:
        return f"{name} stays although the condition selects it: {meaning(plan, image, tag, reason)}."
    because = f"{REASONS[reason]}{_holders(plan, image, known['tag_hash'].iloc[0], besides=tag)}"
    if action == "untag":
        return f"{name} goes, but its digest stays and frees nothing: {because}."
    if reason == "signs-kept-image":
        return f"{name} stays although the condition selects it: {because}."
    return f"{name} stays although the condition selects it: {because}, and this registry can't delete a tag alone."


def _manifest(plan: Decision, image: str, digest: str) -> str:
    name = f"{image}@{digest}"
    if plan.inventory.manifests.query("image_name == @image and manifest_hash == @digest").empty:
        raise _unknown(plan, name)
    row = plan.manifests.query("image_name == @image and manifest_hash == @digest")
    if not row.empty:
        return f"{name} goes: {REASONS[row['reason'].iloc[0]]}."
    why = reasons(plan, image, digest)
    for reason, said in REASONS.items():
        if reason in why:
            by = plan.inventory.uses.query("image_name == @image and manifest_hash == @digest")["used_by"]
            used = f" ({', '.join(sorted(by)[:SHOWN])})" if reason == "in-use" and len(by) else ""
            return f"{name} stays: {said}{used}."
    return f"{name} stays: something that stays needs it{_holders(plan, image, digest)}."


def meaning(plan: Decision, image: str, tag: str, reason: str) -> str:
    """A reason in words; who it is that uses the tag."""
    used_by = users_of(plan).get((image, tag)) if reason == "in-use" else None
    return f"{REASONS[reason]} ({used_by})" if used_by else REASONS[reason]


def users_of(plan: Decision) -> dict[tuple[str, str], str]:
    """Who uses each tag that is in use."""
    return plan.inventory.once("users", lambda: _users(plan))


def _users(plan: Decision) -> dict[tuple[str, str], str]:
    rows = users(plan.inventory)
    return dict(zip(zip(rows["image_name"], rows["tag_name"], strict=True), rows["used_by"], strict=True))


def _holders(plan: Decision, image: str, digest: str, *, besides: str = "") -> str:
    """The tags that hold a manifest, in brackets; empty where no tag does."""
    names = [f"{image}:{tag}" for tag in holders(plan, image, digest, besides=besides)]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f" ({', '.join(names[:SHOWN])}{more})" if names else ""


def _unknown(plan: Decision, name: str) -> RegdataError:
    images, within = plan.inventory.images, plan.inventory.within
    if not means(within, re.split("[:@]", name)[0]):
        return RegdataError(
            f"{name} is outside registry.repositories ({', '.join(within or ())}): it was not looked at"
        )
    near = difflib.get_close_matches(name, list(images["image_name"] + ":" + images["tag_name"]), n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ". Write image:tag or image@sha256:…"
    return RegdataError(f"the registry had no {name} when it was scanned{hint}")
