// The playground: edit queries, keys and values; scores, weights and output are computed here.
mmer.explorers.qkv = function (stage, data) {
  "use strict";
  const inputs = {}, masks = [], size = data.queries[0].length;
  const tables = [["queries", "q", "queries q: who asks"], ["keys", "k", "keys k: compared with q"], ["values", "v", "values v: what is read"]];
  const above = mmer.row(stage);
  above.style.alignItems = "flex-start";
  for (const [key, letter, title] of tables) { // one table of number fields each
    const table = mmer.element("table", { style: "border-collapse:collapse" }, above);
    mmer.element("caption", { style: "caption-side:top;text-align:left;font-weight:bold;white-space:nowrap" }, table, title);
    inputs[letter] = data[key].map((numbers, i) => {
      const line = mmer.element("tr", {}, table);
      mmer.element("th", { scope: "row", style: "padding-right:.4em" }, line, letter + (i + 1));
      const fields = numbers.map((x, j) => mmer.number(mmer.element("td", {}, line), letter + (i + 1) + (j + 1), letter + (i + 1) + ", number " + (j + 1), -9, 9, 0.5, x, draw));
      if (letter === "k") masks.push(mmer.checkbox(mmer.element("td", { style: "padding-left:.5em" }, line), "mask" + (i + 1), "may be read", true, draw));
      return fields;
    });
  }
  const heat = mmer.range(mmer.row(stage), "temperature", "temperature", 0.1, 5, 0.1, 1, draw, (t) => t.toFixed(1));
  const read = (letter) => inputs[letter].map((line) => line.map((field) => Math.min(9, Math.max(-9, Number(field.value) || 0))));

  function attend() { // softmax(q k' / (sqrt(D) temperature)) v, masked keys left out
    const q = read("q"), k = read("k"), v = read("v"), open = masks.map((box) => box.checked);
    const scores = q.map((a) => k.map((b) => a.reduce((sum, x, i) => sum + x * b[i], 0)));
    const scaled = scores.map((line) => line.map((s, j) => (open[j] ? s / (Math.sqrt(size) * Number(heat.value)) : -Infinity)));
    const weights = scaled.map((line) => {
      const top = Math.max(...line), raised = line.map((s) => (s === -Infinity ? 0 : Math.exp(s - top)));
      const total = raised.reduce((a, b) => a + b, 0);
      return raised.map((x) => (total ? x / total : 0));
    });
    const output = weights.map((line) => v[0].map((_, d) => line.reduce((sum, w, j) => sum + w * v[j][d], 0)));
    return { scores: scores, scaled: scaled, weights: weights, output: output };
  }

  let found = attend();
  function paint(g, w, h, c) {
    const n = found.weights[0].length, d = found.output[0].length, gap = 40, cell = (w - 4 * gap) / (3 * n + d);
    let x = gap - 10;
    const divisor = Number(heat.value).toFixed(1) + " √" + size;
    for (const [title, part, short] of [["1 scores", "q · k", "scores"], ["2 scaled", "/ (" + divisor + ")", "scaled"], ["3 softmax", "weights", "weights"], ["4 output", "mixed v", "output"]]) {
      mmer.text(g, title, x, 14, c.ink, "left", true, 13);
      mmer.text(g, part, x, 31, c.quiet, "left");
      table(g, found[short], x, 62, cell, c, short);
      x += found[short][0].length * cell + gap;
    }
  }
  function table(g, numbers, x, y, cell, c, kind) {
    const high = 38;
    numbers.forEach((line, i) => {
      mmer.text(g, "q" + (i + 1), x - 6, y + (i + 0.5) * high, c.quiet, "right", false, 11);
      line.forEach((number, j) => {
        if (i === 0) mmer.text(g, kind === "output" ? "n" + (j + 1) : "k" + (j + 1), x + (j + 0.5) * cell, y - 9, c.quiet, "center", false, 11);
        g.fillStyle = mmer.cividis(number);
        if (kind === "weights") g.fillRect(x + j * cell, y + i * high, cell - 2, high - 2);
        else mmer.band(g, x + j * cell, y + i * high, cell - 2, high - 2, c);
        const ink = kind !== "weights" ? c.ink : number > 0.46 ? "#000000" : "#ffffff";
        const text = number === -Infinity ? "masked" : number.toFixed(2);
        mmer.text(g, text, x + (j + 0.5) * cell - 1, y + (i + 0.5) * high, number === -Infinity ? c.quiet : ink, "center", false, cell < 40 ? 10 : 13);
      });
    });
  }

  const shown = mmer.picture(stage, 820, 62 + 38 * data.queries.length + 8, paint), said = mmer.says(stage);
  function draw() {
    found = attend();
    shown.redraw();
    const blind = masks.every((box) => !box.checked);
    said.textContent = blind ? "No key may be read: all weights are zero, and so is every output." : found.weights.map((line, i) => {
      const best = line.indexOf(Math.max(...line));
      return "q" + (i + 1) + " reads k" + (best + 1) + " most (" + line[best].toFixed(2) + ") and gets (" + found.output[i].map((x) => x.toFixed(2)).join(", ") + ")";
    }).join("; ") + ".";
    shown.canvas.setAttribute("aria-label", "Scores, scaled scores, weights and output. " + said.textContent);
    mmer.state(stage, { temperature: Number(heat.value).toFixed(1), read: masks.filter((box) => box.checked).length, weights: JSON.stringify(found.weights), output: JSON.stringify(found.output) });
  }
  draw();
};
