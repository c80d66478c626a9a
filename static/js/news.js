// News of the console on every page: each becomes an event `news-TYPE` on the document, `news-back` after a lost connection.
// htmx listens to it: hx-trigger="news-alert from:document, news-back from:document".
let pause = 500, lost = false;

function open() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/news/`);
  socket.onopen = () => {
    pause = 500;
    if (lost) document.dispatchEvent(new CustomEvent("news-back"));
    lost = false;
  };
  socket.onmessage = (message) => {
    const news = JSON.parse(message.data);
    document.dispatchEvent(new CustomEvent(`news-${news.type}`, { detail: news }));
  };
  socket.onclose = (event) => {
    if (event.code === 4401) return; // the next click leads to the login
    lost = true;
    setTimeout(open, pause);
    pause = Math.min(pause * 2, 10000);
  };
}

open();
