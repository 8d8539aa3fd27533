// Charts drawn by plotly.js: what each shows, as data and layout.

import { bytesOf, index } from "./data.js";
import { theme } from "./colours.js";
import { betweenLogits, signed } from "./format.js";

let reading;

// The library is the largest part of the page, and is read when the first chart wants it.
export function plotly() {
  reading ??= bytesOf(index.library).then((bytes) => {
    const script = document.createElement("script");
    script.textContent = new TextDecoder().decode(bytes);
    document.head.append(script);
    return window.Plotly;
  });
  return reading;
}

// Plotly reads a little markup in its texts; what comes from data is not markup.
export function asText(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

export function layout(given) {
  const colour = theme();
  const axis = { gridcolor: colour.rule, zerolinecolor: colour.soft, linecolor: colour.rule, tickcolor: colour.rule, automargin: true };
  const merged = (one = {}) => ({ ...axis, ...one, title: { standoff: 8, font: { size: 12.5 }, ...one.title } });
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "system-ui, sans-serif", size: 12.5, color: colour.ink },
    margin: { l: 58, r: 14, t: 10, b: 48 },
    hoverlabel: { bgcolor: colour.paper, bordercolor: colour.soft, font: { color: colour.ink } },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 12 } },
    dragmode: false,
    ...given,
    xaxis: merged(given.xaxis),
    yaxis: merged(given.yaxis),
  };
}

function short(value, digits) {
  return (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);
}

// Lengths of whiskers to both ends of 95% intervals; none where there is no interval, or where it has no end.
function whiskers(parts, colour) {
  const reach = (part, end) => (Number.isFinite(part.low) && Number.isFinite(part.high) ? Math.abs(part[end] - part.value) : 0);
  const [above, below] = ["high", "low"].map((end) => parts.map((part) => reach(part, end)));
  return above.some(Boolean) ? { type: "data", symmetric: false, array: above, arrayminus: below, color: colour, thickness: 1, width: 3 } : undefined;
}

function valueWithInterval(part, units) {
  return `${signed(part.value)} ${units}${part.low === undefined ? "" : ` (95% interval ${betweenLogits(part.low, part.high)})`}`;
}

// Bars from what was lost, through who repaired, to what is left. Steps: {name, value, low?, high?, kind}.
export function waterfall(steps, units = "logit") {
  const colour = theme();
  const base = [], size = [], fill = [];
  let level = 0;
  for (const step of steps) {
    const whole = step.kind === "whole";
    base.push(whole ? 0 : level);
    size.push(step.value);
    level = whole ? step.value : level + step.value;
    fill.push(whole ? colour.neutral : step.value < 0 ? colour.negative : colour.positive);
  }
  const names = steps.map((step) => asText(step.name));
  const digits = Math.max(2, 1 - Math.floor(Math.log10(Math.max(...size.map(Math.abs), 1e-9))));
  const levels = steps.map((step, at) => base[at] + step.value);
  const ends = steps.map((step, at) => ({ value: levels[at], low: base[at] + step.low, high: base[at] + step.high }));
  return {
    data: [
      {
        type: "bar", x: names, y: size, base, marker: { color: fill }, showlegend: false,
        error_y: whiskers(ends, colour.ink),
        customdata: steps.map((step) => valueWithInterval(step, units)),
        hovertemplate: "%{x}: %{customdata}<extra></extra>",
      },
      {
        type: "scatter", mode: "lines", x: names.slice(0, -1).flatMap((name, at) => [name, names[at + 1], null]),
        y: levels.slice(0, -1).flatMap((value) => [value, value, null]), line: { color: colour.soft, width: 1, dash: "dot" },
        hoverinfo: "skip", showlegend: false,
      },
    ],
    layout: { yaxis: { title: { text: units }, zeroline: true }, xaxis: { tickangle: -40, fixedrange: true, tickvals: names, ticktext: steps.map((step, at) => `${names[at]}  <b>${short(step.value, digits)}</b>`) }, bargap: 0.25 },
  };
}

// Components by size, with their errors.
export function ranking(parts, units = "logit") {
  const colour = theme();
  const shown = [...parts].reverse();
  return {
    data: [
      {
        type: "bar", orientation: "h", y: shown.map((part) => asText(part.name)), x: shown.map((part) => part.effect),
        marker: { color: shown.map((part) => (part.effect < 0 ? colour.negative : colour.positive)) },
        error_x: whiskers(shown.map((part) => ({ ...part, value: part.effect })), colour.ink),
        customdata: shown.map((part) => valueWithInterval({ ...part, value: part.effect }, units)),
        hovertemplate: "%{y}: %{customdata}<extra></extra>",
      },
    ],
    layout: { xaxis: { title: { text: `repair, ${units} (whiskers: 95% intervals)` }, zeroline: true }, yaxis: { fixedrange: true }, bargap: 0.3 },
  };
}

function straight(range, slope, name, dash, colour) {
  return {
    type: "scatter", mode: "lines", x: range, y: range.map((x) => slope * x), name, hoverinfo: "skip",
    line: { dash, width: 1.6, color: colour },
  };
}

// Total effect against change in direct effect; `density` where points are many.
export function repairScatter({ points, density, slope, intercept, origin }) {
  const colour = theme();
  const change = points.map((row) => -row.lost);
  const [low, high] = density ? [density.range[0], density.range[1]] : [Math.min(0, ...change), Math.max(0, ...change)];
  const pad = 0.04 * (high - low || 1);
  const range = [low - pad, high + pad];
  const data = [];
  if (density) data.push(densityTrace(density, colour));
  data.push({
    type: "scatter", mode: "markers", name: density ? "some of them" : "tokens", x: change, y: points.map((row) => row.total_effect),
    marker: { size: density ? 3 : 6, opacity: density ? 0.35 : 0.65, color: density ? colour.ink : colour.accent },
    customdata: points.map((row) => [asText(row.text ?? ""), signed(row.self_repair)]),
    hovertemplate: "%{customdata[0]}<br>ΔDE %{x:+.3f}, TE %{y:+.3f}, self-repair %{customdata[1]}<extra></extra>",
  });
  data.push(straight(range, 1, "no repair (TE = ΔDE)", "dash", colour.soft));
  data.push(straight(range, 0, "full repair (TE = 0)", "dot", colour.soft));
  if (Number.isFinite(slope)) {
    const line = straight(range, slope, `fitted with intercept, slope ${slope.toFixed(2)}`, "solid", colour.negative);
    line.y = range.map((x) => slope * x + (intercept || 0));
    data.push(line);
  }
  if (Number.isFinite(origin)) data.push(straight(range, origin, `through the origin, slope ${origin.toFixed(2)}`, "dashdot", colour.negative));
  return { data, layout: { xaxis: { title: { text: "change in direct effect, ΔDE (logit)" }, range }, yaxis: { title: { text: "total effect (logit)" } } } };
}

function densityTrace(density, colour) {
  const size = Math.round(Math.sqrt(density.counts.length));
  const [left, right, bottom, top] = density.range;
  const z = Array.from({ length: size }, (_, y) => Array.from({ length: size }, (_, x) => Math.log10(1 + density.counts[x * size + y]) || null));
  const middle = (low, high, at) => low + ((at + 0.5) / size) * (high - low);
  return {
    type: "heatmap", z, x: z.map((_, at) => middle(left, right, at)), y: z.map((_, at) => middle(bottom, top, at)), showscale: false,
    colorscale: [[0, colour.rule], [1, colour.accent]], hoverinfo: "skip", name: "all tokens of the filter",
  };
}

export function band(x, value, low, high, name, colour) {
  return [
    { type: "scatter", mode: "lines", x: [...x, ...[...x].reverse()], y: [...high, ...[...low].reverse()], fill: "toself", fillcolor: colour + "33", line: { width: 0 }, hoverinfo: "skip", showlegend: false },
    { type: "scatter", mode: "lines+markers", x, y: value, name, line: { color: colour, width: 2 }, marker: { size: 5 } },
  ];
}
