// One token: its ledger, what was predicted before and after, who repaired, and what the strongest repairer attended to.

import { el, inLines, nextFrame, number } from "./dom.js";
import { headName, percent, sentence, shortened, signed, spaced } from "./format.js";
import { diverging, inkOn } from "./colours.js";
import { ranking, waterfall } from "./charts.js";
import { chart, copyButton } from "./figure.js";
import { tokenSteps } from "./ledger.js";
import { address, headNamed, views } from "./route.js";
import { loading } from "./card.js";

const BEFORE = 40, AFTER = 12;

views.push({
  name: "token",
  within: "head",
  needsHead: true,
  show: tokenView,
  heading: ({ run, layer, head, window, position }) => `${run.nameOf(layer, head)}, token ${window}.${position}`,
  path: ({ layer, head, window, position }) => `${headName(layer, head)}/token/${window}.${position}`,
  parse: ([name, kind, at], run) => {
    const head = headNamed(name, run);
    const token = /^(\d+)\.(\d+)$/.exec(at ?? "");
    return head && kind === "token" && token ? { ...head, window: Number(token[1]), position: Number(token[2]) } : undefined;
  },
});

async function tokenView(place) {
  const { run, layer, head, position } = place;
  const [rows, whole, words] = await Promise.all([run.rowsOf(layer, head), run.passagesOf(layer, head), run.words()]);
  const window = words.place(place.window);
  const here = (row) => row.window === window && row.position === position;
  const row = rows.find(here) ?? whole.find(here);
  const name = run.nameOf(layer, head);
  const target = window < 0 ? "" : words.at(window, position + 1);
  const top = [
    el("p", { class: "crumbs" }, el("a", { href: address({ ...place, view: "head" }) }, name), " › ", el("a", { href: address({ ...place, view: "text", passage: String(place.window) }) }, `window ${place.window}`), ` › position ${position}`),
    el("div", { class: "title" }, el("h1", {}, "Predicting ", el("bdi", { class: "token target", id: "target" }, spaced(shortened(target, 60)))), el("span", { class: "badge" }, `without ${name}`)),
  ];
  if (!row) return [...top, el("p", { class: "warning" }, "The run did not keep this token for this head, or this page has no room for it. Runs keep each head's tokens with the largest and smallest direct effects, and a uniform sample.")];
  const seen = await run.closeup(layer, head, window, position);
  const caption = `One token; no interval. ${sentence(run.operator)}; ${run.what} ${name}, window ${place.window}, position ${position} (${words.document(window)}).`;
  const figures = [ledgerFigure(place, row, caption), seen && tokenRepairers(place, seen, caption)].filter(Boolean);
  return {
    content: [
      ...top,
      context(words, window, position),
      el("p", { class: "lead" }, `Without ${name} the target's logit changes by ${signed(row.total_effect)}; the ${run.what}'s own contribution changes by ${signed(-row.lost)}. The rest of the model makes up ${signed(row.self_repair)}.`),
      numbers(run, row),
      el("div", { class: "two" }, figures),
      seen ? predictions(place, seen, words, window) : el("p", { class: "note" }, "This token was not looked at closely: runs keep the most likely next tokens, the repairers and the attention for a few tokens per head, those with the largest effects."),
      seen && attention(place, seen, words, window),
    ],
    finish: async () => {
      for (const figure of figures) {
        await nextFrame();
        await figure.draw();
      }
    },
  };
}

function context(words, window, position) {
  const nodes = [];
  const last = Math.min(words.lengths[window] - 1, position + 1 + AFTER);
  for (let at = Math.max(0, position - BEFORE); at <= last; at++) {
    const kind = at === position + 1 ? "token target" : at > position + 1 ? "token unseen" : "token";
    nodes.push(el("bdi", { class: kind }, inLines(words.at(window, at), words.isBreak(window, at))));
  }
  return el("div", { class: "passage small" }, nodes);
}

function numbers(run, row) {
  const values = [["direct effect", "direct_effect"], ["lost direct effect", "lost"], ["total effect", "total_effect"], ["self-repair", "self_repair"], ...run.lines.map((line) => [`repair by ${line.short}`, line.quantity])];
  const one = ([title, name]) => el("div", { class: "number" }, el("dt", {}, title), el("dd", {}, number(row[name], signed(row[name]), { "data-name": name, class: "value" })));
  return el("dl", { class: "numbers", style: { "--tiles": values.length + 1 } }, values.map(one), el("div", { class: "number" }, el("dt", {}, "scale, clean / ablated"), el("dd", {}, number(row.sigma_ratio, row.sigma_ratio.toFixed(4), { "data-name": "sigma_ratio", class: "value" }))));
}

function tokenPython({ run, layer, head, window, position }, table) {
  return loading(run) + `token = ${table}.query("layer == ${layer} and head == ${head} and window == ${window} and position == ${position}")\n`;
}

function ledgerFigure(place, row, caption) {
  return chart({
    title: "The token's ledger",
    caption: `From the direct effect that the ablation takes away to what happened to the logit. ${caption} Rounded to ${place.run.step} logit in this page.`,
    python: tokenPython(place, "run.tokens_frame()"),
    spec: () => waterfall(tokenSteps(place.run, row)),
  });
}

function tokenRepairers(place, seen, caption) {
  const [layers, heads, effects] = seen.repairers;
  const parts = layers.map((layer, at) => ({ name: componentName(layer, heads[at]), effect: effects[at] }));
  if (!parts.length) return undefined;
  return chart({
    title: "Who repaired this token",
    caption: `The components whose direct effect on the target changed most. ${donorNote(place.run)}${caption}`,
    python: tokenPython(place, "run.extras.closeups.to_pandas()"),
    spec: () => {
      const given = ranking(parts);
      given.layout.xaxis.title.text = "repair, logit";
      return given;
    },
  });
}

// Numbers below 0 stand for what is no head, as the description of close-ups in the run's folder has them.
function componentName(layer, head) {
  if (head >= 0) return headName(layer, head);
  return head === -1 ? `MLP ${layer}` : head === -2 ? `mixer ${layer}` : `MLP ${layer}, part ${-3 - head}`;
}

function donorNote(run) {
  return Number(run.donors) > 1 ? "With the first donor alone. " : "";
}

function predictions(place, seen, words, window) {
  const target = words.rankOf ? words.ids[words.ranks[words.starts[window] + place.position + 1]] : undefined;
  const largest = Math.exp(Math.max(seen.before[1][0], seen.after[1][0]));
  const rank = new Map(seen.before[0].map((token, at) => [token, at]));
  const list = (title, [tokens, logs], moved) =>
    el(
      "div",
      {},
      el("h3", {}, title),
      el(
        "ol",
        { class: "likely" },
        tokens.map((token, at) =>
          el(
            "li",
            { class: token === target ? "is-target" : "" },
            el("span", { class: "track" }, el("span", { class: "bar positive", style: { left: "0", width: `${(100 * Math.exp(logs[at])) / largest}%` } })),
            el("bdi", { class: "token" }, spaced(words.byId(token))),
            number(Math.exp(logs[at]), percent(Math.exp(logs[at]))),
            el("span", { class: "quiet move" }, moved ? movement(rank.get(token), at) : ""),
          ),
        ),
      ),
    );
  const [before, after] = seen.target.map((value) => Math.exp(value));
  const python = tokenPython(place, "run.extras.closeups.to_pandas()");
  return el(
    "section",
    {},
    el("div", { class: "figure-head" }, el("h2", {}, "The ten most likely next tokens"), el("div", { class: "tools" }, copyButton(python))),
    el("p", { class: "note" }, `${donorNote(place.run)}The target `, el("bdi", { class: "token target" }, spaced(shortened(words.at(window, place.position + 1)))), ` goes from ${percent(before, 2)} to ${percent(after, 2)}.`),
    el("div", { class: "two" }, list("Before: the model as it is", seen.before, false), list(`After: without ${place.run.nameOf(place.layer, place.head)}`, seen.after, true)),
  );
}

function movement(from, to) {
  if (from === undefined) return "new";
  return from === to ? "" : from > to ? `↑ ${from - to}` : `↓ ${to - from}`;
}

function attention(place, seen, words, window) {
  if (!seen.attending) return el("p", { class: "note" }, "No head repaired this token, or the model does not tell its attention weights.");
  const [positions, before, after] = seen.attended;
  const name = headName(...seen.attending);
  const most = Math.max(...before, ...after, 1e-9);
  const strip = (title, weights, scale) =>
    el(
      "div",
      {},
      el("h3", {}, title),
      el(
        "div",
        { class: "passage small" },
        positions.map((at, place) => {
          const gap = place > 0 && positions[place - 1] !== at - 1;
          const colour = diverging(scale(weights[place]));
          return [gap && el("span", { class: "quiet gap" }, " … "), el("bdi", { class: "token attended", style: { background: colour, color: inkOn(colour) }, title: `position ${at}: ${percent(weights[place])}` }, words.at(window, at))];
        }),
      ),
    );
  const change = after.map((value, at) => value - before[at]);
  const moved = Math.max(...change.map(Math.abs), 1e-9);
  const rows = positions.map((at, one) => ({ at, before: before[one], after: after[one] })).sort((a, b) => Math.abs(b.after - b.before) - Math.abs(a.after - a.before));
  return el(
    "section",
    {},
    el("h2", {}, "What ", place.run.names ? name : el("a", { href: address({ ...place, view: "head", layer: seen.attending[0], head: seen.attending[1] }) }, name), " attended to"),
    el("p", { class: "note" }, `${name} repaired this token most of all heads. Attention weights at the position that predicts the target, the ${positions.length} positions with the largest weights; they are ${percent(sum(before), 0)} of its attention before and ${percent(sum(after), 0)} after. One token, no interval. ${donorNote(place.run)}${sentence(place.run.operator)}.`),
    el("div", { class: "two" }, strip("Before", before, (value) => value / most), strip("After", after, (value) => value / most)),
    strip(`Change (full colour: ${percent(moved)})`, change, (value) => value / moved),
    el(
      "table",
      { class: "plain" },
      el("caption", {}, "Where its attention changed most"),
      el("thead", {}, el("tr", {}, ["position", "token", "before", "after"].map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, rows.slice(0, 6).map((row) => el("tr", {}, el("td", {}, String(row.at)), el("td", {}, el("bdi", { class: "token" }, spaced(shortened(words.at(window, row.at))))), el("td", { class: "numeric" }, percent(row.before)), el("td", { class: "numeric" }, percent(row.after))))),
    ),
  );
}

function sum(values) {
  return values.reduce((a, b) => a + b, 0);
}
