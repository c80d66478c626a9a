// Before the first paint, on every page: the theme that the person chose, else the system's. The admin (unfold) keeps the
// choice under the same name, as JSON, so that one switch is for all; its "auto" is the system's.
(() => {
  const KEY = "adminTheme", root = document.documentElement, system = matchMedia("(prefers-color-scheme: light)");
  const show = () => {
    const chosen = (localStorage.getItem(KEY) ?? "").replaceAll('"', "");
    root.dataset.theme = ["dark", "light"].includes(chosen) ? chosen : system.matches ? "light" : "dark";
  };
  show();
  system.addEventListener("change", show);
  addEventListener("storage", (event) => { if (event.key === KEY) show(); });
  addEventListener("click", (event) => {
    if (!event.target.closest?.("#theme")) return;
    localStorage.setItem(KEY, JSON.stringify(root.dataset.theme === "dark" ? "light" : "dark"));
    show();
  });
  // The admin shows times in this zone (aicleaner_site/viewer_zone.py).
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  document.cookie = `aicleaner_zone=${encodeURIComponent(zone)}; path=/; max-age=31536000; samesite=lax`;
})();
