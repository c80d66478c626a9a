// The web socket: connects, reconnects with growing pauses, and says how it stands. "open" is said at the first sample
// only: a connection that brings none is "silent".
const SILENT_MS = 4000, GIVE_UP_MS = 20000, LONGEST_PAUSE_MS = 10000;

export function listen({ onSample, onState }) {
  let socket = null, pause = 500, timer = 0, quiet = 0;

  function open() {
    clearTimeout(timer);
    const mine = (socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/live/`));
    let opened = false;
    mine.onopen = () => { opened = true; pause = 500; listenFor(mine); };
    mine.onmessage = (message) => { if (mine !== socket) return; listenFor(mine); onState("open"); onSample(JSON.parse(message.data)); };
    mine.onclose = () => { if (mine === socket) lost(opened); };
  }

  function listenFor(mine) {
    clearTimeout(quiet);
    quiet = setTimeout(() => {
      onState("silent");
      // A network that went away closes nothing: a connection that says nothing for long is made anew.
      quiet = setTimeout(() => { if (mine === socket) { open(); mine.close(); } }, GIVE_UP_MS - SILENT_MS);
    }, SILENT_MS);
  }

  function lost(opened) {
    clearTimeout(quiet);
    onState("lost");
    if (!opened) leaveIfLoggedOut();
    timer = setTimeout(open, pause);
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
  }

  open();
  addEventListener("online", () => { if (socket.readyState > WebSocket.OPEN) open(); });
  addEventListener("offline", () => onState("lost"));
}

// The console answers but refuses the socket: the session has ended.
async function leaveIfLoggedOut() {
  const answer = await fetch(location.pathname, { method: "HEAD", redirect: "manual" }).catch(() => null);
  if (answer?.type === "opaqueredirect") location.assign(`/login/?next=${encodeURIComponent(location.pathname)}`);
}
