// The page: its bar, and the view that its address names.

import { index, runs } from "./data.js";
import { el, noTip, said } from "./dom.js";
import { isDark } from "./colours.js";
import { plotly } from "./charts.js";
import { redrawAll } from "./figure.js";
import { address, go, leadingHead, parse, viewNamed, views } from "./route.js";
import "./card.js";
import "./map.js";
import "./head.js";
import "./text.js";
import "./token.js";
import "./comparison.js";
import "./method.js";

let turn = 0;
let last;

function here() {
  return parse(location.hash.length > 1 ? location.hash : "#" + index.start);
}

async function open(focus) {
  const mine = ++turn;
  const place = here();
  await place.run.ready();
  const made = place.view === "unknown" ? unknown(place) : await viewNamed(place.view).show(place);
  if (mine !== turn) return;
  noTip();
  const main = document.getElementById("view");
  const content = Array.isArray(made) ? made : made.content;
  main.dataset.view = place.view;
  main.replaceChildren(...content.flat(Infinity).filter(Boolean));
  bar(place);
  const same = last && last.view === place.view && last.layer === place.layer && last.head === place.head && last.window === place.window;
  last = place;
  if (focus && !same) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
  document.title = `${titleOf(place)} · ${place.run.name} · self-repair`;
  document.documentElement.dataset.usable ??= String(Math.round(performance.now()));
  if (!Array.isArray(made)) await made.finish();
  else for (const figure of main.querySelectorAll("figure")) await figure.draw?.();
  if (mine === turn) main.dataset.ready = location.hash || "#";
}

function titleOf(place) {
  const view = viewNamed(place.view);
  return view?.heading?.(place) ?? view?.title ?? "Not here";
}

function unknown(place) {
  return [el("h1", {}, "There is no such place"), el("p", {}, "The address ", el("code", {}, place.asked), " names nothing in this report. ", el("a", { href: address({ run: place.run, filter: place.filter, view: "map" }) }, "All heads"), " are on the map.")];
}

function bar(place) {
  const { run, filter } = place;
  const base = { run, filter };
  const ofHead = place.layer === undefined ? leadingHead(run, filter) : { layer: place.layer, head: place.head };
  const current = viewNamed(place.view)?.within ?? place.view;
  const shown = views.filter((view) => view.title && (runs.length > 1 || !view.ofRuns));
  const links = shown.map((view) => el("a", { href: address({ ...base, ...(view.ofHead ? ofHead : {}), view: view.name }), "aria-current": current === view.name && "page" }, view.title));
  const keep = document.activeElement?.id;
  document.getElementById("bar").replaceChildren(
    el("div", { class: "brand" }, el("strong", {}, run.model), el("span", { class: "quiet" }, run.operator)),
    el("nav", { "aria-label": "Views" }, links),
    el(
      "div",
      { class: "choices" },
      runs.length > 1 && el("label", {}, el("span", {}, "Run "), el("select", { id: "run", onchange: (event) => changeRun(place, runs[Number(event.target.value)]) }, runs.map((one, at) => el("option", { value: String(at), selected: one === run }, `${at + 1}. ${one.name}`)))),
      el("label", {}, el("span", {}, "Filter "), el("select", { id: "filter", onchange: (event) => go({ ...place, filter: Number(event.target.value) }) }, run.filters.map((one, at) => el("option", { value: String(at), selected: at === filter }, one.label)))),
      jump(place),
      el("button", { type: "button", id: "theme", "aria-label": "Light or dark", onclick: changeTheme }, isDark() ? "☀" : "☾"),
    ),
  );
  if (keep) document.getElementById(keep)?.focus({ preventScroll: true });
}

function changeRun(place, run) {
  const filter = run.filters.findIndex((one) => one.label === place.run.filters[place.filter].label);
  const kept = { run, filter: filter < 0 ? run.standing : filter };
  const fits = place.layer !== undefined && run.exists(place.layer, place.head);
  if (place.view === "head" && fits) go({ ...place, ...kept });
  else go({ ...kept, view: viewNamed(place.view)?.needsHead ? "map" : place.view });
}

function jump(place) {
  const find = (event) => {
    event.preventDefault();
    const match = /^\s*l?(\d+)\s*[.h,]\s*(\d+)\s*$/i.exec(event.target.elements.head.value);
    const [layer, head] = match ? [Number(match[1]), Number(match[2])] : [];
    if (!match || !place.run.exists(layer, head)) said("No such head.");
    else go({ run: place.run, filter: place.filter, view: "head", layer, head });
  };
  return el("form", { class: "jump", onsubmit: find }, el("input", { name: "head", id: "jump", size: "6", placeholder: "L9H6", "aria-label": "Go to a head", autocomplete: "off" }));
}

async function changeTheme() {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  await open(false);
  await redrawAll();
}

addEventListener("hashchange", () => open(true));
addEventListener("keydown", (event) => {
  if (event.key === "Escape") noTip();
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) || event.metaKey || event.ctrlKey || event.altKey;
  if (typing || document.querySelector("dialog[open]")) return;
  if (event.key === "/") {
    event.preventDefault();
    document.getElementById("jump").focus();
  }
  if (event.key === "[" || event.key === "]") document.querySelector(`a[rel=${event.key === "[" ? "prev" : "next"}]`)?.click();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => open(false));
document.getElementById("foot").append("Made by selfrepair. This page is one file and connects to nothing. Keys: / goes to a head, [ and ] to the previous and next one, arrow keys move on the map and in text.");
await open(false);
(window.requestIdleCallback ?? setTimeout)(() => plotly());
