"""Where the commands that measure put their tables and figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmer_lib.errors import InputError


def check_places(written: Path | None, figures: Path | None) -> None:
    """Raise ``InputError`` where ``--json`` or ``--figures`` could not be written."""
    if written is not None and not written.absolute().parent.is_dir():
        raise InputError(f"--json {written}: there is no folder {written.parent}; make it first")
    if figures is not None and figures.exists() and not figures.is_dir():
        raise InputError(f"--figures {figures}: that is a file, a folder expected")


def write_json(report: dict[str, Any], file: Path) -> None:
    """Beside and renamed into place."""
    beside = file.with_name(f".{file.name}")
    try:
        beside.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
