// News of the console on every page: each becomes an event `news-TYPE` on the document; `news-back` when some were missed,
// on the way from the page's beginning to the first connection or while the connection was lost.
// htmx listens to it: hx-trigger="news-alert from:document, news-back from:document".
let pause = 500, deafSince = 0; // as performance.now() counts; null while connected

function open() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/news/`);
  socket.onmessage = (message) => {
    const news = JSON.parse(message.data);
    if (news.type === "hello") hello(news);
    else document.dispatchEvent(new CustomEvent(`news-${news.type}`, { detail: news }));
  };
  socket.onclose = (event) => {
    if (event.code === 4401) return; // the next click leads to the login
    deafSince ??= performance.now();
    setTimeout(open, pause);
    pause = Math.min(pause * 2, 10000);
  };
}

// The server's answer travels, so its figure is rather too small than too great: nothing is taken for heard that was not.
function hello({ last_told_ago_s: ago }) {
  const wasLost = deafSince > 0; // Valkey may have been away as well, and with it what should have been told
  if (wasLost || ago === null || ago * 1000 < performance.now() - deafSince) document.dispatchEvent(new CustomEvent("news-back"));
  pause = 500;
  deafSince = null;
}

// Not before everybody listens: htmx and the page's own scripts, which come after this one and may be slow to arrive.
// A module is too early for that until the DOM's event, which is after the last of them.
if (document.readyState === "complete") open();
else document.addEventListener("DOMContentLoaded", open);
