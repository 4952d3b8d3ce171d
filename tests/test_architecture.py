"""docs/architecture.md: a page, and true of the imports."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from test_layers import JUDGING, MODULES, PART_OF, ROOT, imported_parts, part_of

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "architecture.md").read_text("utf-8")
DIAGRAM = re.search(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)[1]
EVERYWHERE = {"places", "provenance"}  # besides the root: both halves know them
TABLE = "runs"  # the node that is no part: what joins the halves
GROUPS = {
    name: set(re.findall(r"\b[a-z]+\b", body))
    for name, body in re.findall(r"  subgraph (\w+)[^\n]*\n(.*?)  end\n", DIAGRAM, re.DOTALL)
}
ARROWS = {
    pair
    for line in DIAGRAM.splitlines()
    if "-->" in line
    for pair in pairwise(re.sub(r"\[.*?\]", "", part).strip() for part in line.split("-->"))
}
IMPORTS = {(p, part_of(name)) for name, file in MODULES.items() for p in imported_parts(file)}


def test_it_is_a_page():
    assert len(PAGE.splitlines()) <= 70
    assert PAGE.startswith("# Architecture")


def test_each_part_stands_in_one_group_or_is_known_everywhere():
    assert set(GROUPS) == {"computes", "judges", "faces"}
    assert sum(map(len, GROUPS.values())) == len(set.union(*GROUPS.values()))
    assert set.union(*GROUPS.values()) == set(PART_OF) - set(ROOT) - EVERYWHERE
    assert GROUPS["judges"] == set(JUDGING)
    assert GROUPS["faces"] == {part for part, layer in PART_OF.items() if layer == 5}


@pytest.mark.parametrize("arrow", sorted(a for a in ARROWS if TABLE not in a), ids="-".join)
def test_an_import_stands_behind_every_arrow(arrow):
    assert arrow in IMPORTS


def test_every_import_across_the_halves_is_an_arrow_and_none_leads_into_the_judging_half():
    computes, judges = GROUPS["computes"], GROUPS["judges"]
    assert {(a, b) for a, b in IMPORTS if a in judges and b in computes} <= ARROWS
    assert {(a, b) for a, b in IMPORTS if a in computes and b in judges} == set()


def test_the_table_of_runs_joins_the_store_and_the_judging_half():
    assert {(a, b) for a, b in ARROWS if TABLE in (a, b)} == {("store", TABLE), (TABLE, "stats")}


def test_nothing_but_a_face_imports_a_face():
    faces = GROUPS["faces"]
    assert {(a, b) for a, b in IMPORTS if a in faces and b not in faces} == set()


def test_the_table_of_layers_is_the_one_that_the_tests_hold():
    rows = re.findall(r"^\| (\d)[^|]*\|([^|]*)\|$", PAGE, re.MULTILINE)
    told = {part: int(layer) for layer, parts in rows for part in re.findall(r"`(\w+)`", parts)}
    assert told == PART_OF
