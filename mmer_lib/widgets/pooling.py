"""The pooling identity: drag a query, and watch its answer stay a mixture of the source's frames.

Data for the book: ``frames`` (Ts, 2), ``queries`` (Tq, 2), ``reach`` (the half width of the plane).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmer_lib import plots
from mmer_lib.plots.mechanism import attend
from mmer_lib.widgets.base import Book, Drawn, Explorer, explore, slider

FRAMES = ((1.6, 0.5), (0.4, 1.7), (-1.3, 1.0), (-1.5, -0.8), (0.1, -1.6), (1.2, -0.9))
QUERIES = ((2.5, 2.0), (-2.8, 0.6), (0.4, -3.0), (3.2, -1.2))
REACH = 4.5

Points = Sequence[Sequence[float]]


def pooling_explorer(frames: Points = FRAMES, queries: Points = QUERIES) -> Explorer:
    """Move the first query anywhere in the plane: answers never leave the hull of the frames.

    ``frames`` (Ts, 2) are keys and values in one; the other ``queries`` (Tq, 2) stay. Controls:
    ``e2e-x``, ``e2e-y``; the sentence ``e2e-pooling``. Raises ``InputError`` for other shapes.
    """
    source = plots.attention.as_plane("frames", frames)
    asking = plots.attention.as_plane("queries", queries)
    reach = max(REACH, 1.2 * float(abs(source).max()), 1.2 * float(abs(asking).max()))
    limit = round(0.95 * reach, 1)
    controls = {
        "x": slider("query, first number", float(asking[0, 0]), -limit, limit, 0.1),
        "y": slider("query, second number", float(asking[0, 1]), -limit, limit, 0.1),
    }

    def draw(x: float, y: float) -> Drawn:
        moved = np.vstack([[x, y], asking[1:]])
        found = attend(moved, source, source)
        answer, mean = found.output[0], found.output.mean(axis=0)
        best = int(found.weights[0].argmax())
        text = (
            f"A query at ({x:.1f}, {y:.1f}) gets ({answer[0]:.2f}, {answer[1]:.2f}), a mixture of "
            f"the source's frames in which frame {best + 1} weighs most "
            f"({found.weights[0, best]:.2f}); the mean over all {len(moved)} queries is "
            f"({mean[0]:.2f}, {mean[1]:.2f}). Both lie inside the hull."
        )
        state = {"x": f"{x:.1f}", "y": f"{y:.1f}", "answer": f"{answer[0]:.2f} {answer[1]:.2f}"}
        return Drawn(plots.pooling_view(source, moved, reach=reach), text, state)

    text = "Wherever the query is moved, its answer stays inside the hull of the source's frames."
    data = {"frames": source.tolist(), "queries": asking.tolist(), "reach": reach, "limit": limit}
    book = Book("pooling", "The pooling identity", text, data)
    return explore(controls, draw, "pooling", book)
