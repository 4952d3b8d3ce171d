"""A run folder as a study leaves it, made by hand: two tiny notebooks, a glossary, a figure."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Audio
from matplotlib.figure import Figure
from nbformat import v4, write

from mmer_lib import plots
from mmer_lib.book import Book, build_book
from mmer_lib.book.build import SCRIPTS
from mmer_lib.book.outputs import EXPLORER
from mmer_lib.provenance import write_table

ALT = "A line that rises from the lower left to the upper right."
ATTACK = '<script>document.title = "taken"</script><b onclick="x()">hm</b>'
CORPUS = SimpleNamespace(name=f"small {ATTACK}", fingerprint="f00d")
HTML_ATTACK = '<p onclick="document.title=1">kept</p><script>document.title = "taken"</script>'
DATA = {"values": [1, 2, 3], "text": "</script><script>document.title = 'taken'</script>"}
DEMO = """
mmer.explorers.demo = function (stage, data) {
  stage.innerHTML = '<div class="controls" style="display:flex"><label for="demo-n">bar</label>'
    + '<input type="range" id="demo-n" min="0" max="2" value="0"></div>'
    + '<canvas width="300" height="80" role="img" aria-label="a bar"></canvas><p aria-live="polite"></p>';
  const [input, canvas, said] = ["input", "canvas", "p"].map((name) => stage.querySelector(name));
  function draw() {
    const value = data.values[input.value], ink = canvas.getContext("2d");
    ink.clearRect(0, 0, 300, 80);
    ink.fillStyle = getComputedStyle(stage).getPropertyValue("--accent");
    ink.fillRect(0, 0, 90 * value, 80);
    stage.dataset.value = value;
    said.textContent = `the bar is ${value} long`;
  }
  input.addEventListener("input", draw);
  draw();
};
"""  # noqa: E501


def code(source: str, outputs: list[Any] | None = None, tags: list[str] | None = None) -> Any:
    cell = v4.new_code_cell(source, outputs=outputs or [], execution_count=1)
    cell.metadata = {"tags": tags} if tags else {}
    return cell


def shown(**data: Any) -> Any:
    """A display output; keywords are MIME types with __ for /."""
    return v4.new_output("display_data", {k.replace("__", "/"): v for k, v in data.items()})


def said(text: str) -> Any:
    return v4.new_output("stream", name="stdout", text=text)


def draw_line(end: float = 1.0) -> Figure:
    figure, ax = plt.subplots()
    ax.plot([0, 1], [0, end])
    ax.set(title="Does it rise?", ylim=(-1.1, 1.1))
    return figure


def save_figure(folder: Path, name: str = "01_line") -> None:
    plots.save(draw_line(), name, folder, alt=ALT, of=CORPUS)


def picture(end: float = 1.0) -> str:
    """The line as a kernel sends it, a PNG in base64, with fewer pixels than a saved one."""
    buffer = BytesIO()
    draw_line(end).savefig(buffer, format="png", dpi=100, bbox_inches="tight")
    plt.close("all")
    return b64encode(buffer.getvalue()).decode()


def first_cells() -> list[Any]:
    frame = pd.DataFrame({"score": [0.5, 0.25], "text": [ATTACK, "fine"]}, index=["self", "cross"])
    sound = Audio(np.sin(np.arange(800)), rate=8000)._repr_html_()
    return [
        v4.new_markdown_cell(
            "# 01 · What is small?\n\n**You will know**\n\n- one thing;\n- two things;\n- three."
            "\n\n*About 1 minute on a laptop.*"
        ),
        code("seed: int = 3  # of nothing", tags=["parameters"]),
        code('# Parameters\nfigures = "../runs/x/figures"', tags=["injected-parameters"]),
        v4.new_markdown_cell(
            "## A formula & a [link](02_second.ipynb#The-Explorer)\n\n"
            "Inline $\\bar a_{hj}$ and\n\n$$"
            "\\frac{1}{T_q}\\sum_t a_{tj} = \\begin{aligned} x &= 1\\\\ y &< 2\\end{aligned}$$"
            "\n\nSee the [glossary](glossary.md#heads), [the web](https://example.org/paper)."
        ),
        code('plots.save(ax, "01_line", figures);', [shown(image__png=picture())]),
        code("frame", [shown(text__html=frame.to_html(), text__plain="no")]),
        code("transcript", [said(ATTACK)]),
        code("display(own)", [shown(text__html=HTML_ATTACK)]),
        code("Audio(wave)", [shown(text__html=sound, text__plain="<Audio>")]),
        v4.new_markdown_cell(
            "#### Exercises\n\n**Exercise 1.** Do it.\n\n<details><summary>Hint</summary>\n\n"
            "Think of **one**.\n\n</details>"
        ),
        code("answer = 1", tags=["solution"]),
        code("check(answer)", [said("Right: it is one.")], tags=["check"]),
    ]  # fmt: skip


def second_cells() -> list[Any]:
    bundle = {"kind": "demo", "title": "Demo", "text": "A bar of three lengths.", "data": DATA}
    explorer = shown(text__plain="VBox(children=())", **{EXPLORER: bundle})
    long = "x = [" + ", ".join(str(n) for n in range(60)) + "]"
    return [
        v4.new_markdown_cell("# 02 · What moves?"),
        v4.new_markdown_cell("## The explorer\n\nMove the *zanzibar* control."),
        code("explore()", [explorer]),
        code(long, [said("a b " * 80)]),
        v4.new_markdown_cell("## The explorer\n\nA heading of the same name."),
    ]


def make_run(root: Path, **cells: list[Any]) -> Path:
    """``root`` as a repository with one finished run in ``root/runs/x``; returns that folder."""
    run = root / "runs" / "x"
    for folder in (root / "notebooks", run / "notebooks", root / "scripts"):
        folder.mkdir(parents=True)
    contents = {"01_first": first_cells(), "02_second": second_cells()} | cells
    for stem, of_notebook in contents.items():
        for folder in (root / "notebooks", run / "notebooks"):
            write(v4.new_notebook(cells=of_notebook), folder / f"{stem}.ipynb")
    glossary = (
        "# Glossary\n\n## Heads\n\nSeveral attentions at once; see [02](02_second.ipynb).\n\n"
    )
    glossary += "| symbol | meaning |\n|---|---|\n| H | heads |\n"
    (root / "notebooks" / "glossary.md").write_text(glossary)
    (root / "scripts" / "common.js").write_text((SCRIPTS / "common.js").read_text())
    (root / "scripts" / "demo.js").write_text(DEMO)
    save_figure(run / "figures")
    write_verdicts(run / "verdicts.csv")
    return run


def write_verdicts(path: Path) -> None:
    row = {
        "a": "cross-AT", "b": "self-AT", "metric": "balanced_accuracy", "alpha": 0.05,
        "margin": 0.01, "difference": -0.02, "low": -0.05, "high": 0.01, "p_holm": 0.0004,
        "p_equivalence": 0.3, "verdict": "inconclusive", "sentence": f"Nothing is shown {ATTACK}.",
    }  # fmt: skip
    write_table(pd.DataFrame([row]), path, CORPUS)


def make_book(root: Path) -> Book:
    """The book of ``make_run``."""
    return build_book(make_run(root), root / "notebooks", scripts=root / "scripts")
