// Before the first paint: the stored theme, else the system's.
(() => {
  const stored = localStorage.getItem("theme");
  const dark = stored ? stored === "dark" : !matchMedia("(prefers-color-scheme: light)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
