"""regdata: what takes the space in a Docker/OCI registry, and a clean-up that can't lose an image."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from regdata._version import __version__
from regdata.show.shown import views_in

if TYPE_CHECKING:
    from regdata.analysis.backtest import Backtest, backtest
    from regdata.cleaning.cleanup import apply
    from regdata.cleaning.undo import restore
    from regdata.config import load_config
    from regdata.errors import RegdataError
    from regdata.health.doctor import doctor
    from regdata.inventory.inventory import Inventory
    from regdata.inventory.scan import scan
    from regdata.planning.comparison import Comparison, compare_conditions
    from regdata.planning.plan import Plan, plan
    from regdata.planning.previews import Preview, preview

_HOME = {
    "backtest": "analysis.backtest",
    "Backtest": "analysis.backtest",
    "compare_conditions": "planning.comparison",
    "Comparison": "planning.comparison",
    "doctor": "health.doctor",
    "load_config": "config",
    "scan": "inventory.scan",
    "Inventory": "inventory.inventory",
    "plan": "planning.plan",
    "Plan": "planning.plan",
    "preview": "planning.previews",
    "Preview": "planning.previews",
    "apply": "cleaning.cleanup",
    "restore": "cleaning.undo",
    "RegdataError": "errors",
}

views_in("regdata.notebook.views", "regdata.notebook.preview_views", "regdata.notebook.proof_views")

__all__ = [
    "Backtest",
    "Comparison",
    "Inventory",
    "Plan",
    "Preview",
    "RegdataError",
    "__version__",
    "apply",
    "backtest",
    "compare_conditions",
    "doctor",
    "load_config",
    "plan",
    "preview",
    "restore",
    "scan",
]


def __dir__() -> list[str]:
    """What an editor or a notebook offers after ``regdata.``."""
    return __all__


def __getattr__(name: str) -> Any:
    """Loads a public name on first use, so that ``clear.py --help`` need not wait for pandas and DuckDB."""
    if name not in _HOME:
        raise AttributeError(f"module 'regdata' has no attribute {name!r}")
    value = getattr(import_module(f"regdata.{_HOME[name]}"), name)
    globals()[name] = value
    return value
