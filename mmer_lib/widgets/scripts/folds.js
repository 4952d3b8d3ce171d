// The fold explorer: who is in train, dev and test, which classes, and what leaks.
mmer.explorers.folds = function (stage, data) {
  "use strict";
  const PARTS = [["train", "#9fc3de"], ["dev", "#d9a520"], ["test", "#b8410f"]];
  const line = mmer.row(stage), names = data.names;
  const protocol = mmer.select(line, "protocol", "protocol", names.map((p) => [p, p]), names[0], moved);
  const fold = mmer.range(line, "fold", "fold", 1, data.protocols[names[0]].length, 1, 1, draw);
  const kind = mmer.select(line, "group", "show every", data.kinds.map((k) => [k, k]), data.kinds[0], moved);
  const one = () => data.protocols[protocol.value][Number(fold.value) - 1];

  function paint(g, w, h, c) {
    const now = one(), groups = now.groups[kind.value];
    PARTS.forEach(([part, colour], i) => {
      g.fillStyle = colour;
      g.fillRect(46 + 170 * i, 6, 14, 14);
      mmer.text(g, part + ": " + now.parts[i] + " utterances", 66 + 170 * i, 13, c.ink);
    });
    columns(g, groups, 46, 62, w - 56, 150, c);
    shares(g, now, 96, 292, w * 0.52 - 60, h - 330, c);
    leaks(g, now.leakage, w * 0.62, 292, c);
  }
  function columns(g, groups, left, top, wide, high, c) { // a column a group, its parts stacked
    const rows = groups.counts, mixed = rows.filter((r) => r.filter((n) => n > 0).length > 1).length;
    if (!rows.length) return mmer.text(g, "the corpus does not name a " + kind.value, left, top + 40, c.quiet);
    const most = Math.max(...rows.map((r) => r[0] + r[1] + r[2])), step = wide / rows.length;
    mmer.text(g, "a column a " + kind.value + ": " + mixed + " of " + rows.length + " shown are in more than one part", left, top - 18, c.ink, "left", true);
    for (const t of mmer.ticks(0, most, 3)) {
      mmer.line(g, left, top + high - (high * t) / most, left + wide, top + high - (high * t) / most, c.line);
      mmer.text(g, String(t), left - 6, top + high - (high * t) / most, c.quiet, "right", false, 11);
    }
    rows.forEach((counts, j) => {
      let base = top + high;
      counts.forEach((n, i) => {
        g.fillStyle = PARTS[i][1];
        g.fillRect(left + j * step + 0.08 * step, base - (high * n) / most, 0.84 * step, (high * n) / most);
        base -= (high * n) / most;
      });
      if (step > 26) mmer.text(g, groups.names[j].slice(0, Math.floor(step / 6.5)), left + (j + 0.5) * step, top + high + 11, c.quiet, "center", false, 11);
    });
    const all = groups.all > rows.length ? "the " + rows.length + " largest of " + groups.all : "all " + groups.all;
    mmer.text(g, kind.value + "s (" + all + "), utterances", left + wide / 2, top + high + 30, c.ink, "center");
  }
  function shares(g, now, left, top, wide, high, c) { // class shares of every part
    const part = now.classes.map((counts) => counts.map((n) => n / Math.max(1, counts.reduce((a, b) => a + b, 0))));
    const most = Math.max(...part.flat(), 1e-9), step = high / data.classes.length;
    mmer.text(g, "are the classes alike in all parts?", left - 50, top - 16, c.ink, "left", true);
    for (const t of mmer.ticks(0, 100 * most, 4)) {
      const x = left + (wide * t) / 100 / most;
      mmer.line(g, x, top, x, top + high, c.line);
      mmer.text(g, t + " %", x, top + high + 11, c.quiet, "center", false, 11);
    }
    data.classes.forEach((name, k) => {
      mmer.text(g, name.slice(0, 12), left - 8, top + (k + 0.5) * step, c.quiet, "right");
      PARTS.forEach(([, colour], i) => {
        g.fillStyle = colour;
        g.fillRect(left, top + (k + 0.1) * step + 0.27 * i * step, (wide * part[i][k]) / most, 0.26 * step);
      });
    });
    mmer.text(g, "share of the part", left + wide / 2, top + high + 28, c.ink, "center");
  }
  function leaks(g, leakage, left, top, c) {
    mmer.text(g, "in the learning part AND in test", left, top - 16, c.ink, "left", true);
    Object.entries(leakage).forEach(([what, n], i) => {
      const text = n === null ? "unknown" : String(n);
      mmer.text(g, text, left + 70, top + 20 + 36 * i, n ? c.accent2 : c.quiet, "right", n > 0, n ? 20 : 13);
      mmer.text(g, what, left + 82, top + 20 + 36 * i, c.ink, "left", false, 13);
    });
  }

  const shown = mmer.picture(stage, 820, 500, paint), said = mmer.says(stage);
  function moved() {
    fold.max = data.protocols[protocol.value].length;
    draw();
    fold.tell();
  }
  function draw() {
    shown.redraw();
    const now = one(), sizes = PARTS.map(([part], i) => now.parts[i] + " " + part).join(", ");
    said.textContent = protocol.value + ", fold " + fold.value + " of " + data.protocols[protocol.value].length + ": " + sizes + " utterances; " + now.says;
    shown.canvas.setAttribute("aria-label", "Parts of a fold. " + said.textContent);
    mmer.state(stage, { protocol: protocol.value, fold: fold.value, group: kind.value, leaks: JSON.stringify(now.leakage) });
  }
  draw();
};
