// The web socket: connects, reconnects with growing pauses, and says what it is doing.
export function listen({ onSample, onState }) {
  let pause = 500, timer = 0;
  const open = () => {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/live/`);
    let quiet = 0;
    const heard = () => {
      clearTimeout(quiet);
      quiet = setTimeout(() => onState("silent"), 4000); // connected, but no sample comes
    };
    socket.onopen = () => { pause = 500; heard(); onState("open"); };
    socket.onmessage = (message) => { heard(); onSample(JSON.parse(message.data)); };
    socket.onclose = (event) => {
      clearTimeout(quiet);
      if (event.code === 4401) { location.assign(`/login/?next=${encodeURIComponent(location.pathname)}`); return; }
      onState("lost");
      timer = setTimeout(open, pause);
      pause = Math.min(pause * 2, 10000);
    };
  };
  open();
  addEventListener("online", () => { clearTimeout(timer); pause = 500; });
}
