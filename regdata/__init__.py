"""regdata: what takes the space in a Docker/OCI registry, and a clean-up that can't lose an image."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regdata.cleanup import apply
    from regdata.config import load_config
    from regdata.errors import RegdataError
    from regdata.inventory import Inventory, scan
    from regdata.plan import Plan, plan
    from regdata.previews import Preview, preview
    from regdata.undo import restore

__version__ = "0.1.0"

_HOME = {
    "load_config": "config",
    "scan": "inventory",
    "Inventory": "inventory",
    "plan": "plan",
    "Plan": "plan",
    "preview": "previews",
    "Preview": "previews",
    "apply": "cleanup",
    "restore": "undo",
    "RegdataError": "errors",
}

__all__ = [
    "Inventory",
    "Plan",
    "Preview",
    "RegdataError",
    "apply",
    "load_config",
    "plan",
    "preview",
    "restore",
    "scan",
]


def __getattr__(name: str) -> Any:
    """Loads a public name on first use, so that ``clear.py --help`` need not wait for pandas and DuckDB."""
    if name not in _HOME:
        raise AttributeError(f"module 'regdata' has no attribute {name!r}")
    value = getattr(import_module(f"regdata.{_HOME[name]}"), name)
    globals()[name] = value
    return value
