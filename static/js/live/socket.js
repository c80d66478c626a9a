// The web socket: connects, reconnects with growing pauses, and says how it stands. "open" is said at the first sample
// only: a connection that brings none is "silent".
const SILENT_MS = 4000, GIVE_UP_MS = 20000, LONGEST_PAUSE_MS = 10000, NOT_LOGGED_IN = 4401;

export function listen({ onSample, onState }) {
  let socket = null, pause = 500, timer = 0, quiet = 0;

  function open() {
    clearTimeout(timer);
    const mine = (socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/live/`));
    mine.onopen = () => { pause = 500; listenFor(mine); };
    mine.onmessage = (message) => { if (mine !== socket) return; listenFor(mine); onState("open"); onSample(JSON.parse(message.data)); };
    mine.onclose = ({ code }) => { if (mine === socket) code === NOT_LOGGED_IN ? toLogin() : lost(); };
  }

  function listenFor(mine) {
    clearTimeout(quiet);
    quiet = setTimeout(() => {
      onState("silent");
      // A network that went away closes nothing: a connection that says nothing for long is made anew.
      quiet = setTimeout(() => { if (mine === socket) { open(); mine.close(); } }, GIVE_UP_MS - SILENT_MS);
    }, SILENT_MS);
  }

  function lost() {
    clearTimeout(quiet);
    onState("lost");
    timer = setTimeout(open, pause);
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }

  open();
  addEventListener("online", () => { if (socket.readyState > WebSocket.OPEN) open(); });
  addEventListener("offline", () => onState("lost"));
}

// The session has ended.
function toLogin() {
  location.assign(`/login/?next=${encodeURIComponent(location.pathname)}`);
}
