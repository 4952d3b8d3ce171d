// The theme button, the menu of narrow windows, and keyboard access to what scrolls sideways.
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";

  function showTheme() {
    button.setAttribute("aria-pressed", String(isDark()));
  }
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* then for this page only */ }
    showTheme();
  });
  system.addEventListener("change", showTheme);
  showTheme();

  // On paper everything is light, what is drawn on a canvas too.
  let before;
  addEventListener("beforeprint", () => { before = root.dataset.theme; root.dataset.theme = "light"; });
  addEventListener("afterprint", () => {
    if (before) root.dataset.theme = before; else delete root.dataset.theme;
  });

  const menu = document.getElementById("menu");
  menu.addEventListener("click", () => {
    const open = document.body.classList.toggle("open");
    menu.setAttribute("aria-expanded", String(open));
  });
  root.classList.add("scripted");
  // The current page is brought into view by hand: scrollIntoView may move where Tab starts.
  const side = document.querySelector(".side");
  const current = document.querySelector('#pages [aria-current="page"]');
  const below = current ? current.getBoundingClientRect().bottom - side.getBoundingClientRect().bottom : 0;
  if (below > 0) side.scrollTop += below;

  // What is wider than the page becomes a region that Tab reaches and the arrow keys move.
  function reachScrolling() {
    for (const box of document.querySelectorAll(".scroll")) {
      const wide = box.scrollWidth > box.clientWidth + 1;
      const label = box.dataset.label || "Wider than the page: scroll sideways";
      for (const [name, value] of [["tabindex", "0"], ["role", "region"], ["aria-label", label]]) {
        if (wide) box.setAttribute(name, value); else box.removeAttribute(name);
      }
    }
  }
  addEventListener("load", reachScrolling); // when the explorers have drawn
  addEventListener("resize", reachScrolling);
  document.addEventListener("toggle", reachScrolling, true); // of details
})();
