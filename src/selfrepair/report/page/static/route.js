// Addresses within the page. `#L9H6` and `#L9H6/token/3.17` stay what they are; the rest of the state follows a `?`.

import { runs } from "./data.js";
import { headName } from "./format.js";

const VIEWS = ["card", "map", "text", "comparison", "method"];

export function parse(hash) {
  const [path, query] = hash.replace(/^#/, "").split("?");
  const state = new URLSearchParams(query ?? "");
  const asked = Number(state.get("run") ?? 1) - 1;
  const run = runs[asked] ?? runs[0];
  const filter = run.filters.findIndex((one) => one.label === state.get("filter"));
  const place = { run, filter: filter < 0 ? run.standing : filter, quantity: state.get("quantity") ?? undefined, passage: state.get("passage") ?? undefined };
  const parts = path.split("/");
  const head = /^L(\d+)H(\d+)$/.exec(parts[0] === "text" ? (parts[1] ?? "") : parts[0]);
  const known = head && run.exists(Number(head[1]), Number(head[2]));
  const which = known ? { layer: Number(head[1]), head: Number(head[2]) } : {};
  if (head && !known) return { ...place, view: "unknown", asked: path };
  if (parts[0] === "text") return { ...place, ...which, view: "text" };
  if (head && parts[1] === "token") {
    const token = /^(\d+)\.(\d+)$/.exec(parts[2] ?? "");
    if (!token) return { ...place, view: "unknown", asked: path };
    return { ...place, ...which, view: "token", window: Number(token[1]), position: Number(token[2]) };
  }
  if (head) return { ...place, ...which, view: "head" };
  if (path && !VIEWS.includes(parts[0])) return { ...place, view: "unknown", asked: path };
  return { ...place, view: path || "card" };
}

// The address of a place; what is as usual is left out.
export function address(place) {
  let path = place.view;
  if (place.view === "head") path = headName(place.layer, place.head);
  if (place.view === "token") path = `${headName(place.layer, place.head)}/token/${place.window}.${place.position}`;
  if (place.view === "text" && place.layer !== undefined) path = `text/${headName(place.layer, place.head)}`;
  const state = new URLSearchParams();
  if (place.run.number > 0) state.set("run", place.run.number + 1);
  if (place.filter !== place.run.standing) state.set("filter", place.run.filters[place.filter].label);
  if (place.quantity) state.set("quantity", place.quantity);
  if (place.passage && place.view === "text") state.set("passage", place.passage);
  const query = state.toString();
  return `#${path}${query ? "?" + query : ""}`;
}

export function go(place) {
  location.hash = address(place);
}

// The head that a view opens with when none was asked for: the one with the largest direct effect.
export function leadingHead(run, filter) {
  let best = { layer: 0, head: 0 };
  let size = -Infinity;
  for (let layer = 0; layer < run.layers; layer++) {
    for (let head = 0; head < run.heads; head++) {
      const { value } = run.cell("direct_effect", filter, layer, head);
      if (value > size) [best, size] = [{ layer, head }, value];
    }
  }
  return best;
}
