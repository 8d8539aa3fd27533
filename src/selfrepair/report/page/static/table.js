// A table that sorts by any of its columns.

import { el } from "./dom.js";

const FIRST = 600; // rows drawn at once; more on request

// Columns: {title, hint?, value(row), cell(row), numeric?}. `sort`: {column, descending}.
export function sortable({ columns, rows, sort, caption, onsort }) {
  let order = { ...sort };
  let most = FIRST;
  const body = el("tbody");
  const more = el("button", { type: "button", class: "more", onclick: () => ((most = Infinity), draw()) });
  const headings = columns.map((column, at) =>
    el("th", { scope: "col", class: column.numeric && "numeric" }, el("button", { type: "button", title: column.hint, onclick: () => turn(at) }, column.title)),
  );

  function turn(at) {
    order = { column: at, descending: order.column === at ? !order.descending : Boolean(columns[at].numeric) };
    onsort?.(order);
    draw();
  }

  function draw() {
    const { value } = columns[order.column];
    const sign = order.descending ? -1 : 1;
    const empty = (one) => one === undefined || one === null || Number.isNaN(one);
    const sorted = [...rows].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (empty(x) || empty(y)) return empty(x) - empty(y);
      return sign * (x < y ? -1 : x > y ? 1 : 0);
    });
    body.replaceChildren(
      ...sorted.slice(0, most).map((row) => el("tr", {}, columns.map((column) => el("td", { class: column.numeric && "numeric" }, column.cell(row))))),
    );
    headings.forEach((heading, at) => heading.setAttribute("aria-sort", at !== order.column ? "none" : order.descending ? "descending" : "ascending"));
    more.hidden = sorted.length <= most;
    more.textContent = `Show all ${sorted.length.toLocaleString("en")} rows`;
  }

  draw();
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, headings)), body), more);
}
