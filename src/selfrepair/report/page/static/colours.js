// Diverging colours with zero in the middle: blue and orange, which all kinds of colour vision tell apart.

const DIVERGING = {
  light: { negative: ["#fbe0c2", "#e88a1a", "#7d3a03"], middle: "#f5f5f3", positive: ["#c3dcf0", "#3d87c4", "#07386f"] },
  dark: { negative: ["#4d3315", "#c77a1c", "#ffc987"], middle: "#23262c", positive: ["#1d3a56", "#3b86c8", "#aed9ff"] },
};
// Okabe and Ito's, in the order of the labels.
const LABELS = ["#63666b", "#cc79a7", "#0072b2", "#009e73", "#e69f00", "var(--rule)"];

export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function parts(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}

function mix(from, to, share) {
  const [a, b] = [parts(from), parts(to)];
  return "#" + a.map((value, i) => Math.round(value + (b[i] - value) * share).toString(16).padStart(2, "0")).join("");
}

// The colour of a value between -1 and 1.
export function diverging(value) {
  const scale = DIVERGING[isDark() ? "dark" : "light"];
  if (!Number.isFinite(value)) return "transparent";
  const stops = [scale.middle, ...(value < 0 ? scale.negative : scale.positive)];
  const at = Math.min(1, Math.abs(value)) * (stops.length - 1);
  const from = Math.min(stops.length - 2, Math.floor(at));
  return mix(stops[from], stops[from + 1], at - from);
}

export function inkOn(colour) {
  if (!colour.startsWith("#")) return "inherit";
  const [red, green, blue] = parts(colour);
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#16181d" : "#f6f7f9";
}

export function labelColour(number) {
  return LABELS[number % LABELS.length];
}

// The size at which colours are full: nearly the largest, so that one outlier does not pale the rest.
export function fullScale(values, neutral = 0) {
  const sizes = values.filter(Number.isFinite).map((value) => Math.abs(value - neutral)).sort((a, b) => a - b);
  if (!sizes.length) return 1;
  return sizes[Math.floor(0.98 * (sizes.length - 1))] || sizes[sizes.length - 1] || 1;
}

// What a map's colours stand for: the middle, and how far from it they are full. Shares are full at 100% or before: those
// of little can be any size, and are not told apart beyond.
export function scaleFor(values, quantity, neutral = quantity.neutral ?? 0) {
  const full = fullScale(values, neutral);
  return { neutral, full: quantity.denominator ? Math.min(1, full) : full, clipped: Boolean(quantity.denominator) && full > 1 };
}

export function theme() {
  const style = getComputedStyle(document.documentElement);
  const named = (name) => style.getPropertyValue(`--${name}`).trim();
  return Object.fromEntries(["paper", "ink", "soft", "rule", "positive", "negative", "neutral", "accent"].map((name) => [name, named(name)]));
}
