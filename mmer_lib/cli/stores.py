"""``mmer store``: what a result store holds, whether it is whole, and mending it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmer_lib.cli.shell import example, say, store_app

_STORE = Annotated[Path, typer.Argument(help="A result store, of `mmer sweep` or a study.")]


@store_app.command("list", epilog=example("mmer store list runs/quick/store"))
def list_runs(store: _STORE) -> None:
    """Its plans: how many runs of what, of which versions.

    semantics: what the configurations meant to the version that ran them; runs that differ in it
    are never compared with each other. A plan called - holds the runs that no plan names.
    """
    from mmer_lib.audit import describe_store
    from mmer_lib.store import ResultStore

    opened = ResultStore(store, create=False)
    table = describe_store(opened)
    if table.empty:
        say(f"{store} holds no run yet. Next: mmer sweep CORPUS --store {store}")
        return
    width = table["plan"].str.len().max()
    say(table.assign(plan=table["plan"].str.ljust(width)).to_string(index=False))
    if opened.damaged():
        say(f"\nDamaged runs are in it. Next: mmer store verify {store}")


@store_app.command("verify", epilog=example("mmer store verify runs/quick/store"))
def verify_runs(store: _STORE) -> int:
    """Read every byte: is each run as it was written?

    Hashes, keys and scores are made again and compared with what each run.json says. One line for
    each run that is damaged. Exit status: 0 all whole, 1 some damaged, 2 no store.
    """
    from mmer_lib.audit import verify, verify_notes
    from mmer_lib.store import ResultStore

    opened = ResultStore(store, create=False)
    found = [*verify(opened), *verify_notes(opened)]
    for one in found:
        say(one.sentence())
    n, damaged = len(opened.keys()), sum(one.mend for one in found)
    runs = f"{n} {'run' if n == 1 else 'runs'}"
    if damaged:
        say(f"\n{store}: {damaged} of {runs} damaged. Next: {opened.remedy}", err=True)
    elif not found:
        say(f"{store}: {runs}, all whole" if n else f"{store} holds no run yet")
    return 1 if found else 0


@store_app.command("repair", epilog=example("mmer store repair runs/quick/store"))
def repair_runs(store: _STORE) -> None:
    """Move damaged runs aside, so that they are run again.

    Every byte is read first. They go to the folder STORE/damaged; nothing is deleted. The sweep or
    study that made them runs them again, as it does with what is not there.
    """
    from mmer_lib.audit import set_aside, verify
    from mmer_lib.store import ResultStore

    opened = ResultStore(store, create=False)
    found = list(verify(opened))
    moved = set_aside(opened, [one.key for one in found if one.mend])
    for one in found:
        say(one.sentence())
    if not moved:
        say(f"{store}: nothing to mend")
        return
    runs = "1 run" if len(moved) == 1 else f"{len(moved)} runs"
    say(f"\n{runs} moved to {moved[0].parent}")
    say("Next: the sweep or study that made them, once more")
