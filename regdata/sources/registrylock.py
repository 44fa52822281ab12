"""One lock for each registry and user, however its URL is spelled and whichever conf.json names it."""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from regdata.errors import StorageError
from regdata.sources.locks import lock_folder
from regdata.values import default_cache, identity


@contextmanager
def lock_registry(url: str, run: str = "") -> Iterator[None]:
    """Holds the user's lock on the registry at ``url``, for the run whose record is in the folder ``run``.

    Raises StorageError, which says who holds it, while another run does.
    """
    with lock_folder(_own_folder(url), f"the registry {url}", run=run):
        yield


def _own_folder(url: str) -> Path:
    """This user's folder for the lock of a registry, the same for every spelling of it."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    host = "localhost" if _is_here(parts.hostname or "") else parts.hostname
    name = identity(urlunsplit(parts._replace(netloc=f"[{host}]{port}" if ":" in (host or "") else f"{host}{port}")))
    places = [home] if (home := default_cache()) else []
    with suppress(OSError):  # a disk that is full has no room to try whether there is such a folder
        places.append(Path(tempfile.gettempdir()) / f"regdata-{os.getuid()}")
    for place in places:
        folder = place / "locks" / name
        with suppress(OSError):
            folder.mkdir(0o700, parents=True, exist_ok=True)
            if folder.stat().st_uid == os.getuid():
                return folder
    raise StorageError(f"no folder for locks can be made: neither {' nor '.join(map(str, places)) or 'in a home'}")


def _is_here(host: str) -> bool:
    """Whether a name means this machine alone."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
        return bool(found) and all(ipaddress.ip_address(address).is_loopback for address in found)
    except (OSError, ValueError):
        return False
