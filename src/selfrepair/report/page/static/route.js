// Addresses within the page. `#L9H6` and `#L9H6/token/3.17` stay what they are; the rest of the state follows a `?`.

import { runs } from "./data.js";

// The views of the page, in the order of its bar; each module adds its own. A view has a `name` and `show(place)`, its
// content, and may have:
//   title           in the bar; without one it is not there
//   ofHead          it is about a head: its link in the bar leads to the one at hand
//   needsHead       it shows nothing without one
//   ofRuns          it is there if there are several runs
//   within          the view whose link in the bar stands for it
//   heading(place)  in the window's title, where that is not `title`
//   path(place), parse(parts, run)   its address and back, where that is not its name: what a place holds besides run
//                   and filter, undefined where the parts of an address are not of this view
export const views = [];

export function viewNamed(name) {
  return views.find((view) => view.name === name);
}

export function parse(hash) {
  const [path, query] = hash.replace(/^#/, "").split("?");
  const state = new URLSearchParams(query ?? "");
  const asked = Number(state.get("run") ?? 1) - 1;
  const run = runs[asked] ?? runs[0];
  const filter = run.filters.findIndex((one) => one.label === state.get("filter"));
  const place = { run, filter: filter < 0 ? run.standing : filter, quantity: state.get("quantity") ?? undefined, passage: state.get("passage") ?? undefined };
  const parts = (path || views[0].name).split("/");
  for (const view of views) {
    const own = view.parse ? view.parse(parts, run) : parts[0] === view.name ? {} : undefined;
    if (own) return { ...place, ...own, view: view.name };
  }
  return { ...place, view: "unknown", asked: path };
}

// The cell that a part of an address names, of a head or of another intervention; undefined where there is none.
export function headNamed(part, run) {
  const match = /^L(\d+)H(\d+)$/.exec(part ?? "");
  const [layer, head] = match ? [Number(match[1]), Number(match[2])] : [];
  return match && run.exists(layer, head) ? { layer, head } : undefined;
}

// The address of a place; what is as usual is left out.
export function address(place) {
  const path = viewNamed(place.view)?.path?.(place) ?? place.view;
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
