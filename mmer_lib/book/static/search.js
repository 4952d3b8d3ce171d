// Search over all pages: every word must occur in a section; titles count more than text.
(() => {
  const { pages, sections } = JSON.parse(document.getElementById("index").textContent);
  const box = document.getElementById("query");
  const list = document.getElementById("results");
  const found = document.getElementById("found");
  const SHOWN = 12, AROUND = 60;
  const fold = (text) => text.toLowerCase().normalize("NFD").replace(/\p{M}/gu, "");
  const folded = sections.map(([page, , title, text]) =>
    ({ title: fold(pages[page][1] + " " + title), text: fold(text) }));

  function score(entry, words) {
    let total = 0;
    for (const word of words) {
      const inTitle = entry.title.includes(word), inText = entry.text.includes(word);
      if (!inTitle && !inText) return 0;
      total += (inTitle ? 10 : 0) + Math.min(5, entry.text.split(word).length - 1);
    }
    return total;
  }

  // The words around the first hit, the hits marked; text nodes only, so nothing in it can act.
  function excerpt(text, words) {
    const plain = fold(text);
    const same = plain.length === text.length; // folding kept the places of all letters
    const hits = words.map((word) => plain.indexOf(word)).filter((at) => at >= 0);
    const start = same && hits.length ? Math.max(0, Math.min(...hits) - AROUND) : 0;
    const piece = text.slice(start, start + 2.5 * AROUND);
    const span = document.createElement("span");
    const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
    const parts = piece.split(new RegExp(`(${escaped.join("|")})`, "gi"));
    span.append(start ? "… " : "", ...parts.map((part, i) => {
      if (i % 2 === 0) return part;
      const mark = document.createElement("mark");
      mark.textContent = part;
      return mark;
    }), " …");
    return span;
  }

  function showHit(number, words) {
    const [page, anchor, title, text] = sections[number];
    const item = document.createElement("li");
    const link = document.createElement("a");
    const name = document.createElement("b");
    link.href = `${pages[page][0]}#${anchor}`;
    name.textContent = title === pages[page][1] ? title : `${pages[page][1]} › ${title}`;
    link.append(name, excerpt(text, words));
    item.append(link);
    return item;
  }

  function search() {
    const words = fold(box.value).split(/\s+/).filter(Boolean);
    document.body.classList.toggle("searching", words.length > 0);
    if (!words.length) { list.replaceChildren(); found.textContent = ""; return; }
    const hits = folded.map((entry, number) => [score(entry, words), number])
      .filter(([points]) => points > 0).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    list.replaceChildren(...hits.slice(0, SHOWN).map(([, number]) => showHit(number, words)));
    const more = hits.length > SHOWN ? `, the best ${SHOWN} shown` : "";
    found.textContent = hits.length ? `${hits.length} ${hits.length > 1 ? "sections" : "section"}${more}`
      : "Nothing found: try another word, or fewer";
  }

  // Down and up move through the results, Enter opens the first, Escape ends the search.
  function move(event) {
    const links = [...list.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    if (event.key === "Escape") { box.value = ""; search(); box.focus(); }
    else if (event.key === "ArrowDown") (links[at + 1] || links[at])?.focus();
    else if (event.key === "ArrowUp") (at > 0 ? links[at - 1] : box).focus();
    else if (event.key === "Enter" && at < 0 && links.length) links[0].click();
    else return;
    event.preventDefault();
  }

  box.addEventListener("input", search);
  box.closest(".search").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target === box) move(event);
  });
  list.addEventListener("click", () => { box.value = ""; search(); document.body.classList.remove("open"); });
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    document.body.classList.add("open");
    document.getElementById("menu").setAttribute("aria-expanded", "true");
    box.focus();
  });
  search(); // a browser may bring back what stood in the box
})();
