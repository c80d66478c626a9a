// <input name="zone">: the viewer's time zone, so that the server reads the times of a form as the viewer means them.
for (const field of document.querySelectorAll("input[name=zone]")) field.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
