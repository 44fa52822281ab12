"""`regdata …`: from nothing to a first listing of a registry, and to a look at it; see program.py for exit codes.

Every notebook that it runs came with the package.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from regdata.command.cli import add_output, add_sql_id, clean
from regdata.command.program import Program, add_conf, given
from regdata.errors import StorageError

PROGRAM = Program("regdata", tells=True)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code. Whatever goes wrong is one line."""
    parser = _parser()
    arguments, options = parser.parse_known_args(argv)
    if options and arguments.job is not _lab:
        parser.error(f"unrecognized arguments: {' '.join(options)}")
    arguments.options = options
    return PROGRAM.run(lambda: int(arguments.job(arguments)))


def _parser() -> argparse.ArgumentParser:
    parser = PROGRAM.parser(
        description="What takes the space in a private Docker/OCI registry, and a clean-up that cannot lose an image."
    )
    jobs = parser.add_subparsers(required=True, metavar="command")
    init = jobs.add_parser("init", help="look at a registry and write a conf.json for it; changes nothing else")
    init.add_argument("url", help="the registry's address, such as http://127.0.0.1:5000")
    folder = "its folder, which holds docker/registry/v2, if it can be read here"
    init.add_argument("base_path", nargs="?", type=given, help=folder)
    init.add_argument("--conf", metavar="FILE", type=given, default="conf.json", help="the file to write (conf.json)")
    lab = jobs.add_parser("lab", help="JupyterLab on this conf.json; takes JupyterLab's options, such as --no-browser")
    list_ = jobs.add_parser("list", help="what a condition would delete; changes nothing")
    add_sql_id(list_)
    add_output(list_)
    restore = jobs.add_parser("restore", help="put back what a run deleted")
    restore.add_argument("run", type=given, help="the run's folder, its name as `regdata runs` has it, or latest")
    restore.add_argument("--force", action="store_true", help="also move tags back that are on another image by now")
    doctor = jobs.add_parser("doctor", help="what is broken in the registry, and the cure")
    doctor.add_argument("--repair", action="store_true", help="carry out the cures that can lose nothing")
    doctor.add_argument("--digests", action="store_true", help="read every byte of the store")
    report = jobs.add_parser("report", help="what takes the space, and the outlook, as pages")
    runs = jobs.add_parser("runs", help="all runs, the newest first; writes reports/index.html anew")
    for sub in (lab, list_, restore, doctor, report, runs):
        add_conf(sub)
    for sub, job in (
        (init, _init),
        (lab, _lab),
        (list_, _list),
        (restore, _restore),
        (doctor, _doctor),
        (report, _report),
        (runs, _runs),
    ):
        sub.set_defaults(job=job)
    return parser


# Each imports what it needs when it is called: --help and a wrong command line need not wait for it.


def _init(arguments: argparse.Namespace) -> int:
    from regdata.command.init import init

    return init(PROGRAM, arguments.url, arguments.base_path, Path(arguments.conf))


def _lab(arguments: argparse.Namespace) -> int:
    """Copies of the notebooks lie beside conf.json, so that one can work in them; those that are there stay."""
    from regdata.command.execute import NOTEBOOKS

    config = PROGRAM.load(arguments.conf)
    folder = config.path.parent / "notebooks"
    try:
        folder.mkdir(exist_ok=True)
        for notebook in NOTEBOOKS.glob("*.ipynb"):
            if not (folder / notebook.name).exists():
                shutil.copy(notebook, folder)
    except OSError as error:
        raise StorageError(
            f"{folder} can't be written ({error.strerror}): the notebooks lie beside conf.json; copy that into a "
            "folder of your own, and give it by --conf"
        ) from None
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}", "--log-level=WARN"]
    command += ["--LabApp.default_url=/lab/tree/start.ipynb"]
    if os.geteuid() == 0:  # Jupyter refuses to run as root without it
        command.append("--allow-root")
    print(f"JupyterLab on {config.path}; its notebooks are in {folder}. Ctrl-C ends it.", flush=True)
    os.environ["REGDATA_CONF"] = str(config.path)
    os.execv(sys.executable, [*command, *arguments.options])


def _list(arguments: argparse.Namespace) -> int:
    fixed = {"action": "none", "gc": True, "force": False, "empty_trash": False}
    return clean(PROGRAM, argparse.Namespace(**vars(arguments) | fixed))


def _restore(arguments: argparse.Namespace) -> int:
    from regdata.command.pages import told
    from regdata.records.runs import find_run
    from regdata.sources.site import Site

    config = PROGRAM.load(arguments.conf)
    run = find_run(arguments.run, config).folder.absolute()  # a notebook has another working folder
    Site.open(config)
    return told(PROGRAM, config, "restore", -1, run=str(run), force=arguments.force)


def _doctor(arguments: argparse.Namespace) -> int:
    from regdata.command.pages import told
    from regdata.sources.site import Site

    config = PROGRAM.load(arguments.conf)
    Site.open(config)
    return told(PROGRAM, config, "doctor", 0, 1, repair=arguments.repair, digests=arguments.digests)


def _report(arguments: argparse.Namespace) -> int:
    from regdata.command.pages import report

    return report(PROGRAM, PROGRAM.load(arguments.conf))


def _runs(arguments: argparse.Namespace) -> int:
    from regdata.records.index import runs_table, write_index
    from regdata.records.runs import all_runs

    reports = PROGRAM.load(arguments.conf).reports
    print(runs_table(all_runs(reports)).text)
    try:
        if reports.is_dir():
            print(write_index(reports))
    except StorageError as error:  # who may only read them has been told
        PROGRAM.fail(f"note: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
