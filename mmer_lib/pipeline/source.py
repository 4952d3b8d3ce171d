"""Where the notebooks are: in the folder we stand in, in a clone, or inside the installed package.

Those of the installed package are never executed where they lie, since nothing is written there: a
study copies them into its run folder, and everything that they write stays there.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from mmer_lib.errors import InputError
from mmer_lib.pipeline.notebooks import Notebook, read_notebooks

LIBRARY = Path(__file__).resolve().parents[1]
PACKAGED = LIBRARY / "notebooks"  # there in an installed package alone
COPIED = "source"  # the folder, in a run folder, of the copies that are executed


def find_folder() -> Path:
    """The notebooks of the folder we are in, else the installed ones, else those of the clone."""
    candidates = [Path.cwd() / "notebooks", PACKAGED, LIBRARY.parent / "notebooks"]
    for folder in candidates:
        if any(folder.glob("[0-9][0-9]_*.ipynb")):
            return folder
    raise InputError(
        f"no notebooks/NN_name.ipynb in {Path.cwd()}, and none came with the package: install it "
        f"again, or run the study in a clone of the repository"
    )


@dataclass(frozen=True)
class Source:
    """Where the notebooks of a study lie, and its run folder."""

    found: Path
    run: Path

    @property
    def packaged(self) -> bool:
        """Whether they are those of the installed package."""
        return self.found == PACKAGED

    @property
    def folder(self) -> Path:
        """Where they are executed."""
        return self.run / COPIED if self.packaged else self.found

    def read(self) -> dict[str, Notebook]:
        """The notebooks by stem, as they will lie in ``folder``. Errors of ``read_notebooks``."""
        notebooks = read_notebooks(self.found)
        return {s: replace(n, path=self.folder / n.path.name) for s, n in notebooks.items()}

    def lay_out(self) -> None:
        """Bring them into ``folder``, if they are not there."""
        if self.packaged:
            copy_notebooks(self.found, self.folder)


def find_source(notebooks: str | Path | None, out: str | Path | None, profile: str) -> Source:
    """The notebooks of a folder (or those of ``find_folder``), and ``out`` or runs/PROFILE.

    That stands beside the notebooks, or where we are if they are the installed ones.
    """
    found = Path(notebooks).absolute() if notebooks else find_folder()
    base = Path.cwd() if found == PACKAGED else found.parent
    return Source(found, Path(out).absolute() if out is not None else base / "runs" / profile)


def copy_notebooks(source: Path, dest: Path) -> None:
    """Copy the notebooks of ``source`` and what they need to ``dest``: pages, summaries.

    Raises ``InputError`` if ``dest`` cannot be written.
    """
    files = [*source.glob("[0-9][0-9]_*.ipynb"), *source.glob("*.md"), *source.glob("summaries/*")]
    try:
        for file in files:
            target = dest / file.relative_to(source)
            if target.is_file() and target.read_bytes() == file.read_bytes():
                continue  # its time stays: nothing is executed again
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    except OSError as error:
        raise InputError(f"cannot write {dest}: {error.strerror}. Choose another folder") from error
