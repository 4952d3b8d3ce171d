// Before anything is drawn: the theme that the reader chose, if they did.
try {
  const chosen = localStorage.getItem("theme");
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
} catch { /* a browser may keep nothing for pages from disk */ }
