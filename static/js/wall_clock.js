// <input type="datetime-local" data-instant="2026-01-02T03:04:05Z">: that instant as the viewer's clock shows it.
for (const field of document.querySelectorAll("input[data-instant]")) {
  const at = new Date(field.dataset.instant);
  field.value = new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
}
