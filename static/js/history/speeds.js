// How fast the models were, and why: sentences that the server writes, asked for after the charts stand.
const AGAIN_MS = 60000; // they are of whole minutes: a view that follows the clock asks no more often

export class Speeds {
  constructor(root) {
    Object.assign(this, { root, asking: null, asked: "", at: 0 });
  }

  async show(asked) {
    if (asked === this.asked && Date.now() - this.at < AGAIN_MS) return;
    this.asking?.abort();
    const mine = this.asking = new AbortController();
    Object.assign(this, { asked, at: Date.now() });
    try {
      const response = await fetch(`speeds/?${asked}`, { signal: mine.signal });
      const html = response.ok && !response.redirected ? await response.text() : "";
      if (mine.signal.aborted) return;
      const open = this.details().map((each) => each.open);
      window.htmx.swap(this.root, html, { swapStyle: "innerHTML" });
      this.details().forEach((each, i) => { each.open = Boolean(open[i]); }); // what a person reads stays open
      this.root.hidden = !html.trim();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.asked = ""; // the charts say that the server is away; the next view asks again
      this.root.hidden = true;
    }
  }
  details() {
    return [...this.root.querySelectorAll("details")];
  }
}
