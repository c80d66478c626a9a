// Hosts, metrics and devices to choose from. A chosen metric without devices means all of them, those to come included.
import { element, setText } from "../live/dom.js";

export class Picker {
  // names: {host: [series]}, metrics: [{title, unit, metrics: [{name, label}]}]; `onChange({hosts, series})`
  constructor(dialog, names, metrics, onChange) {
    Object.assign(this, { dialog, names, metrics, onChange, hosts: new Set(), series: new Set(), list: dialog.querySelector("#picker-list"), search: dialog.querySelector("#picker-search") });
    dialog.querySelector("#close-picker").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    this.search.addEventListener("input", () => this.filter());
    dialog.addEventListener("change", (event) => { if (event.target.type === "checkbox") this.chose(event.target); });
  }

  open({ hosts, series }) {
    this.hosts = new Set(hosts);
    this.series = new Set(series);
    const fieldset = this.dialog.querySelector("#picker-hosts");
    fieldset.hidden = Object.keys(this.names).length < 2;
    fieldset.replaceChildren(fieldset.firstElementChild, ...Object.keys(this.names).map((host) => check(host, { host }, this.hosts.has(host))));
    this.build();
    this.note("");
    this.dialog.showModal();
    this.search.focus();
  }

  build() {
    const found = new Map(); // metric -> its series, of the chosen hosts
    for (const host of this.hosts) {
      for (const name of this.names[host] ?? []) {
        const metric = name.split("{")[0];
        found.set(metric, (found.get(metric) ?? new Set()).add(name));
      }
    }
    const parts = this.metrics.map(({ title, unit, metrics }) => {
      const rows = metrics.filter(({ name }) => found.has(name)).flatMap(({ name, label }) => this.rows(name, label, [...found.get(name)].sort(inOrder)));
      if (!rows.length) return null;
      const part = element("section"), head = element("h3", "", title);
      head.append(element("span", "", unit));
      part.append(head, ...rows);
      for (const row of rows) row.dataset.words += ` ${title} ${unit}`.toLowerCase();
      return part;
    });
    this.list.replaceChildren(...parts.filter(Boolean));
    this.filter();
  }

  rows(metric, label, series) {
    const devices = series.filter((name) => name !== metric), all = this.series.has(metric);
    if (devices.length === 1 && series.length === 1) { // one row; chosen by either name
      return [check(`${label}, ${deviceOf(devices[0])}`, { name: metric, also: devices[0] }, all || this.series.has(devices[0]), metric)];
    }
    const whole = check(devices.length ? `${label}, all ${devices.length}` : label, { name: metric }, all, metric);
    return [whole, ...devices.map((name) => {
      const row = check(deviceOf(name), { name, of: metric }, all || this.series.has(name), name);
      row.classList.add("device");
      return row;
    })];
  }

  chose(input) {
    const { host, name, of, also } = input.dataset, on = input.checked;
    if (host !== undefined) {
      this.hosts[on ? "add" : "delete"](host);
      if (!this.hosts.size) { this.hosts.add(host); input.checked = true; return this.note("One host at least."); }
      this.build();
    } else if (of !== undefined && this.series.has(of)) { // one device less than all
      this.series.delete(of);
      for (const other of this.inputs({ of })) if (other.checked) this.series.add(other.dataset.name);
    } else {
      this.series[on ? "add" : "delete"](name);
      if (also) this.series.delete(also);
      for (const device of this.inputs({ of: name })) { device.checked = on; this.series.delete(device.dataset.name); }
    }
    for (const whole of this.inputs({})) if (!whole.dataset.of) whole.checked = this.series.has(whole.dataset.name) || this.series.has(whole.dataset.also);
    this.note("");
    return this.onChange({ hosts: [...this.hosts], series: [...this.series] });
  }

  inputs({ of }) {
    return [...this.list.querySelectorAll("input")].filter((each) => of === undefined || each.dataset.of === of);
  }

  filter() {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let n = 0;
    for (const row of this.list.querySelectorAll(".check")) {
      row.hidden = !words.every((word) => row.dataset.words.includes(word));
      if (!row.hidden) n += 1;
    }
    for (const part of this.list.children) part.hidden = !part.querySelector(".check:not([hidden])");
    this.note(n ? "" : "Nothing is called that.");
  }

  note(text) {
    setText(this.dialog.querySelector("#picker-note"), text || `${this.series.size} chosen`);
  }
}

const deviceOf = (name) => name.slice(name.indexOf("{") + 1, -1).replaceAll("=", " ").replaceAll(",", ", ");
const inOrder = (one, other) => one.localeCompare(other, undefined, { numeric: true });

function check(text, data, checked, code = "") {
  const label = element("label", "check"), input = element("input");
  Object.assign(input, { type: "checkbox", checked });
  Object.assign(input.dataset, data);
  label.append(input, text);
  if (code) label.append(element("code", "", code));
  label.dataset.words = `${text} ${code}`.toLowerCase();
  return label;
}
