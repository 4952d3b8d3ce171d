// What all explorers of the book share: labelled native controls, a canvas, palettes, decoding.
// Each kind registers mmer.explorers[kind] = function (stage, data) {...}; start() calls them.
window.mmer = (function () {
  "use strict";
  const explorers = {}, NARROWEST = 600; // pixels of a picture
  let made = 0;

  // A dark, a middle and a light end that print and colour-blind eyes keep apart (matplotlib's).
  const PALETTES = {
    cividis: "00224e 083370 35456c 4f576c 666970 7d7c78 948e77 aea371 c8b866 e5cf52 fee838",
    viridis: "440154 482475 414487 355f8d 2a788e 21918c 22a884 44bf70 7ad151 bddf26 fde725",
  };

  function palette(name) {
    const ends = PALETTES[name].split(" ").map((hex) => [0, 2, 4].map((i) => parseInt(hex.substr(i, 2), 16)));
    return function (share) { // 0 .. 1 -> a colour
      const at = Math.min(1, Math.max(0, share || 0)) * (ends.length - 1);
      const low = Math.min(ends.length - 2, Math.floor(at));
      const mixed = ends[low].map((c, i) => Math.round(c + (at - low) * (ends[low + 1][i] - c)));
      return "rgb(" + mixed.join(",") + ")";
    };
  }

  function decode(base64, shape) { // uint8 numbers, row by row
    const text = atob(base64);
    const size = shape.reduce((a, b) => a * b, 1);
    if (text.length !== size) throw new Error("expected " + size + " numbers, found " + text.length);
    return Uint8Array.from(text, (c) => c.charCodeAt(0));
  }

  function element(name, attributes, parent, text) {
    const made = document.createElement(name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.appendChild(made);
    return made;
  }

  function start() {
    for (const section of document.querySelectorAll("section.explorer")) {
      const stage = section.querySelector(".stage"), draw = explorers[section.dataset.kind];
      const source = section.querySelector('script[type="application/json"]');
      if (!draw || !stage || !source || stage.dataset.started) continue;
      stage.dataset.started = "yes";
      draw(stage, JSON.parse(source.textContent));
    }
  }

  function row(stage) { // a line of controls
    return element("div", { class: "controls", style: "display:flex;flex-wrap:wrap;gap:.4em 1.4em;align-items:center;margin:.3em 0" }, stage);
  }

  function control(parent, name, label, input) { // label, native input, and its value in words
    const id = "mmer-" + name + "-" + made++;
    const box = element("span", { style: "display:inline-flex;gap:.45em;align-items:center;max-width:100%" }, parent);
    element("label", { for: id, style: "flex:none" }, box, label);
    input.id = id;
    input.className = "e2e-" + name;
    input.style.minWidth = "0"; // in a narrow window it shrinks
    box.appendChild(input);
    return box;
  }

  function range(parent, name, label, low, high, step, value, changed, say) {
    const input = element("input", { type: "range", min: low, max: high, step: step });
    input.value = value;
    const box = control(parent, name, label, input);
    const told = element("output", { for: input.id, style: "min-width:3.4em" }, box);
    input.tell = function () {
      told.textContent = say ? say(Number(input.value)) : input.value;
      input.setAttribute("aria-valuetext", told.textContent);
    };
    input.addEventListener("input", function () { changed(); input.tell(); });
    input.tell();
    return input;
  }

  function select(parent, name, label, options, value, changed) { // options: [[value, text], ...]
    const input = element("select", { style: "max-width:100%" });
    for (const [key, text] of options) element("option", { value: key }, input, text);
    input.value = value;
    control(parent, name, label, input);
    input.addEventListener("input", () => changed(name));
    return input;
  }

  function number(parent, name, label, low, high, step, value, changed) {
    const input = element("input", { type: "number", min: low, max: high, step: step, "aria-label": label, style: "width:4.2em" });
    input.value = value;
    input.className = "e2e-" + name;
    parent.appendChild(input);
    input.addEventListener("input", changed);
    return input;
  }

  function checkbox(parent, name, label, value, changed) {
    const input = element("input", { type: "checkbox" });
    input.checked = value;
    control(parent, name, label, input);
    input.addEventListener("input", changed);
    return input;
  }

  // A canvas of width x height CSS pixels that draw(g, w, h, colours) fills, narrower where there is
  // less room (but still readable: then it scrolls); drawn anew when the window or the theme changes.
  function picture(stage, width, height, draw) {
    const box = element("div", { class: "scroll", style: "overflow-x:auto", "data-label": "The picture: scroll sideways" }, stage);
    const canvas = element("canvas", { role: "img", style: "display:block" }, box);
    const g = canvas.getContext("2d");
    function redraw() {
      const wide = Math.max(NARROWEST, Math.min(width, stage.clientWidth || width)), sharp = window.devicePixelRatio || 1;
      canvas.width = Math.round(wide * sharp);
      canvas.height = Math.round(height * sharp);
      canvas.style.width = wide + "px";
      canvas.style.height = height + "px";
      g.setTransform(sharp, 0, 0, sharp, 0, 0);
      g.clearRect(0, 0, wide, height);
      g.font = "12px system-ui, sans-serif";
      g.textBaseline = "middle";
      draw(g, wide, height, colours(stage));
    }
    window.addEventListener("resize", redraw);
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    window.addEventListener("beforeprint", redraw);
    new MutationObserver(redraw).observe(document.documentElement, { attributes: true });
    return { canvas: canvas, redraw: redraw };
  }

  function colours(stage) { // of the page, light or dark
    const style = getComputedStyle(stage), found = {};
    const plain = { paper: "#ffffff", ink: "#222222", quiet: "#666666", line: "#cccccc", accent: "#0072b2", accent2: "#d55e00" };
    for (const name in plain) found[name] = style.getPropertyValue("--" + name).trim() || plain[name];
    return found;
  }

  function says(stage) { // the picture in words, told when it changes
    return element("p", { class: "said", "aria-live": "polite", style: "min-height:3em" }, stage);
  }

  function text(g, words, x, y, colour, align, bold, size) {
    g.font = (bold ? "bold " : "") + (size || 12) + "px system-ui, sans-serif";
    g.fillStyle = colour;
    g.textAlign = align || "left";
    g.fillText(words, x, y);
  }

  function line(g, x1, y1, x2, y2, colour, width, dash) {
    g.strokeStyle = colour;
    g.lineWidth = width || 1;
    g.setLineDash(dash || []);
    g.beginPath();
    g.moveTo(x1, y1);
    g.lineTo(x2, y2);
    g.stroke();
    g.setLineDash([]);
  }

  function ticks(low, high, most) { // round numbers between low and high
    const rough = (high - low) / most, ten = Math.pow(10, Math.floor(Math.log10(rough)));
    const step = ten * [1, 2, 5, 10].find((n) => n * ten >= rough), found = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(Number((i * step).toPrecision(6)));
    return found;
  }

  function band(g, x, y, wide, high, c) { // a ground that shows on any paper
    g.globalAlpha = 0.1;
    g.fillStyle = c.ink;
    g.fillRect(x, y, wide, high);
    g.globalAlpha = 1;
  }

  function state(stage, values) { // where people, screen readers and tests find it
    for (const key in values) stage.dataset[key] = values[key];
  }

  // Drawn markers of planted events: role -> [shape, colour], as in the figures.
  const ROLES = { ask: ["v", "#0072B2"], answer: ["*", "#D55E00"], decoy: ["x", "#777777"], emotion: ["o", "#009E73"], word: ["o", "#CC79A7"], apex: ["^", "#56B4E9"], stress: ["d", "#E69F00"] };
  function marker(g, role, x, y) {
    const [shape, colour] = ROLES[role] || ["d", "#888888"];
    if (shape === "x") { line(g, x - 4, y - 4, x + 4, y + 4, colour, 3); line(g, x - 4, y + 4, x + 4, y - 4, colour, 3); return; }
    fill(g, shape, x, y, 5, colour);
  }
  function fill(g, shape, x, y, r, colour) { // a triangle, diamond, star or dot
    const n = { v: 3, "^": 3, d: 4, "*": 10, o: 40 }[shape], turn = shape === "v" ? Math.PI : 0, points = [];
    for (let i = 0; i < n; i++) {
      const a = turn + (2 * Math.PI * i) / n, far = shape === "*" && i % 2 ? 0.45 * r : shape === "*" ? 1.3 * r : r;
      points.push([x + far * Math.sin(a), y - far * Math.cos(a)]);
    }
    g.fillStyle = colour;
    g.beginPath();
    points.forEach(([px, py], i) => (i ? g.lineTo(px, py) : g.moveTo(px, py)));
    g.fill();
  }

  return {
    explorers, start, row, range, select, number, checkbox, picture, says, state, decode, element,
    text, line, band, ticks, fill, marker, colours, viridis: palette("viridis"), cividis: palette("cividis"),
  };
})();
