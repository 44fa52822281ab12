"""An Inventory and a list of files come in; what is broken goes out, with what it means and the cure. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
from duckdb import DuckDBPyConnection

from regdata.errors import CleanupError
from regdata.inventory.files import file_table
from regdata.inventory.graph import GRACE
from regdata.inventory.inventory import Inventory
from regdata.sources.census import path_of
from regdata.sources.dates import FIRST
from regdata.tables.workspace import frame, run_file

# A registry that is writing a file is done with it after this many seconds; a clock may be so wrong.
QUIET, SKEW = 3600, 300
# The registry itself gives up uploads after a week (distribution's uploadpurging.age).
ABANDONED = 7 * 86400


NAMED = 5  # of what is broken


class Ailment(NamedTuple):
    """What it means for who pulls, and its cure; ``safe``: whether `regdata.doctor` may carry the cure out."""

    means: str
    cure: str
    safe: bool = False


AILMENTS = {
    "tag without manifest": Ailment(
        "a pull of the tag fails: its digest is no manifest here",
        "push the image again, or delete the tag",
    ),
    "tag without digest": Ailment(
        "a pull of the tag fails: nobody knows what it was on",
        "push the image again, or remove the tag's folder",
    ),
    "tag half removed": Ailment(
        "a pull of the tag fails: a clean-up was killed over it",
        "put it back, as any clean-up does before anything else",
        True,
    ),
    "manifest without bytes": Ailment(
        "a pull of it fails, and a push of what refers to it",
        "push the image again, or delete it by its digest",
    ),
    "unreadable manifest": Ailment(
        "clients can't read it, and the registry's own collection may stop at it; regdata keeps all that it may reach",
        "push the image again, or delete it by its digest",
    ),
    "index without child": Ailment("pulls for some platforms fail", "push the image again, with all its platforms"),
    "child not linked": Ailment("pulls for some platforms fail, though the bytes are there", "link it again", True),
    "manifest without parts": Ailment("a pull fails at what is missing", "push the image again"),
    "part not linked": Ailment("a pull fails at it, though the bytes are there", "link it again", True),
    "no folder _layers": Ailment(
        "the registry may not list the repository, and its own collection takes what it holds", "make the folder", True
    ),
    "damaged bytes": Ailment(
        "a pull fails at them, and a push that needs them breaks: the registry believes that it has them",
        "remove the blob's folder and restart the registry, then push the images that use it again",
    ),
    "wrong size": Ailment(
        "the bytes are whole, and clients that hold to what the manifest states fail: skopeo does for a config",
        "make the image anew, and push it",
    ),
    "link without data": Ailment(
        "the next push that needs it may be broken: the registry may believe that it has it",
        "remove the link and have the registry's cache forget it",
        True,
    ),
    "link not whole": Ailment(
        "the registry can't follow it: what it leads to does not pull, and its own collection may stop",
        "write it again, if its bytes are there",
        True,
    ),
    "stale cache": Ailment(
        "the next push that needs it is broken: the registry claims to have what is gone",
        "have the registry's cache forget it",
        True,
    ),
    "empty repository": Ailment("nothing can be pulled from it, and the catalog lists it", "remove it", True),
    "abandoned upload": Ailment("nothing; it takes space", "remove it", True),
    "foreign file": Ailment("nothing: no registry made it", "see whose it is, and remove it by hand"),
    "impossible date": Ailment(
        "nothing; no condition can find old from new by it",
        "push again what has to have one; regdata takes it as unknown",
    ),
}


class Look(NamedTuple):
    """Looks at bytes. is_sound: whether a blob's bytes hash to its digest; fetched: the digests of a manifest's layers
    that are fetched from elsewhere, which a registry does not ask for when it is pushed."""

    is_sound: Callable[[str], bool | None] = lambda digest: False
    fetched: Callable[[str], Set[str]] = lambda manifest: frozenset()


UNSEEN = Look()
_RESIZED = "select hash from resized join digest using (digest)"
_LACKING = "select distinct d.hash from lacking l join digest d on d.digest = l.manifest where not is_linked"
_DIGESTS = "select digest from digest where hash in (select unnest(?))"
_FOUND = (
    "select ailment.*, tags from ailment left join tagged using (what, image_name, name) "
    "order by what, image_name nulls first, name, detail"
)
# What keeps nobody from a pull today.
HARMLESS = {
    *("no folder _layers", "link without data", "stale cache", "empty repository", "abandoned upload"),
    *("foreign file", "impossible date"),
}


def ailments(
    inventory: Inventory,
    files: Mapping[str, Sequence[object]] | None,
    *,
    now: int,
    claims: Sequence[tuple[str, str]] = (),
    altered: Sequence[tuple[str, str | None, str]] = (),
    bare: Sequence[tuple[str, str, int | None]] = (),
    look: Look = UNSEEN,
) -> pd.DataFrame:
    """what (a key of `AILMENTS`), image_name, name, bytes, since (UTC epoch seconds), detail, tags (image:tag, of those
    that do not pull for it); NULL: not known.

    ``files``: the columns of a census, None without base_path: then only tags and manifests can be looked at. ``now``:
    the time after it. ``claims``: repository and digest of what the registry's cache claims though it is gone.
    ``altered``: kind, repository and name of files whose bytes are not what their names say. ``bare``: repository, name
    and date of tags' folders without a link. ``look``: at the bytes of what may be broken.
    """
    setting = {"now": now + SKEW, "quiet": QUIET, "grace": GRACE, "abandoned": ABANDONED, "first": FIRST}
    with inventory.graph.open(
        descriptor=inventory.refers.descriptors,
        edge=inventory.refers.edges,
        repositories=inventory.repositories,
        file=file_table(files),
        claim=_texts(("image_name", "name"), claims),
        altered=_texts(("kind", "image_name", "name"), altered),
        bare=_bare(bare),
        setting=pa.table({name: [value] for name, value in setting.items()} | {"has_files": [files is not None]}),
    ) as work:
        run_file(work, "health/suspects.sql")
        _look_at(work, look)
        run_file(work, "health/ailments.sql")
        return frame(work, _FOUND)


def _look_at(work: DuckDBPyConnection, look: Look) -> None:
    """Strikes out what only seemed to be broken."""
    resized = [digest for (digest,) in work.execute(_RESIZED).fetchall() if look.is_sound(digest)]
    if resized:
        work.execute(f"delete from resized where digest in ({_DIGESTS})", [resized])
    for (manifest,) in work.execute(_LACKING).fetchall():
        if fetched := sorted(look.fetched(manifest)):
            of = "manifest = (select digest from digest where hash = ?)"
            work.execute(
                f"delete from lacking where not is_linked and {of} and blob in ({_DIGESTS})", [manifest, fetched]
            )


def told(found: pd.DataFrame) -> pd.DataFrame:
    """what, place, tags, bytes, since, detail, means, cure, safe: the same in words."""
    known = [AILMENTS[what] for what in found["what"]]
    places = [place(*row) for row in found[["what", "image_name", "name"]].itertuples(index=False, name=None)]
    return found.assign(
        place=pd.array(places, dtype="str"),
        means=pd.array([one.means for one in known], dtype="str"),
        cure=pd.array([one.cure for one in known], dtype="str"),
        safe=pd.array([one.safe for one in known], dtype="boolean"),
    )[["what", "place", "tags", "bytes", "since", "detail", "means", "cure", "safe"]]


def check_pulls(found: pd.DataFrame) -> None:
    """Raises CleanupError where images do not pull, by what `regdata.doctor` found and did not cure."""
    broken = found[~found["what"].isin(HARMLESS) & (found["outcome"] != "cured")]
    if broken.empty:
        return
    names = [tag for said in broken["tags"].fillna(broken["place"]) for tag in str(said).split(", ")]
    several = list(dict.fromkeys(names))
    more = f" and {len(several) - NAMED:,} more" if len(several) > NAMED else ""
    said = "does" if len(several) == 1 else "do"
    raise CleanupError(f"{', '.join(several[:NAMED])}{more} {said} not pull whole: the table says what is to be done")


def place(what: str, image: str | None, name: str) -> str:
    """Where it is: an image's tag or digest, or the path of a file below base_path."""
    image = "" if pd.isna(image) else str(image)
    if what.startswith("tag"):
        return f"{image}:{name}"
    if what == "link not whole":
        return path_of(*_kind_and_name(name, image))
    if what == "abandoned upload":
        return path_of("upload", image, name)
    if what == "impossible date":
        return image or "blobs and what is beside them"
    return f"{image}@{name}" if image and name else image or name


def _kind_and_name(name: str, image: str) -> tuple[str, str, str]:
    kind, _, rest = name.partition(" ")
    return kind, image, rest


def _bare(rows: Sequence[tuple[str, str, int | None]]) -> pa.Table:
    dates = pa.array([date for *_, date in rows], pa.int64())
    return _texts(("image_name", "name"), [row[:2] for row in rows]).append_column("date", dates)


def _texts(names: Sequence[str], rows: Sequence[tuple[str | None, ...]]) -> pa.Table:
    """Rows as a table with these columns."""
    columns: Sequence[Sequence[object]] = list(zip(*rows, strict=True)) or [()] * len(names)
    return pa.table({name: pa.array(values, pa.large_string()) for name, values in zip(names, columns, strict=True)})
