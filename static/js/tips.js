// Puts the text of a "?" button under it; the browser opens and closes it (popover), by mouse and keyboard.
document.addEventListener("toggle", ({ target, newState }) => {
  if (newState !== "open" || !target.classList.contains("tip-text")) return;
  const button = document.querySelector(`[popovertarget="${target.id}"]`).getBoundingClientRect();
  const left = Math.min(button.left, innerWidth - target.offsetWidth - 12);
  const below = button.bottom + 6 + target.offsetHeight < innerHeight;
  target.style.left = `${Math.max(left, 12)}px`;
  target.style.top = `${below ? button.bottom + 6 : button.top - 6 - target.offsetHeight}px`;
}, true);
