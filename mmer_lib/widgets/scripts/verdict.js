// The verdict explorer: from the replicates of a difference to intervals, posterior and verdict.
// se = s sqrt(factor); t, its tails and quantiles after the incomplete beta function.
mmer.explorers.verdict = function (stage, data) {
  "use strict";
  const COLOURS = { // on light and on dark paper
    different: ["#882255", "#dd7799"], "different but within the margin": ["#AA4499", "#dd99cc"],
    equivalent: ["#117733", "#55bb77"], inconclusive: ["#777777", "#aaaaaa"],
  };
  const line1 = mmer.row(stage), line2 = mmer.row(stage);
  const pair = mmer.select(line1, "pair", "pair", data.cases.map((one, i) => [String(i), one.a + " against " + one.b]), "0", moved);
  const folds = mmer.range(line1, "folds", "folds, the first", 1, 1, 1, 1, draw, (k) => (design(k) ? String(design(k).folds) : "none"));
  const margin = mmer.range(line2, "margin", "margin, points", ...data.margins, 0.1, data.start.margin, draw, (m) => m.toFixed(1));
  const sure = mmer.range(line2, "confidence", "confidence, %", ...data.confidences, 0.5, data.start.confidence, draw, (p) => p.toFixed(1));
  function design(k) { // the k-th number of folds of the pair
    const all = data.cases[Number(pair.value)].designs;
    return all[Math.min(all.length, k || Number(folds.value)) - 1];
  }

  function logGamma(x) { // Lanczos
    const c = [76.18009172947146, -86.50532032941677, 24.01409824083091, -1.231739572450155, 1.208650973866179e-3, -5.395239384953e-6];
    let sum = 1.000000000190015;
    c.forEach((one, i) => { sum += one / (x + 1 + i); });
    const t = x + 5.5;
    return Math.log((2.5066282746310005 * sum) / x) - t + (x + 0.5) * Math.log(t);
  }
  function beta(x, a, b) { // regularised incomplete beta, by its continued fraction
    if (x <= 0) return 0;
    if (x >= 1) return 1;
    if (x > (a + 1) / (a + b + 2)) return 1 - beta(1 - x, b, a);
    const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x)) / a;
    let c = 1, d = 1 / (1 - ((a + b) * x) / (a + 1)), f = d;
    for (let m = 1; m < 300; m++) {
      for (const n of [(m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m)), (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))]) {
        d = 1 / (1 + n * d);
        c = 1 + n / c;
        f *= c * d;
      }
      if (Math.abs(c * d - 1) < 1e-14) break;
    }
    return front * f;
  }
  function below(t, df) { // P(T < t)
    if (!Number.isFinite(t)) return t > 0 ? 1 : 0;
    const tail = 0.5 * beta(df / (df + t * t), df / 2, 0.5);
    return t > 0 ? 1 - tail : tail;
  }
  const above = (t, df) => below(-t, df);
  function quantile(p, df) { // of p above .5, by halving
    let low = 0, high = 1;
    while (below(high, df) < p) high *= 2;
    for (let i = 0; i < 90; i++) {
      const middle = (low + high) / 2;
      if (below(middle, df) < p) low = middle; else high = middle;
    }
    return (low + high) / 2;
  }
  function density(t, df) {
    return Math.exp(logGamma((df + 1) / 2) - logGamma(df / 2)) / Math.sqrt(df * Math.PI) * Math.pow(1 + (t * t) / df, -(df + 1) / 2);
  }
  const snap = (x) => (Math.abs(x) < 1e-12 ? 0 : x);
  const over = (effect, se) => (se > 0 ? effect / se : effect === 0 ? 0 : Math.sign(effect) * Infinity);

  function judge(one, m, alpha) { // as stats.judge and stats.decide
    const d = one.differences, k = d.length, mean = snap(d.reduce((a, b) => a + b, 0) / k);
    let spread = snap(Math.sqrt(d.reduce((a, x) => a + (x - d.reduce((p, q) => p + q, 0) / k) ** 2, 0) / (k - 1)));
    if (spread === 0 && mean !== 0) spread = Infinity;
    const se = spread * Math.sqrt(one.factor), wide = se ? quantile(1 - alpha / 2, one.df) * se : 0, narrow = se ? quantile(1 - alpha, one.df) * se : 0;
    const left = above(over(mean + m, se), one.df), right = below(over(mean - m, se), one.df);
    const differ = 2 * above(Math.abs(over(mean, se)), one.df), same = Math.max(left, right);
    const verdict = differ < alpha ? (same < alpha ? "different but within the margin" : "different") : same < alpha ? "equivalent" : "inconclusive";
    return { mean: mean, se: se, df: one.df, low: mean - wide, high: mean + wide, lowE: mean - narrow, highE: mean + narrow, left: left, right: right, differ: differ, same: same, verdict: verdict };
  }

  let found = null, m = 0;
  function paint(g, w, h, c) {
    if (!found) return;
    const one = data.cases[Number(pair.value)], points = design().differences.map((x) => 100 * x), left = 150, wide = w - left - 14, known = Number.isFinite(found.se);
    const reach = Math.max(2.5 * m, Math.abs(100 * found.mean) + (known ? 400 * found.se : m), 1.1 * Math.max(...points.map(Math.abs)));
    const at = (p) => left + (wide * (p + reach)) / (2 * reach), top = 58, high = 170, low = top + high + 34;
    mmer.band(g, at(-m), top, at(m) - at(-m), low + 128 - top, c);
    if (known && found.se > 0) { // the posterior in three colours
      const peak = density(0, found.df), curve = (p) => top + high - (0.92 * high * density((p / 100 - found.mean) / found.se, found.df)) / peak;
      for (const [from, to, colour] of [[-reach, -m, c.accent], [-m, m, c.quiet], [m, reach, c.accent2]]) {
        g.beginPath();
        g.moveTo(at(from), top + high);
        for (let i = 0; i <= 200; i++) g.lineTo(at(from + ((to - from) * i) / 200), curve(from + ((to - from) * i) / 200));
        g.lineTo(at(to), top + high);
        g.fillStyle = colour;
        g.globalAlpha = 0.75;
        g.fill();
        g.globalAlpha = 1;
      }
    } else mmer.line(g, at(100 * found.mean), top + 20, at(100 * found.mean), top + high, c.ink, 3);
    const shares = known ? [found.left, 1 - found.left - found.right, found.right] : null;
    [[one.b + " ahead", left, "left", c.accent], ["within the margin", at(0), "center", c.ink], [one.a + " ahead", left + wide, "right", c.accent2]].forEach(([name, x, side, colour], i) => {
      mmer.text(g, name, x, 14, colour, side, true);
      mmer.text(g, shares ? (100 * Math.max(0, shares[i])).toFixed(1) + " %" : "unknown", x, 32, colour, side, true, 14);
    });
    mmer.text(g, "posterior", left - 10, top + high / 2, c.ink, "right");
    for (const edge of [-m, m]) mmer.line(g, at(edge), top, at(edge), low + 128, c.ink, 1, [5, 4]);
    mmer.line(g, at(0), low - 8, at(0), low + 128, c.ink);
    const dark = parseInt(c.paper.slice(1, 3), 16) < 128, colour = COLOURS[found.verdict][dark ? 1 : 0], p = Number(sure.value);
    [[p.toFixed(1) + " %: is 0 outside?", found.low, found.high, 2, 8], [(2 * p - 100).toFixed(0) + " %: in the margin?", found.lowE, found.highE, 7, 44]].forEach(([name, a, b, thick, y]) => {
      mmer.text(g, name, left - 10, low + y, c.ink, "right");
      if (known) mmer.line(g, at(100 * a), low + y, at(100 * b), low + y, c.paper, thick + 3);
      if (known) mmer.line(g, at(100 * a), low + y, at(100 * b), low + y, colour, thick);
      g.fillStyle = c.paper;
      g.strokeStyle = colour;
      g.lineWidth = 2;
      g.beginPath();
      g.arc(at(100 * found.mean), low + y, 5, 0, 7);
      g.fill();
      g.stroke();
    });
    mmer.text(g, points.length + " " + data.unit + "s", left - 10, low + 82, c.ink, "right");
    points.forEach((x) => mmer.line(g, at(x), low + 72, at(x), low + 92, c.ink, 2));
    mmer.line(g, left, low + 128, left + wide, low + 128, c.quiet);
    for (const t of mmer.ticks(-reach, reach, 8)) mmer.text(g, String(t), at(t), low + 140, c.quiet, "center", false, 11);
    mmer.text(g, one.a + " - " + one.b + " (points; the band is the margin)", left + wide / 2, low + 160, c.ink, "center");
    const lines = found.verdict.replace(" but ", " but|").split("|"); // the longest needs two
    lines.forEach((words, i) => mmer.text(g, words, left - 10, 14 + 18 * i, c.ink, "right", true, lines.length > 1 ? 13 : 15));
  }

  const shown = mmer.picture(stage, 820, 436, paint), said = mmer.says(stage);
  const chance = (p) => (p < 0.001 ? "p < .001" : "p = " + p.toFixed(3).replace("0.", "."));
  function moved() {
    folds.max = data.cases[Number(pair.value)].designs.length;
    folds.value = folds.max;
    draw();
    folds.tell();
  }
  function draw() {
    const one = data.cases[Number(pair.value)];
    m = Number(margin.value);
    found = design() ? judge(design(), m / 100, 1 - Number(sure.value) / 100) : null;
    shown.redraw();
    if (!found) { said.textContent = "There are too few folds to judge this pair."; return; }
    const gap = (x) => (x > 0 ? "+" : "") + (100 * x).toFixed(2), interval = Number.isFinite(found.se) ? sure.value + " % interval " + gap(found.low) + " to " + gap(found.high) : "all agree on it, so no interval";
    said.textContent = one.a + " against " + one.b + ": " + gap(found.mean) + " points (" + interval + "; " + design().folds + " folds; difference " + chance(found.differ) + ", equivalence " + chance(found.same) + "). With a margin of " + m.toFixed(1) + " points the verdict is: " + found.verdict + ".";
    shown.canvas.setAttribute("aria-label", "Posterior and intervals against the margin. " + said.textContent);
    mmer.state(stage, { verdict: found.verdict, margin: m.toFixed(1), confidence: sure.value, folds: design().folds, low: found.low, high: found.high, lowE: found.lowE, highE: found.highE, left: found.left, right: found.right, differ: found.differ, same: found.same });
  }
  moved();
};
