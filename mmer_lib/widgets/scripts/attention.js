// The attention explorer: a map over real time, the row of one step, entropy and padding mass.
mmer.explorers.attention = function (stage, data) {
  "use strict";
  let now = null, place = null; // the map that is shown, and where it lies on the canvas
  const line1 = mmer.row(stage), line2 = mmer.row(stage);
  const heads = [["0", "mean of heads"]];
  for (let h = 1; h <= data.heads; h++) heads.push([String(h), "head " + h]);
  const named = data.modalities.map((m) => [m, m]);
  const utterance = mmer.select(line1, "utterance", "utterance", data.utterances.map((u, i) => [String(i), u.label]), "0", moved);
  const model = mmer.select(line1, "model", "model", data.models.map((m) => [m, m]), data.opens.model, moved);
  const head = mmer.select(line1, "head", "head", heads, "0", moved);
  const query = mmer.select(line2, "query", "query: who asks", named, data.opens.query, moved);
  const source = mmer.select(line2, "source", "source: who is read", named, data.opens.source, moved);
  const step = mmer.range(line2, "step", "step of the query", 0, 1, 1, 0, draw, (i) => (now ? name(now.q, i) : String(i)));

  function settle(what) { // to a pair, a head and a step that there is
    const has = data.utterances[utterance.value].maps[model.value], pairs = Object.keys(has.pairs).map((k) => k.split(">"));
    if (!pairs.length) { now = null; return; }
    const sameQ = pairs.filter((p) => p[0] === query.value), sameS = pairs.filter((p) => p[1] === source.value);
    const wanted = pairs.filter((p) => p[0] === query.value && p[1] === source.value);
    const order = wanted.concat(what === "source" ? sameS.concat(sameQ) : sameQ.concat(sameS), pairs);
    [query.value, source.value] = order[0];
    const map = has.pairs[order[0].join(">")];
    const w = unpack(map.weights), e = unpack(map.entropy), p = map.padding && unpack(map.padding);
    head.value = String(Math.min(Number(head.value), w.shape[0]));
    now = { w: w, e: e, p: p, q: has.axes[query.value], s: has.axes[source.value], tq: w.shape[1], ts: w.shape[2], h: Number(head.value) };
    step.max = now.tq - 1;
    if (Number(step.value) > now.tq - 1) step.value = now.tq - 1;
  }
  function unpack(packed) {
    return { shape: packed.shape, unit: packed.scale / 255, values: mmer.decode(packed.data, packed.shape) };
  }
  function weight(i, j) {
    const w = now.w, at = (h) => w.unit * w.values[(h * now.tq + i) * now.ts + j];
    if (now.h > 0) return at(now.h - 1);
    let sum = 0;
    for (let h = 0; h < w.shape[0]; h++) sum += at(h);
    return sum / w.shape[0];
  }
  const share = (x, i) => x.unit * x.values[now.h * now.tq + i];
  function name(axis, i) {
    const first = i * axis.stride;
    if (axis.real !== null && first >= axis.real) return "padding " + first;
    if (axis.unit === "seconds") return ((first + axis.stride / 2) / axis.rate).toFixed(2) + " s";
    return (axis.real === null ? "step " : "frame ") + first + (axis.unit === "words" ? " '" + axis.words[first] + "'" : "");
  }
  function mean(f) {
    let sum = 0;
    for (let i = 0; i < now.tq; i++) sum += f(i);
    return sum / now.tq;
  }

  function paint(g, w, h, c) {
    if (!now) { mmer.text(g, "missing", w / 2, h / 2, c.quiet, "center"); return; }
    const strip = Math.min(150, w * 0.2), left = 92, top = 44, wide = w - left - strip - 46, high = 250, i0 = Number(step.value);
    const cw = wide / now.ts, ch = high / now.tq, low = top + high + 62, tall = 96;
    let most = 1e-9;
    for (let i = 0; i < now.tq; i++) for (let j = 0; j < now.ts; j++) most = Math.max(most, weight(i, j));
    place = { left: left, top: top, wide: wide, high: high };
    mmer.text(g, "rows: " + query.value + " asks (" + now.q.unit + ")", left, 12, c.ink, "left", true);
    for (let i = 0; i < now.tq; i++) for (let j = 0; j < now.ts; j++) {
      g.fillStyle = mmer.cividis(weight(i, j) / most);
      g.fillRect(left + j * cw, top + i * ch, cw + 0.5, ch + 0.5);
    }
    padded(g, now.s, left, top, wide, high, cw, true);
    padded(g, now.q, left, top, wide, high, ch, false);
    g.strokeStyle = "#e8601c";
    g.lineWidth = 2.5;
    g.strokeRect(left, top + i0 * ch, wide, ch);
    for (const [f, role] of now.s.events) mmer.marker(g, role, left + (f / now.s.stride + 0.5 / now.s.stride) * cw, top - 10);
    for (const [f, role] of now.q.events) mmer.marker(g, role, left + wide + 10, top + ((f + 0.5) / now.q.stride) * ch);
    axis(g, now.q, left, top, high, ch, c, false);
    // the row of one step
    let best = 1.6 / now.ts;
    for (let j = 0; j < now.ts; j++) best = Math.max(best, weight(i0, j));
    mmer.text(g, "the row of " + query.value + ", " + name(now.q, i0) + " (dashed: equal weights)", left, low - 16, c.ink, "left", true);
    for (let j = 0; j < now.ts; j++) {
      const part = (tall * weight(i0, j)) / best;
      g.fillStyle = now.s.real !== null && j * now.s.stride >= now.s.real ? c.accent2 : c.accent;
      g.fillRect(left + j * cw + 0.08 * cw, low + tall - part, Math.max(1, 0.84 * cw), part);
    }
    const even = low + tall - tall / now.ts / best;
    mmer.line(g, left, even, left + wide, even, c.ink, 1, [5, 4]);
    mmer.line(g, left, low + tall, left + wide, low + tall, c.quiet);
    mmer.text(g, best.toPrecision(2), left - 6, low, c.quiet, "right", false, 11);
    mmer.text(g, "0", left - 6, low + tall, c.quiet, "right", false, 11);
    axis(g, now.s, left, low + tall, wide, cw, c, true);
    mmer.text(g, source.value + " is read (" + now.s.unit + ")", left + wide / 2, now.s.unit === "words" ? h - 10 : low + tall + 36, c.ink, "center");
    beside(g, left + wide + 34, top, strip, high, ch, i0, c);
    scale(g, left + wide + 34, low, strip, most, c);
  }
  function padded(g, axis, left, top, wide, high, cell, across) { // hatched, as in the figure
    const n = across ? now.ts : now.tq;
    if (axis.real === null || axis.real >= n * axis.stride) return;
    const from = (axis.real / axis.stride) * cell;
    g.save();
    g.beginPath();
    if (across) g.rect(left + from, top, wide - from, high); else g.rect(left, top + from, wide, high - from);
    g.clip();
    for (let x = left - high; x < left + wide; x += 9) mmer.line(g, x, top + high, x + high, top, "rgba(255,255,255,.5)", 1);
    g.restore();
  }
  function axis(g, a, left, top, long, cell, c, across) {
    const put = (text, at) => {
      if (!across) return mmer.text(g, text, left - 6, top + at, c.quiet, "right", false, 11);
      g.save();
      g.translate(left + at, top + 8);
      if (a.unit === "words") g.rotate(0.6);
      mmer.text(g, text, 0, 5, c.quiet, a.unit === "words" ? "left" : "center", false, 11);
      g.restore();
    };
    if (a.unit === "seconds") return mmer.ticks(0, long / cell * a.stride / a.rate, 6).forEach((t) => put(String(t), (t * a.rate / a.stride) * cell));
    const n = Math.round(long / cell), each = Math.max(1, Math.ceil((across && a.unit !== "words" ? 24 : 15) / cell));
    for (let i = 0; i < n; i += each) {
      const word = a.unit === "words" && i * a.stride < a.words.length ? a.words[i * a.stride] : String(i * a.stride);
      put(word.length > 11 ? word.slice(0, 10) + "…" : word, (i + 0.5) * cell);
    }
  }
  function beside(g, x, top, wide, high, ch, i0, c) { // entropy as bars, padding mass as dots
    mmer.text(g, "entropy", x, 12, c.accent, "left", true);
    mmer.text(g, "padding", x + wide, 12, c.accent2, "right", true);
    for (const t of [0, 0.5, 1]) {
      mmer.line(g, x + t * wide, top, x + t * wide, top + high, c.line);
      mmer.text(g, String(t), x + t * wide, top + high + 10, c.quiet, "center", false, 11);
    }
    for (let i = 0; i < now.tq; i++) {
      g.fillStyle = c.accent;
      g.globalAlpha = i === i0 ? 1 : 0.5;
      g.fillRect(x, top + i * ch + 0.1 * ch, wide * share(now.e, i), Math.max(1, 0.8 * ch));
      g.globalAlpha = 1;
      if (!now.p) continue;
      g.fillStyle = c.accent2;
      g.beginPath();
      g.arc(x + wide * share(now.p, i), top + (i + 0.5) * ch, Math.min(4, 0.4 * ch + 1), 0, 7);
      g.fill();
    }
  }
  function scale(g, x, y, wide, most, c) {
    for (let i = 0; i < 60; i++) {
      g.fillStyle = mmer.cividis(i / 59);
      g.fillRect(x + (i * wide) / 60, y + 14, wide / 60 + 0.6, 12);
    }
    mmer.text(g, "weight in the map", x, y + 2, c.ink, "left", false, 11);
    mmer.text(g, "0", x, y + 36, c.quiet, "left", false, 11);
    mmer.text(g, most.toPrecision(2), x + wide, y + 36, c.quiet, "right", false, 11);
    const roles = [...new Set(now.q.events.concat(now.s.events).map((e) => e[1]))];
    roles.forEach((role, k) => {
      mmer.marker(g, role, x + 6 + (k % 2) * wide * 0.55, y + 60 + 20 * Math.floor(k / 2));
      mmer.text(g, role, x + 16 + (k % 2) * wide * 0.55, y + 60 + 20 * Math.floor(k / 2), c.ink, "left", false, 11);
    });
  }

  const shown = mmer.picture(stage, 820, 520, paint);
  const said = mmer.says(stage);
  function follow(event) { // the row under the pointer
    const box = shown.canvas.getBoundingClientRect(), y = event.clientY - box.top, x = event.clientX - box.left;
    if (!now || !place || y < place.top || y >= place.top + place.high || x < place.left || x > place.left + place.wide) return;
    const i = Math.floor(((y - place.top) / place.high) * now.tq);
    if (i !== Number(step.value)) { step.value = i; draw(); step.tell(); }
  }
  shown.canvas.addEventListener("pointermove", follow);
  shown.canvas.addEventListener("pointerdown", follow);

  function moved(what) { settle(what); draw(); step.tell(); }
  function draw() {
    shown.redraw();
    if (!now) { said.textContent = "This utterance has no map in " + model.value + ": its modalities are missing."; return; }
    const i = Number(step.value);
    let best = 0;
    for (let j = 1; j < now.ts; j++) if (weight(i, j) > weight(i, best)) best = j;
    const lost = now.p ? (100 * share(now.p, i)).toFixed(0) + " % of it falls on padding (all rows: " + (100 * mean((k) => share(now.p, k))).toFixed(0) + " %)" : "how much falls on padding cannot be told, as the source's steps mix all of time";
    said.textContent = model.value + ", " + head.selectedOptions[0].textContent + ": " + query.value + ", " + name(now.q, i) + ", reads " + source.value + ", " + name(now.s, best) + ", most (" + weight(i, best).toPrecision(2) + "). Its entropy is " + share(now.e, i).toFixed(2) + " of the largest possible (all rows: " + mean((k) => share(now.e, k)).toFixed(2) + "), and " + lost + ".";
    shown.canvas.setAttribute("aria-label", "Attention map: " + query.value + " asks " + source.value + ". " + said.textContent);
    mmer.state(stage, { utterance: data.utterances[utterance.value].id, model: model.value, head: head.value, query: query.value, source: source.value, step: i, entropy: share(now.e, i).toFixed(2), padding: now.p ? share(now.p, i).toFixed(2) : "unknown", weight: weight(i, best).toFixed(4) });
  }
  moved("model");
};
