"""Notebook files: read, cleaned of what a machine or a moment left in them, written whole."""

from __future__ import annotations

import hashlib
import json
import sys
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmer_lib.errors import InputError
from mmer_lib.pipeline.parameters import Parameter, read_parameters

_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


_VERSION = (4, 5)  # of the format: cells have names


@dataclass(frozen=True)
class Notebook:
    """A source notebook: nbformat's node, and the entries of its parameters cell."""

    path: Path
    node: Any = field(repr=False)
    parameters: dict[str, Parameter] = field(repr=False)

    @property
    def stem(self) -> str:
        """``03_training``."""
        return self.path.stem


def read_notebooks(folder: Path) -> dict[str, Notebook]:
    """The notebooks ``NN_name.ipynb`` of ``folder`` by stem, in order.

    Raises ``InputError`` if there is none, or one that cannot be read or has no parameters cell.
    """
    paths = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise InputError(f"{folder}: no notebook there; expected files such as 01_data.ipynb")
    return {path.stem: _read_notebook(path) for path in paths}


def _read_notebook(path: Path) -> Notebook:
    nbformat = import_nbformat()
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
        _check_version(content)
        nbformat.validate(nbformat.from_dict(content))  # its reader would but log what is wrong
        node = nbformat.v4.reads(text)
    except (ValueError, TypeError, RecursionError, nbformat.ValidationError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} is not a readable notebook: {reason}") from error
    cells = [c for c in node.cells if "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise InputError(f"{path}: {len(cells)} cells are tagged `parameters`, one is expected")
    return Notebook(path, node, read_parameters(cells[0].source, path.name))


def _check_version(content: Any) -> None:
    """Cells have had names since 4.5; nbformat would invent some, with a warning."""
    if not isinstance(content, dict) or not isinstance(content.get("cells"), list):
        raise ValueError("it has no list of cells")
    version = content.get("nbformat"), content.get("nbformat_minor")
    if version != _VERSION or not all(isinstance(c, dict) and "id" in c for c in content["cells"]):
        raise ValueError("expected format 4.5, whose cells have an id: save it in JupyterLab")
    if len({str(c["id"]) for c in content["cells"]}) < len(content["cells"]):
        raise ValueError("two cells have the same id")


def text_hash(text: str) -> str:
    """16 hex digits."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def code_hash(node: Any) -> str:
    """A hash of a notebook's code cells, its outputs and its prose left aside."""
    return text_hash(json.dumps([c.source for c in node.cells if c.cell_type == "code"]))


def normalise(node: Any) -> Any:
    """An executed notebook without times, machines and widget states; streams in one piece."""
    clean = deepcopy(node)
    clean.metadata = import_nbformat().from_dict(_METADATA)
    for cell in clean.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = type(cell.metadata)({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell.outputs = _join_streams(cell.outputs)
    return clean


def _join_streams(outputs: list[Any]) -> list[Any]:
    """Outputs with neighbours of one stream joined: how they were cut is chance."""
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == "stream" and output.name == last.get("name"):
            last.text += output.text
        else:
            joined.append(output)
    return joined


def write_back(notebook: Notebook, executed: Path) -> None:
    """Put the outputs of ``executed`` into the source, with the hash of the code they came from."""
    cells = import_nbformat().read(executed, as_version=4).cells
    outputs = {c.id: c.outputs for c in cells if c.cell_type == "code"}
    fresh = normalise(notebook.node)
    code_cells = [c for c in fresh.cells if c.cell_type == "code"]
    for count, cell in enumerate(code_cells, start=1):
        cell.execution_count, cell.outputs = count, outputs[cell.id]
        _name_widgets(cell.outputs)
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    fresh.metadata["mmer"] = {"code": code_hash(fresh), "profile": "quick"}
    write_notebook(fresh, notebook.path)


def renew_prose(notebook: Notebook, executed: Path) -> None:
    """Give an executed copy today's prose; what its code cells show stays.

    A cell that the source does not have, such as that of the given parameters, stays behind the one
    that it stood behind.
    """
    copy = import_nbformat().read(executed, as_version=4)
    known = {c.id for c in notebook.node.cells}
    behind: dict[str, list[Any]] = {}
    for cell in (c for c in copy.cells if c.cell_type == "code"):
        at = cell.id if cell.id in known else list(behind)[-1]
        behind.setdefault(at, []).append(cell)
    cells = [behind.get(c.id, [c]) for c in normalise(notebook.node).cells]
    fresh = [cell for group in cells for cell in group]
    if fresh != copy.cells:
        copy.cells = fresh
        write_notebook(copy, executed)


def _name_widgets(outputs: list[Any]) -> None:
    """In place of a widget, which needs a kernel, a line that says so instead of its insides."""
    for output in outputs:
        data = output.get("data", {})
        if data.pop("application/vnd.jupyter.widget-view+json", None):
            data["text/plain"] = "An explorer stands here: run this cell in JupyterLab to move it."


def write_notebook(node: Any, path: Path) -> None:
    """A notebook file, written beside and renamed into place."""
    beside = path.with_name(f".{path.name}")
    beside.write_text(import_nbformat().writes(node) + "\n", encoding="utf-8")
    beside.replace(path)


def import_nbformat() -> Any:
    """nbformat, without the second of grammars that its JSON schemas would load and not use."""
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    import nbformat

    return nbformat
