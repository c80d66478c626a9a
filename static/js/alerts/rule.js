// The form of a rule: a window that suits the condition, as soon as another condition is chosen.
const kind = document.getElementById("id_kind");
const suits = new Map(kind.dataset.windows.split(" ").map((each) => each.split("=")));
kind.addEventListener("change", () => {
  if (suits.has(kind.value)) document.getElementById("id_window_s").value = suits.get(kind.value);
});
