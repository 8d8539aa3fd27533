// One head: token by token, over quantiles, through its repairers, and in text.

import { arraysOf } from "./data.js";
import { el, nextFrame, number } from "./dom.js";
import { between, headName, plain, sentence, shown, signed } from "./format.js";
import { diverging, fullScale, inkOn, theme } from "./colours.js";
import { band, ranking, repairScatter, waterfall } from "./charts.js";
import { chart } from "./figure.js";
import { headSteps } from "./ledger.js";
import { address, go, headNamed, views } from "./route.js";
import { loading } from "./card.js";
import { pythonFor } from "./map.js";

views.push({
  name: "head",
  title: "Head",
  ofHead: true,
  needsHead: true,
  show: headView,
  heading: ({ run, layer, head }) => run.nameOf(layer, head),
  path: ({ layer, head }) => headName(layer, head),
  parse: ([name, rest], run) => (rest === "token" ? undefined : headNamed(name, run)),
});

async function headView(place) {
  const { run, filter, layer, head } = place;
  const name = run.nameOf(layer, head);
  const label = run.label(filter, layer, head);
  const top = [
    el("div", { class: "title" }, el("h1", {}, name), el("span", { class: "badge" }, label), steps(place)),
    el("p", { class: "lead" }, `${sentence(run.filters[filter].words)}; ${run.operator}; ${run.values.count[run.place(filter, layer, head)]} tokens from ${run.values.documents[run.place(filter, layer, head)]} documents${run.filters[filter].estimated}; intervals are 95%, over documents; ${run.leftOut}.`),
  ];
  if (!run.measured(filter, layer, head)) return [...top, el("p", { class: "warning" }, `This ${run.what} was not ablated, or has no tokens under this filter.`)];
  const later = el("div", { class: "later" });
  return {
    content: [...top, summary(place), el("p", {}, el("a", { class: "button", href: address({ ...place, view: "text" }) }, `Read passages with ${name}'s repair`)), later],
    finish: async () => {
      const [rows, parts, words, density, curve, close] = await Promise.all([run.rowsOf(layer, head), run.repairersOf(filter, layer, head), run.words(), run.densityOf(layer, head, filter), arraysOf(run.curve), run.closeupsOf(layer, head)]);
      const points = rows.filter((row) => row.passes & (1 << filter));
      for (const row of points) row.text = `“${words.at(row.window, row.position + 1)}” after “${words.at(row.window, row.position)}”`;
      const figures = [
        scatterFigure(place, points, density, words),
        waterfallFigure(place, parts),
        repairersFigure(place, parts),
        curveFigure(place, curve),
      ].filter(Boolean);
      later.append(el("div", { class: "two" }, figures), keptSection(place, points, words, close), ruleSection(run, label));
      for (const figure of figures) {
        await nextFrame();
        await figure.draw();
      }
    },
  };
}

function steps(place) {
  const { run, layer, head } = place;
  const every = run.every;
  const at = every.findIndex((one) => one.layer === layer && one.head === head);
  const link = (number, words, key) => every[number] && el("a", { class: "step", rel: key, href: address({ ...place, ...every[number] }) }, words);
  return el("nav", { class: "steps", "aria-label": `Neighbouring ${run.what}s` }, link(at - 1, "← previous", "prev"), link(at + 1, "next →", "next"));
}

// Tiles, in rows that belong together; the second starts with the lines of the ledger.
const SHOWN = [
  ["direct_effect", "ablated_direct_effect", "lost_direct_effect", "total_effect", "self_repair"],
  ["repaired_fraction"],
  ["slope", "slope_through_origin", "retention"],
  ["share_repaired", "share_over_repaired", "share_worse"],
];

function summary({ run, filter, layer, head }) {
  const card = (name) => {
    const quantity = run.quantity[name];
    if (!quantity) return undefined;
    const one = run.cell(name, filter, layer, head);
    const text = shown(one.value, quantity);
    return tile(quantity.title, quantity.description, number(one.value, run.determined(quantity, filter, layer, head) ? text : `(${text})`, { "data-name": name, class: "value" }), between(one.low, one.high, quantity));
  };
  const q = run.values.q_value[run.place(filter, layer, head)];
  const tested = tile("q-value", "Benjamini–Hochberg adjusted p-value that the rest of the model reacts to the ablation: see the rule behind the labels", number(q, plain(q), { "data-name": "q_value", class: "value" }), `over the filter's ${run.what}s`);
  const rows = [SHOWN[0], [...run.lines.map((line) => line.quantity), ...SHOWN[1]], [...SHOWN[2], ...SHOWN[3]]].map((names) => names.map(card).filter(Boolean));
  rows[2].push(tested);
  return [rows.map((tiles) => el("dl", { class: "numbers", style: { "--tiles": tiles.length } }, tiles)), el("p", { class: "note" }, `Below each number: its 95% interval over documents. In brackets: a share of what may be zero. The two slopes are explained under the first picture.`)];
}

function tile(title, hint, value, under) {
  return el("div", { class: "number", title: hint }, el("dt", {}, title), el("dd", {}, value, el("span", { class: "quiet" }, under)));
}

const SLOPES = "The two slopes ask different things. With intercept: by how much more the logit falls at a token that loses more; repair that is the same for all tokens does not show in it. Through the origin: how much of what is lost falls through at all, tokens that lose much counting most. They part where repair does not grow in step with the loss.";

function tokensPython(run, filter, layer, head) {
  return (
    "from selfrepair import Filter\n" +
    loading(run) +
    `tokens = run.tokens_frame().query("layer == ${layer} and head == ${head}")\n` +
    `limit = float(${run.python}["threshold"].sel(filter=${JSON.stringify(run.filters[filter].label)}, ${run.where(layer, head)}))\n` +
    `passes = Filter.parse(${JSON.stringify(run.filters[filter].label)}).passes_kept\n` +
    `tokens = tokens[passes(tokens["direct_effect"], limit, tokens["in_sample"])]\n` +
    'change, total = tokens["ablated_direct_effect"] - tokens["direct_effect"], tokens["total_effect"]\n'
  );
}

const AMID_DENSITY = 400; // points that are drawn over a density

function evenly(rows, most) {
  return rows.length <= most ? rows : Array.from({ length: most }, (_, at) => rows[Math.floor((at * rows.length) / most)]);
}

function inWords({ value, low, high }) {
  return `${plain(value, 2)} (${plain(low, 2)} to ${plain(high, 2)})`;
}

function scatterFigure(place, points, density, words) {
  const { run, filter, layer, head } = place;
  if (!points.length) return undefined;
  const [slope, origin] = ["slope", "slope_through_origin"].map((one) => run.cell(one, filter, layer, head));
  const lost = run.cell("lost_direct_effect", filter, layer, head).value, total = run.cell("total_effect", filter, layer, head).value;
  const intercept = total + slope.value * lost;
  const drawn = density ? evenly(points, AMID_DENSITY) : points;
  const sample = !run.filters[filter].chooses ? "the run's uniform sample of tokens" : "kept tokens of the filter";
  return chart({
    title: `${run.nameOf(layer, head)}: total effect against change in direct effect`,
    caption: `One point per token: ${drawn.length} of ${sample}${density ? "; shading: all of them" : ""}. Fitted over all tokens of the filter (95% intervals over documents): with intercept, slope ${inWords(slope)}; through the origin, slope ${inWords(origin)}; 1 is no repair, 0 full. ${SLOPES} ${sentence(run.caption(filter))}. ${run.sampled ? run.sampled + "." : ""}`,
    python: tokensPython(run, filter, layer, head),
    spec: () => repairScatter({ points: drawn, density, slope: slope.value, intercept, origin: origin.value }),
    opens: (point) => {
      const row = point.data.mode === "markers" && drawn[point.pointIndex];
      if (row) go({ ...place, view: "token", window: words.numbers[row.window], position: row.position });
    },
  });
}

function waterfallFigure(place, parts) {
  const { run, filter, layer, head } = place;
  return chart({
    title: `${run.nameOf(layer, head)}: from what was lost to what happened`,
    caption: `Means over the filter's tokens; whiskers: 95% intervals over documents, of each bar's own height (“other” bars have none): the direct effect that the ablation takes away, what each repairer gives back (or takes), and the total effect left. ${sentence(run.caption(filter))}.`,
    python: pythonFor(run, filter, run.quantity.total_effect, layer, head) + `lines = {name: float(${run.python}[name].sel(filter=${JSON.stringify(run.filters[filter].label)}, ${run.where(layer, head)})) for name in (${["lost_direct_effect", ...run.lines.map((line) => line.quantity)].map((name) => JSON.stringify(name)).join(", ")})}\n`,
    spec: () => waterfall(headSteps(run, filter, layer, head, parts)),
  });
}

function repairersFigure(place, parts) {
  const { run, filter, layer, head } = place;
  if (!parts.length) return undefined;
  const label = JSON.stringify(run.filters[filter].label);
  return chart({
    title: `Who repairs ${run.nameOf(layer, head)}`,
    caption: `Downstream components by the change in their direct effect on the target, the ${Math.min(parts.length, 16)} largest in size; whiskers: 95% intervals over documents of each alone, the threshold's own error included, which do not allow for its having been chosen. ${sentence(run.caption(filter))}.`,
    python: loading(run) + `cell = ${run.python}.sel(filter=${label}, ${run.where(layer, head)})\nmlps = cell["repair_by_mlp"]\nheads = cell.get("repair_by_head", cell["repair_by_attention"])\n`,
    spec: () => ranking(parts.slice(0, 16)),
    height: 380,
    opens: (point) => {
      const part = parts.slice(0, 16).reverse()[point.pointIndex];
      if (part.kind === "head" && !run.names) go({ ...place, layer: part.layer, head: part.head });
    },
  });
}

function curveFigure(place, curve) {
  const { run, layer, head } = place;
  const bins = curve.curve_self_repair.length / (run.layers * run.heads);
  const at = (name, bin) => curve[name][(bin * run.layers + layer) * run.heads + head];
  const all = Array.from({ length: bins }, (_, bin) => bin);
  const pick = (ending) => all.map((bin) => at(`curve_self_repair${ending}`, bin));
  const names = all.map((bin) => `${Math.round((100 * bin) / bins)}–${Math.round((100 * (bin + 1)) / bins)}%, from ${bin ? signed(at("curve_lower_edge", bin), 2) : "−∞"}`);
  return chart({
    title: `${run.nameOf(layer, head)}: self-repair over quantiles of direct effect`,
    caption: `Mean self-repair of the tokens in each of ${bins} equally full bins of the ${run.what}'s clean direct effect, lowest first; band: 95% interval over documents, the error of the bins' edges included. All tokens; ${run.operator}; ${run.leftOut}.`,
    python: loading(run) + `curve = ${run.python}["curve_self_repair"].sel(${run.where(layer, head)})\nedges = ${run.python}["curve_lower_edge"].sel(${run.where(layer, head)})\n`,
    spec: () => {
      const data = band(all.map((bin) => (100 * (bin + 0.5)) / bins), pick(""), pick("_low"), pick("_high"), "self-repair", theme().accent);
      data[1].customdata = names;
      data[1].hovertemplate = "%{customdata} logit<br>self-repair %{y:+.3f}<extra></extra>";
      return { data, layout: { xaxis: { title: { text: "quantile of direct effect, %" }, range: [0, 100] }, yaxis: { title: { text: "self-repair (logit)" } }, showlegend: false } };
    },
  });
}

const EACH = 5;
const AROUND = 40;

// Most repaired, least repaired and most broken tokens; no token is in two lists, however few there are.
export function extremes(points) {
  const countered = (row) => row.self_repair * Math.sign(row.lost);
  const share = (row) => countered(row) / Math.abs(row.lost);
  const most = Math.min(EACH, Math.max(1, Math.floor(points.length / 3)));
  const taken = new Set();
  const first = (rows) => {
    const chosen = rows.filter((row) => !taken.has(row)).slice(0, most);
    for (const row of chosen) taken.add(row);
    return chosen;
  };
  const damaged = points.filter((row) => row.lost !== 0);
  const repaired = first(damaged.filter((row) => countered(row) > 0).sort((a, b) => countered(b) - countered(a)));
  const broken = first(damaged.filter((row) => countered(row) < 0).sort((a, b) => countered(a) - countered(b)));
  const least = first([...damaged].sort((a, b) => Math.abs(share(a)) - Math.abs(share(b))));
  return { repaired, least, broken };
}

function keptSection(place, points, words, close) {
  const { repaired, least, broken } = extremes(points);
  const lists = [
    ["Most repaired", "the largest self-repair against what was lost", repaired],
    ["Least repaired", "of the others, the smallest self-repair for what was lost", least],
    ["Most broken", "the largest self-repair on the side of the loss: the rest of the model made it worse", broken],
  ];
  const full = fullScale(points.map((row) => row.self_repair));
  return el(
    "section",
    {},
    el("h2", {}, "In their text"),
    el("p", { class: "note" }, `Kept tokens of the filter; the coloured token is the target, the text before it is what the model saw. Numbers are the token's own, in logits, without an interval: they are single tokens. ${sentence(place.run.caption(place.filter))}.`),
    lists.map(([title, hint, rows]) => rows.length > 0 && el("div", {}, el("h3", {}, title, el("span", { class: "quiet" }, ` · ${hint}`)), el("ol", { class: "kept" }, rows.map((row) => keptRow(place, row, words, close, full))))),
  );
}

function keptRow(place, row, words, close, full) {
  const colour = diverging(row.self_repair / full);
  const token = { ...place, view: "token", window: words.numbers[row.window], position: row.position };
  const texts = [];
  for (let at = Math.max(0, row.position - AROUND); at <= row.position; at++) texts.push(el("bdi", { class: "token" }, words.at(row.window, at)));
  return el(
    "li",
    {},
    el("div", { class: "context" }, texts, el("bdi", { class: "token target", style: { background: colour, color: inkOn(colour) } }, words.at(row.window, row.position + 1))),
    el(
      "div",
      { class: "quiet" },
      `DE ${signed(row.direct_effect, 2)} · lost ${signed(row.lost, 2)} · total ${signed(row.total_effect, 2)} · self-repair ${signed(row.self_repair, 2)} · `,
      el("a", { href: address(token) }, close.has(`${row.window}/${row.position}`) ? "look closely" : "ledger"),
      ` · ${words.document(row.window)}`,
    ),
  );
}

function ruleSection(run, label) {
  return el("details", {}, el("summary", {}, `Why “${label}”? The rule behind the labels`), el("pre", { class: "rule", tabindex: "0" }, run.rule.join("\n")));
}
