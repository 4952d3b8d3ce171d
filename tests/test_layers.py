"""The house of DESIGN.md: modules import from lower layers only, and the judging half no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mmer_lib

LIBRARY = Path(mmer_lib.__file__).parent
PART_OF = {  # part of the library -> its layer
    "errors": 0, "options": 0, "extras": 0, "places": 0,
    "pooling": 0, "metrics": 0, "stats": 0, "paper": 0, "encoders": 0, "recurrence": 0,
    "kernels": 0, "features": 0, "workers": 0, "claims": 0, "integrity": 0, "provenance": 0,
    "schedule": 0, "arrayfiles": 0,
    "corpora": 1, "fusion": 1, "plots": 1,
    "model": 2,
    "losses": 3, "train": 3, "maps": 3, "matching": 3, "faithfulness": 3,
    "store": 4, "audit": 4, "sweep": 4, "distributed": 4, "robustness": 4, "experiments": 4,
    "bench": 4,
    "widgets": 5, "teaching": 5, "pipeline": 5, "book": 5, "cli": 5,
    "doctor": 5, "probes": 5, "machine": 5, "requirements": 5,
}  # fmt: skip
JUDGING = ("metrics", "stats", "paper", "plots")
STRANGERS = ("corpora", "fusion", *JUDGING)  # of the first layers, these do not know each other
# The few steps inside a layer. The judging half is one thing: its parts may read each other.
WITHIN = {("experiments", "sweep"), ("experiments", "store"), ("experiments", "robustness"),
    ("train", "losses"), ("maps", "train"), ("faithfulness", "train"), ("faithfulness", "maps"),
    ("sweep", "store"), ("robustness", "sweep"), ("robustness", "store"),
    ("audit", "store"), ("sweep", "audit"),
    ("sweep", "distributed"), ("distributed", "store"), ("bench", "experiments"),
    ("cli", "pipeline"), ("cli", "teaching"), ("teaching", "pipeline"), ("book", "pipeline"),
    ("cli", "book"), ("cli", "doctor"), ("doctor", "machine"),
    ("doctor", "requirements"),
    ("encoders", "recurrence"), ("recurrence", "kernels"),
    ("features", "workers"), ("features", "places"), ("features", "arrayfiles"),
    ("kernels", "places"), ("bench", "sweep"), ("bench", "store"),
}  # fmt: skip
ROOT = ("mmer_lib", "errors", "options", "extras")  # version and users' mistakes: known everywhere
HEAVY = ("numpy", "pandas", "torch", "matplotlib", "sklearn", "scipy", "nbformat")


def part_of(module: str) -> str:
    """``mmer_lib.corpora.base`` -> ``corpora``."""
    return module.split(".")[1] if "." in module else module


def modules() -> dict[str, Path]:
    """Dotted name -> file, for every module of the library."""
    found = {}
    for file in sorted(LIBRARY.rglob("*.py")):
        names = ("mmer_lib", *file.relative_to(LIBRARY).with_suffix("").parts)
        found[".".join(n for n in names if n != "__init__")] = file
    return found


def imported_modules(source: str) -> set[str]:
    """Every module that is imported anywhere in ``source``, but for type checkers only."""
    names: set[str] = set()
    for node in _without_type_checking(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layers"
            whole = node.module == "mmer_lib"
            names |= {f"mmer_lib.{a.name}" for a in node.names} if whole else {str(node.module)}
    return names


def _without_type_checking(node: ast.AST):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from _without_type_checking(child)


def imported_parts(file: Path) -> set[str]:
    """The parts of the library that ``file`` imports."""
    names = imported_modules(file.read_text(encoding="utf-8"))
    return {part_of(name) for name in names if name.split(".")[0] == "mmer_lib"}


def is_allowed(importer: str, imported: str) -> bool:
    """Whether DESIGN.md lets the part ``importer`` import the part ``imported``."""
    if imported == importer or imported in ROOT:
        return True
    if importer in JUDGING and imported in JUDGING:
        return True
    if importer in STRANGERS and imported in STRANGERS:
        return False
    return PART_OF[imported] < PART_OF[importer] or (importer, imported) in WITHIN


MODULES = modules()
parametrize_modules = pytest.mark.parametrize("name", MODULES)


@parametrize_modules
def test_every_module_belongs_to_a_part_with_a_layer(name):
    assert part_of(name) in {*PART_OF, "mmer_lib"}


@parametrize_modules
def test_a_module_imports_only_from_lower_layers(name):
    importer = part_of(name)
    broken = [p for p in imported_parts(MODULES[name]) if not is_allowed(importer, p)]
    assert not broken, f"{name} (layer {PART_OF.get(importer)}) imports {broken}"


@pytest.mark.parametrize(
    ("importer", "imported"),
    [("plots", "model"), ("stats", "cli"), ("train", "sweep"), ("corpora", "fusion"),
     ("metrics", "corpora"), ("store", "sweep"), ("corpora", "pipeline")],
)  # fmt: skip
def test_the_rule_refuses_what_the_design_refuses(importer, imported):
    assert not is_allowed(importer, imported)


def test_imports_are_found_wherever_they_stand():
    source = (
        "import a.b\ndef f():\n    from mmer_lib import stats\n    from mmer_lib.plots import x"
    )
    assert imported_modules(source) == {"a.b", "mmer_lib.stats", "mmer_lib.plots"}


def fresh_imports(module: str) -> set[str]:
    """The top-level modules that a new interpreter holds after importing ``module``."""
    code = f"import sys, {module}; print(*{{m.split('.')[0] for m in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("part", [*JUDGING, "store"])
def test_the_judging_half_and_the_store_need_no_torch(part):
    assert "torch" not in fresh_imports(f"mmer_lib.{part}")


@pytest.mark.parametrize(
    "module", ["mmer_lib", "mmer_lib.cli", "mmer_lib.pipeline", "mmer_lib.doctor"]
)
def test_importing_the_package_or_its_command_line_loads_nothing_heavy(module):
    assert not fresh_imports(module) & set(HEAVY)
