// Elements that are made once and then only changed where something changed. Text goes in as text, never as HTML.
export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// One child of `root` per item, in their order; kept by key, so that what a person selects or points at stays.
export function keyed(root, items, key, make, update) {
  const old = new Map([...root.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, i) => {
    const name = String(key(item, i));
    const node = old.get(name) ?? make(item);
    node.dataset.key = name;
    old.delete(name);
    if (root.children[i] !== node) root.insertBefore(node, root.children[i] ?? null);
    update(node, item);
  });
  for (const node of old.values()) node.remove();
}

// Nothing to list: one sentence that says why.
export function sayWhy(root, text) {
  keyed(root, [text], () => "why", () => element("p", "why"), setText);
}

// A label, a bar and its value. `parts`: [share in per cent, class, title] each, from the left.
export function meter() {
  const made = element("div", "row"), bar = element("div", "bar");
  made.append(element("span"), bar, element("b"));
  return made;
}

export function setMeter(node, { label, value, parts = [], title = "" }) {
  const [name, bar, shown] = node.children;
  setText(name, label);
  setText(shown, value);
  if (node.title !== title) node.title = title;
  keyed(bar, parts, (_, i) => i, () => element("i"), (fill, [share, className = "", hint = ""]) => {
    const width = `${Math.min(Math.max(share ?? 0, 0), 100).toFixed(1)}%`;
    if (fill.style.width !== width) fill.style.width = width;
    if (fill.className !== className) fill.className = className;
    if (fill.title !== hint) fill.title = hint;
  });
}

// Filled to where it gets tight.
export const fill = (share) => [[share, share >= 90 ? "high" : ""]];
