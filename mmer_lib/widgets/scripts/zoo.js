// The zoo explorer: accuracy against a cost; point at a dot, or choose its name.
mmer.explorers.zoo = function (stage, data) {
  "use strict";
  const line = mmer.row(stage), axes = data.axis, named = Object.fromEntries(axes), dots = [];
  const cost = mmer.select(line, "cost", "cost", axes, axes[0][0], draw);
  const fusion = mmer.select(line, "fusion", "fusion", data.rows.map((row, i) => [String(i), row.name]), "0", draw);
  const short = (n) => (n >= 1e6 ? Number((n / 1e6).toPrecision(3)) + " M" : n >= 1e4 ? Number((n / 1e3).toPrecision(3)) + " k" : String(Number(n.toPrecision(3))));

  function paint(g, w, h, c) {
    const left = 58, top = 20, wide = w - left - 70, high = h - top - 56, chosen = Number(fusion.value);
    const prices = data.rows.map((row) => row.costs[cost.value]), above = prices.filter((n) => n > 0);
    const least = Math.min(...above), most = Math.max(...above), room = prices.some((n) => n === 0) ? 46 : 14;
    const long = Math.log(most / least) || 1, x = (n) => left + (n > 0 ? room + ((wide - room) * Math.log(n / least)) / long : 8);
    const ends = data.rows.flatMap((row) => [row.low === null ? row.mean : row.low, row.high === null ? row.mean : row.high]);
    const low = Math.max(0, Math.min(...ends) - 0.02), up = Math.min(1, Math.max(...ends) + 0.02), y = (s) => top + high - (high * (Math.min(1, s) - low)) / (up - low);
    for (const t of mmer.ticks(100 * low, 100 * up, 6)) {
      mmer.line(g, left, y(t / 100), left + wide + 10, y(t / 100), c.line);
      mmer.text(g, String(t), left - 8, y(t / 100), c.quiet, "right", false, 11);
    }
    const powers = [];
    for (let e = Math.floor(Math.log10(least)); e <= Math.log10(most) + 1; e++) for (const f of [1, 2, 3, 5]) powers.push(f * Math.pow(10, e));
    for (const t of powers.filter((n) => n >= 0.999 * least && n <= 1.001 * most).concat(room > 20 ? [0] : [])) {
      mmer.line(g, x(t), top, x(t), top + high, c.line);
      mmer.text(g, short(t), x(t), top + high + 12, c.quiet, "center", false, 11);
    }
    const order = data.rows.map((_, i) => i).filter((i) => i !== chosen).concat([chosen]), names = [];
    dots.length = 0;
    for (const i of order) {
      const row = data.rows[i], px = x(row.costs[cost.value]), py = y(row.mean), one = i === chosen;
      if (row.low !== null) mmer.line(g, px, y(row.low), px, y(row.high), one ? row.colour : c.quiet, one ? 4 : 1);
      g.fillStyle = row.colour;
      g.strokeStyle = one ? c.ink : c.quiet;
      g.lineWidth = one ? 2.5 : 1;
      g.beginPath();
      g.arc(px, py, one ? 8 : 5.5, 0, 7);
      g.fill();
      g.stroke();
      dots.push([px, py, i]);
    }
    const short_name = (i) => data.rows[i].name.split("-")[0], first = order.filter((i) => ["self", "cross", "mean", "joint"].includes(short_name(i)));
    for (const i of [chosen].concat(first, order)) { // a name wherever there is room for it
      const row = data.rows[i], px = x(row.costs[cost.value]) + 9, py = y(row.mean) - 9, name = short_name(i), long = 7 * name.length;
      if (names.some(([a, b, l]) => Math.abs(b - py) < 13 && px < a + l && a < px + long)) continue;
      if (i !== chosen && dots.some(([a, b]) => Math.abs(b - py) < 11 && px - 4 < a && a < px + long)) continue;
      names.push([px, py, long]);
      mmer.text(g, name, px, py, c.ink, "left", i === chosen, i === chosen ? 13 : 11);
    }
    mmer.text(g, named[cost.value], left + wide / 2, h - 12, c.ink, "center");
    mmer.text(g, data.metric + " (%)", 4, 8, c.ink);
  }

  const shown = mmer.picture(stage, 820, 420, paint), said = mmer.says(stage);
  shown.canvas.addEventListener("pointermove", function (event) {
    const box = shown.canvas.getBoundingClientRect(), far = ([px, py]) => Math.hypot(event.clientX - box.left - px, event.clientY - box.top - py);
    const near = dots.slice().sort((a, b) => far(a) - far(b))[0];
    if (near && far(near) < 14 && String(near[2]) !== fusion.value) { fusion.value = String(near[2]); draw(); }
  });
  function draw() {
    shown.redraw();
    const row = data.rows[Number(fusion.value)], percent = (s) => (100 * s).toFixed(1);
    const interval = row.low === null ? "no interval with one fold" : "95 % interval " + percent(row.low) + " to " + percent(row.high);
    said.textContent = row.name + ": " + data.metric + " " + percent(row.mean) + " % (" + interval + "); " + named[cost.value] + ": " + short(row.costs[cost.value]) + ". " + row.about;
    shown.canvas.setAttribute("aria-label", data.metric + " against " + named[cost.value] + ". " + said.textContent);
    mmer.state(stage, { cost: cost.value, fusion: row.name, mean: percent(row.mean) });
  }
  draw();
};
