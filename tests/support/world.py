"""A registry with its cache, pushers and a collector, in steps as small as another may come between: searched through.

One layer, two repositories and a manifest in each that names it. What a registry does in a request is distribution's
(linkedblobstore.go, blobwriter.go, cachedblobdescriptorstore.go, manifeststore.go; 2.8.2 and 3.1.1 alike where it
matters here): to be asked for a blob it looks into the repository's cache, at the link, into the global cache or at the
data, and only then tells the caches; a mount is such a look, then a link; an upload looks at the data, moves its own
there, links, and tells the caches; a manifest is verified by such looks, its bytes are written unless the global cache
knows them, then it is linked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

Step = tuple[object, ...]
Moves = Iterator[tuple["World", Step]]


@dataclass(frozen=True)
class World:
    """What is on the disk, in the caches and on its way.

    stored, aside: where the layer's data is. links: the repositories that link it; saved: those whose link is aside.
    claims: the repositories for which the cache says that it is there; known: whether the global cache does.
    bytes, told: the manifest's bytes, and whether the global cache knows of them. accepted: the repositories that
    answered 201 for it. uploads: open ones. requests: who is inside a request; awaited: those whom a wait waits for.
    swept: the collector is through.
    """

    stored: bool = True
    aside: bool = False
    links: frozenset[str] = frozenset({"a"})
    saved: frozenset[str] = frozenset()
    claims: frozenset[str] = frozenset()
    known: bool = False
    bytes: bool = True
    told: bool = True
    accepted: frozenset[str] = frozenset()
    uploads: frozenset[str] = frozenset()
    requests: frozenset[str] = frozenset()
    awaited: frozenset[str] = frozenset()
    swept: bool = False

    def enter(self, who: str) -> World:
        return replace(self, requests=self.requests | {who})

    def leave(self, who: str) -> World:
        return replace(self, requests=self.requests - {who}, awaited=self.awaited - {who})

    @property
    def broken(self) -> list[str]:
        """What is wrong once everybody is done: images that were accepted and do not pull, and claims that would break
        the next push."""
        whole = self.stored and self.bytes
        found = [f"{name} was accepted and is broken" for name in self.accepted if not (whole and name in self.links)]
        found += [f"{name} claims what is gone" for name in self.claims if not self.stored]
        return found + (["the manifest's bytes are claimed and gone"] if self.told and not self.bytes else [])


def stat(world: World, repository: str, at: object) -> tuple[World, object]:
    """One step of a registry that is asked for the layer in a repository; True or False at the end."""
    if at == "cache":
        return world, True if repository in world.claims else "link"
    if at == "link":
        return world, "data" if repository in world.links else False
    if at == "data":
        if not world.known and not world.stored:
            return world, False
        return replace(world, known=True), "tell"
    return replace(world, claims=world.claims | {repository}, known=True), True


@dataclass(frozen=True)
class Pusher:
    """A client that pushes the manifest to ``repository``, and the requests that it makes of the registry.

    ``mounts_from``: where it would have the layer mounted from. ``tries``: how often it starts when it is refused.
    ``only_asks``: it goes away when it knows whether the layer is there. ``late``: it comes after the collector.
    """

    repository: str
    mounts_from: str = ""
    tries: int = 1
    only_asks: bool = False
    late: bool = False

    @property
    def name(self) -> str:
        return f"pusher of {self.repository}{' who is late' * self.late}"

    @property
    def start(self) -> Step:
        return ("begins", self.tries)

    def done(self, at: Step) -> bool:
        """Whether it has nothing more to do."""
        return at[0] in ("accepted", "refused")

    def moves(self, world: World, at: Step) -> Moves:
        """What it may do next: the world and its place after it."""
        step: Moves = getattr(self, f"_{at[0]}")(world, *at[1:])
        yield from step

    def _begins(self, world: World, tries: int) -> Moves:
        if world.swept or not self.late:
            yield world.enter(self.name), ("head", "cache", tries)

    def _head(self, world: World, at: object, tries: int) -> Moves:
        world, then = stat(world, self.repository, at)
        if self.only_asks and then in (True, False):
            yield world.leave(self.name), ("refused",)
        elif then is True:
            yield world.leave(self.name), ("verifies", "", tries)
        elif then is False:
            yield world.leave(self.name), ("mounts" if self.mounts_from else "posts", tries)
        else:
            yield world, ("head", then, tries)

    def _mounts(self, world: World, tries: int) -> Moves:
        yield world.enter(self.name), ("source", "cache", tries)

    def _source(self, world: World, at: object, tries: int) -> Moves:
        if at == "found":
            linked = replace(world, links=world.links | {self.repository})
            yield linked.leave(self.name), ("verifies", "", tries)
            return
        world, then = stat(world, self.mounts_from, at)
        if then is False:
            yield world.leave(self.name), ("posts", tries)
        else:
            yield world, ("source", "found" if then is True else then, tries)

    def _posts(self, world: World, tries: int) -> Moves:
        yield replace(world, uploads=world.uploads | {self.name}), ("puts", tries)

    def _puts(self, world: World, tries: int) -> Moves:
        yield world.enter(self.name), ("looks", tries)

    def _looks(self, world: World, tries: int) -> Moves:
        yield world, ("links" if world.stored else "moves", tries)

    def _moves(self, world: World, tries: int) -> Moves:
        yield replace(world, stored=True), ("links", tries)

    def _links(self, world: World, tries: int) -> Moves:
        yield replace(world, links=world.links | {self.repository}), ("ends", tries)

    def _ends(self, world: World, tries: int) -> Moves:
        yield replace(world, uploads=world.uploads - {self.name}), ("tells", tries)

    def _tells(self, world: World, tries: int) -> Moves:
        told = replace(world, claims=world.claims | {self.repository}, known=True)
        yield told.leave(self.name), ("verifies", "", tries)

    def _verifies(self, world: World, at: object, tries: int) -> Moves:
        if at == "":
            yield world.enter(self.name), ("verifies", "cache", tries)
            return
        world, then = stat(world, self.repository, at)
        if then is True:
            yield world, ("writes",)
        elif then is False:
            yield world.leave(self.name), ("begins", tries - 1) if tries > 1 else ("refused",)
        else:
            yield world, ("verifies", then, tries)

    def _writes(self, world: World) -> Moves:
        yield (world if world.told else replace(world, bytes=True, told=True)), ("revises",)

    def _revises(self, world: World) -> Moves:
        accepted = replace(world, accepted=world.accepted | {self.repository})
        yield accepted.leave(self.name), ("accepted",)


@dataclass(frozen=True)
class Collector:
    """Our steps for the layer, which no manifest needs. Each field is a safeguard; a mutant lacks one.

    unlinks: the links go first, so that nobody is told any more that the layer is there. asks: whether a cache claims
    it all the same. clears: a cache that does is made to forget it. confirms: it is asked once more. looks: before and
    after the data is moved aside. waits: before asking, before confirming, before the second look. slow_uploads: an
    upload may take longer than any wait; sees_uploads: one that was open all through a wait counts as a need.
    keeps_bytes: the manifest's bytes stay. puts_links_back: what comes back comes with its links. killed: at any moment
    before the decision, and somebody else undoes what it did.
    """

    unlinks: bool = True
    asks: bool = True
    clears: bool = True
    confirms: bool = True
    looks: tuple[bool, bool] = (True, True)
    waits: tuple[bool, bool, bool] = (True, True, True)
    slow_uploads: bool = False
    sees_uploads: bool = True
    keeps_bytes: bool = True
    puts_links_back: bool = True
    killed: bool = False
    name: str = "collector"

    @property
    def start(self) -> Step:
        return ("unlink",)

    def done(self, at: Step) -> bool:
        return at[0] in ("freed", "spared")

    def moves(self, world: World, at: Step) -> Moves:
        """What it may do next; killed, it may also be where somebody else undoes what it did."""
        step: Moves = getattr(self, f"_{at[0]}")(world, *at[1:])
        yield from step
        if self.killed and at[0] not in ("undo", "relink", "free"):
            yield world, ("undo",)

    def _unlink(self, world: World) -> Moves:
        """The links are taken aside, one by one."""
        if self.unlinks and world.links:
            name = min(world.links)
            yield replace(world, links=world.links - {name}, saved=world.saved | {name}), ("unlink",)
        else:
            names = tuple(sorted(world.saved or world.links))
            yield world, ("wait", 0, ("ask", "cache", names, ()) if self.asks and names else ("look", 0))

    def _wait(self, world: World, number: int, then: Step) -> Moves:
        """Whoever is inside a request by now is through with it afterwards, but for a slow upload."""
        yield replace(world, awaited=world.requests if self.waits[number] else frozenset()), ("waits", then)

    def _waits(self, world: World, then: Step) -> Moves:
        slow = world.awaited & world.uploads if self.slow_uploads else frozenset()
        if world.awaited <= slow:
            yield world, ("undo",) if slow and self.sees_uploads else then

    def _ask(self, world: World, at: object, names: tuple[str, ...], claimed: tuple[str, ...]) -> Moves:
        """HEAD in each repository."""
        name, *rest = names
        world, then = stat(world, name, at)
        if then not in (True, False):
            yield world, ("ask", then, names, claimed)
            return
        claimed = (*claimed, name) if then else claimed
        yield world, ("ask", "cache", tuple(rest), claimed) if rest else ("clear", claimed, claimed)

    def _clear(self, world: World, names: tuple[str, ...], claimed: tuple[str, ...]) -> Moves:
        """DELETE of each link that is claimed, unless it is there anew."""
        if names and self.unlinks and names[0] in world.links:
            yield world, ("undo",)
        elif names and self.clears:
            yield world, ("delete", "cache", names, claimed)
        elif claimed and self.confirms:
            yield world, ("wait", 1, ("confirm", "cache", claimed))
        else:
            yield world, ("look", 0)

    def _delete(self, world: World, at: object, names: tuple[str, ...], claimed: tuple[str, ...]) -> Moves:
        name, *rest = names
        if at == "forget":
            yield replace(world, claims=world.claims - {name}), ("delete", "file", names, claimed)
        elif at == "file":
            yield replace(world, links=world.links - {name}), ("clear", tuple(rest), claimed)
        else:
            world, then = stat(world, name, at)
            found: Step = ("delete", "forget" if then is True else then, names, claimed)
            yield world, ("clear", tuple(rest), claimed) if then is False else found

    def _confirm(self, world: World, at: object, names: tuple[str, ...]) -> Moves:
        """HEAD once more: what is claimed still is left."""
        name, *rest = names
        world, then = stat(world, name, at)
        if then is False:
            yield world, ("confirm", "cache", tuple(rest)) if rest else ("look", 0)
        else:
            yield world, ("undo",) if then is True else ("confirm", then, names)

    def _look(self, world: World, number: int) -> Moves:
        """A look is no single moment: new links first, then new manifests."""
        then: Step = ("free",) if number else ("move",)
        # Without unlinking the old links are no need.
        needed = self.unlinks and bool(world.links)
        yield world, ("mentioned", then, needed) if self.looks[number] else then

    def _mentioned(self, world: World, then: Step, needed: bool) -> Moves:
        yield world, ("undo",) if needed or world.accepted else then

    def _move(self, world: World) -> Moves:
        yield replace(world, stored=False, aside=True), ("wait", 2, ("look", 1))

    def _free(self, world: World) -> Moves:
        yield replace(world, aside=False, bytes=world.bytes and self.keeps_bytes, swept=True), ("freed",)

    def _undo(self, world: World) -> Moves:
        """What is aside goes back, unless it has come anew: first the data, then the links."""
        yield replace(world, stored=world.stored or world.aside, aside=False), ("relink",)

    def _relink(self, world: World) -> Moves:
        back = world.saved if self.puts_links_back and world.stored else frozenset()
        yield replace(world, links=world.links | back, saved=frozenset(), swept=True), ("spared",)


Process = Pusher | Collector


def search(world: World, *processes: Process) -> list[str]:
    """Everything that may go wrong, whoever's turn it is at each step; empty if nothing can."""
    start = (world, tuple(process.start for process in processes))
    seen, todo, found = {start}, [start], set[str]()
    while todo:
        world, places = todo.pop()
        if all(process.done(place) for process, place in zip(processes, places, strict=True)):
            found.update(world.broken)
            continue
        for number, process in enumerate(processes):
            if process.done(places[number]):
                continue
            for after, place in process.moves(world, places[number]):
                state = (after, (*places[:number], place, *places[number + 1 :]))
                if state not in seen:
                    seen.add(state)
                    todo.append(state)
    return sorted(found)
