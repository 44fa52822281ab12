"""Draws the README's pictures from a fresh demo registry into docs/: `make pictures`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

import regdata
from regdata.analysis import capacity, space
from regdata.demo.filling import fill
from regdata.demo.local import LocalRegistry
from regdata.notebook import charts
from tests.support.helpers import ROOT

CONF = {
    "engine": "duckdb",
    "protect": "tag_name in ('stable')",
    "sql": {"autobuild": "image_name like '%prod%' and image_tag != 'latest'", "older_than_90_days": "age_days > 90"},
}


def main() -> None:
    folder = ROOT / "docs"
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place, LocalRegistry(Path(place)) as registry:
        fill(registry)
        conf = Path(place) / "conf.json"
        conf.write_text(json.dumps(CONF | {"registry": {"url": registry.url, "base_path": str(registry.base_path)}}))
        config = regdata.load_config(conf)
        inventory = regdata.scan(config)
        study = capacity.study(conf=str(conf), horizon_days=180, disk_bytes=80_000_000)
    for name, axes in {
        "goes-and-stays": charts.goes_and_stays(regdata.plan(inventory, config.condition("autobuild"))),
        "size-by-image": charts.size_by_image(space.by_image(inventory)),
        "size-by-age": charts.size_by_age(space.by_month(inventory)),
        "outlook": charts.outlook(study.past.frame, study.ahead, limit=study.disk.limit),
    }.items():
        figure = axes.get_figure(root=True)
        assert figure
        figure.savefig(folder / f"{name}.png", dpi=110, metadata={"Software": None})
        print(f"docs/{name}.png")


if __name__ == "__main__":
    main()
