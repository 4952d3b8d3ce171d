// The pooling identity: drag the query; its answer stays inside the hull of the source's frames.
mmer.explorers.pooling = function (stage, data) {
  "use strict";
  const line = mmer.row(stage), MEAN = "#cc79a7", queries = data.queries.map((q) => q.slice());
  const one = (t) => t.toFixed(1);
  const x = mmer.range(line, "x", "query, first number", -data.limit, data.limit, 0.1, queries[0][0], draw, one);
  const y = mmer.range(line, "y", "query, second number", -data.limit, data.limit, 0.1, queries[0][1], draw, one);
  let weights = [], answers = [], place = null;

  function attend() {
    queries[0] = [Number(x.value), Number(y.value)];
    weights = queries.map((q) => {
      const scores = data.frames.map((e) => (q[0] * e[0] + q[1] * e[1]) / Math.SQRT2), top = Math.max(...scores);
      const raised = scores.map((s) => Math.exp(s - top)), total = raised.reduce((a, b) => a + b, 0);
      return raised.map((r) => r / total);
    });
    answers = weights.map((w) => [0, 1].map((d) => w.reduce((sum, a, j) => sum + a * data.frames[j][d], 0)));
  }
  const mean = (rows) => rows[0].map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length);
  function hull(points) { // Andrew's monotone chain
    const sorted = points.slice().sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    const turn = (o, a, b) => (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0]);
    const half = (given) => given.reduce((chain, p) => {
      while (chain.length > 1 && turn(chain[chain.length - 2], chain[chain.length - 1], p) <= 0) chain.pop();
      return chain.concat([p]);
    }, []);
    return half(sorted).slice(0, -1).concat(half(sorted.reverse()).slice(0, -1));
  }

  function paint(g, w, h, c) {
    const side = Math.min(h - 20, w * 0.5), mid = side / 2 + 6, unit = (side / 2 - 4) / data.reach;
    const at = (p) => [mid + unit * p[0], h / 2 - unit * p[1]];
    place = { mid: mid, high: h / 2, unit: unit };
    mmer.line(g, ...at([-data.reach, 0]), ...at([data.reach, 0]), c.line);
    mmer.line(g, ...at([0, -data.reach]), ...at([0, data.reach]), c.line);
    g.beginPath();
    hull(data.frames).forEach((p, i) => (i ? g.lineTo(...at(p)) : g.moveTo(...at(p))));
    g.closePath();
    g.globalAlpha = 0.18;
    g.fillStyle = c.accent;
    g.fill();
    g.globalAlpha = 1;
    g.strokeStyle = c.quiet;
    g.lineWidth = 1;
    g.stroke();
    queries.map((q, i) => queries.length - 1 - i).forEach((i) => { // the one that moves on top
      g.globalAlpha = i ? 0.35 : 1;
      mmer.line(g, ...at(queries[i]), ...at(answers[i]), c.accent, 1.4, [2, 4]);
      diamond(g, at(queries[i]), i ? 7 : 10, c);
      mmer.fill(g, "o", ...at(answers[i]), 6, c.accent);
      g.globalAlpha = 1;
    });
    data.frames.forEach((e, j) => {
      mmer.fill(g, "o", ...at(e), 9, "#c04a00");
      mmer.text(g, String(j + 1), ...at(e), "#ffffff", "center", true, 11);
    });
    const middle = at(mean(answers));
    mmer.fill(g, "*", ...middle, 11, c.paper);
    mmer.fill(g, "*", ...middle, 8, MEAN);
    bars(g, side + 96, 46, w - side - 110, h - 140, c);
    key(g, side + 30, h - 66, c);
  }
  function diamond(g, p, r, c) {
    mmer.fill(g, "d", ...p, r, c.paper);
    g.strokeStyle = c.accent;
    g.lineWidth = 2.5;
    g.stroke();
  }
  function bars(g, left, top, wide, high, c) {
    const all = mean(weights), step = high / all.length;
    mmer.text(g, "weights of the source's frames", left - 66, top - 18, c.ink, "left", true);
    for (const t of [0, 0.5, 1]) {
      mmer.line(g, left + t * wide, top, left + t * wide, top + high, c.line);
      mmer.text(g, String(t), left + t * wide, top + high + 10, c.quiet, "center", false, 11);
    }
    all.forEach((a, j) => {
      mmer.text(g, "frame " + (j + 1), left - 8, top + (j + 0.5) * step, c.quiet, "right");
      g.fillStyle = c.accent;
      g.fillRect(left, top + j * step + 0.1 * step, wide * weights[0][j], 0.38 * step);
      g.fillStyle = MEAN;
      g.fillRect(left, top + j * step + 0.5 * step, wide * a, 0.38 * step);
    });
  }
  function key(g, left, top, c) {
    diamond(g, [left, top], 7, c);
    mmer.text(g, "query: drag it (pale: the other queries)", left + 14, top, c.ink);
    mmer.fill(g, "o", left, top + 21, 6, c.accent);
    mmer.text(g, "its answer, inside the hull", left + 14, top + 21, c.ink);
    mmer.fill(g, "*", left, top + 42, 8, MEAN);
    mmer.text(g, "mean of all answers over the query's time", left + 14, top + 42, c.ink);
  }

  const shown = mmer.picture(stage, 820, 440, paint), said = mmer.says(stage);
  shown.canvas.style.touchAction = "none";
  shown.canvas.style.cursor = "grab";
  function drag(event) {
    if (!(event.buttons & 1) || !place) return;
    const box = shown.canvas.getBoundingClientRect(), far = (event.clientX - box.left - place.mid) / place.unit;
    if (Math.abs(far) > data.reach) return;
    x.value = far;
    y.value = (place.high - (event.clientY - box.top)) / place.unit;
    draw();
    x.tell();
    y.tell();
  }
  shown.canvas.addEventListener("pointerdown", drag);
  shown.canvas.addEventListener("pointermove", drag);

  function draw() {
    attend();
    shown.redraw();
    const best = weights[0].indexOf(Math.max(...weights[0])), two = (p) => "(" + p.map((t) => t.toFixed(2)).join(", ") + ")";
    said.textContent = "A query at (" + queries[0].map(one).join(", ") + ") gets " + two(answers[0]) + ", a mixture of the source's frames in which frame " + (best + 1) + " weighs most (" + weights[0][best].toFixed(2) + "); the mean over all " + queries.length + " queries is " + two(mean(answers)) + ". Both lie inside the hull.";
    shown.canvas.setAttribute("aria-label", "The plane of queries and frames. " + said.textContent);
    mmer.state(stage, { x: one(queries[0][0]), y: one(queries[0][1]), answer: answers[0].map((t) => t.toFixed(4)).join(" "), mean: mean(answers).map((t) => t.toFixed(4)).join(" ") });
  }
  draw();
};
