// Numbers and tokens as people read them.

const NONE = "–";

export function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

// A number as the page holds it: JSON has no infinity, which is written out there.
export function exact(value) {
  return value === null || value === undefined ? NaN : Number(value);
}

const ROUNDING = 1e-9; // what is smaller is rounding of rounding, and shown as zero

function sized(value, digits) {
  const text = Math.abs(value) < 0.5 * 10 ** -digits && Math.abs(value) >= ROUNDING ? Math.abs(value).toExponential(1) : Math.abs(value).toFixed(digits);
  return { text, negative: value < 0 && Math.abs(value) >= ROUNDING };
}

export function signed(value, digits = 3) {
  if (value === Infinity || value === -Infinity) return value < 0 ? "−∞" : "∞";
  if (!isNumber(value)) return NONE;
  const { text, negative } = sized(value, digits);
  return (negative ? "−" : "+") + text;
}

export function plain(value, digits = 3) {
  if (value === Infinity || value === -Infinity) return value < 0 ? "−∞" : "∞";
  if (!isNumber(value)) return NONE;
  const { text, negative } = sized(value, digits);
  return (negative ? "−" : "") + text;
}

export function percent(value, digits = 1) {
  if (value === Infinity || value === -Infinity) return plain(value);
  if (!isNumber(value)) return NONE;
  const rounded = Number((100 * value).toFixed(digits));
  return (rounded < 0 ? "−" : "") + Math.abs(rounded).toFixed(digits) + "%";
}

// Decimals at which no end of an interval that lies above or below zero looks like zero, two more at most.
function telling(ends, digits) {
  const plainly = (more) => ends.every((end) => !Number.isFinite(end) || Math.abs(end) < ROUNDING || Number((100 * end).toFixed(more)) !== 0);
  return [digits, digits + 1].find(plainly) ?? digits + 2;
}

// A share's interval, in per cent.
export function betweenPercent(low, high, digits = 1) {
  const enough = telling([low, high], digits);
  return betweenEnds(low, high, (end) => percent(end, enough));
}

export function grouped(value) {
  return isNumber(value) ? Math.round(value).toLocaleString("en") : NONE;
}

// Shares read best as percentages, logits with their sign.
export function shown(value, quantity) {
  if (quantity.units === "logit") return signed(value);
  return isShare(quantity) ? percent(value) : plain(value);
}

function isShare(quantity) {
  return quantity.percent;
}

// An interval in words. It is unbounded where a ratio's denominator may be zero.
export function between(low, high, quantity) {
  return quantity.units !== "logit" && isShare(quantity) ? betweenPercent(low, high) : betweenEnds(low, high, (end) => shown(end, quantity));
}

function betweenEnds(low, high, said) {
  if (Number.isNaN(low) || Number.isNaN(high)) return "no interval";
  if (low === -Infinity && high === Infinity) return "unbounded";
  return `${said(low)} to ${said(high)}`;
}

// Whether an interval has ends. Of a share it has none where what it is a share of may be zero: it may be anything then.
export function hasEnds({ low, high }) {
  return Number.isFinite(low) && Number.isFinite(high);
}

const LOGITS = { units: "logit" };

export function betweenLogits(low, high) {
  return between(low, high, LOGITS);
}

export function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function headName(layer, head) {
  return `L${layer}H${head}`;
}

const MARKS = new Map([["\n", "⏎"], ["\r", "␍"], ["\t", "⇥"], ["\u007f", "␡"], ["\u00a0", "⍽"], ["\u00ad", "⟨U+00AD⟩"]]);
// What would not be seen, or would change how its neighbours are seen: said by its number.
const UNSEEN = /[\u0080-\u009f\u061c\u115f\u180e\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/u;

function mark(letter) {
  if (MARKS.has(letter)) return MARKS.get(letter);
  const code = letter.codePointAt(0);
  if (code < 32) return String.fromCodePoint(0x2400 + code);
  if (UNSEEN.test(letter)) return `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
  return letter;
}

// A token's bytes as text in which everything can be seen; bytes that are no whole character as ⟨E2⟩.
export function visible(bytes) {
  let text = "";
  for (const part of characters(bytes)) {
    text += typeof part === "number" ? `⟨${part.toString(16).toUpperCase().padStart(2, "0")}⟩` : [...part].map(mark).join("");
  }
  return text;
}

const STRICT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function* characters(bytes) {
  for (let place = 0; place < bytes.length; ) {
    const size = [1, 2, 3, 4].find((length) => isCharacter(bytes.subarray(place, place + length), length));
    if (size === undefined) yield bytes[place++];
    else {
      yield STRICT.decode(bytes.subarray(place, place + size));
      place += size;
    }
  }
}

function isCharacter(bytes, length) {
  if (bytes.length < length) return false;
  try {
    return [...STRICT.decode(bytes)].length === 1;
  } catch {
    return false;
  }
}

// Spaces at the ends, where they would not be seen.
export function spaced(text) {
  return text.replace(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length));
}

export function shortened(text, most = 28) {
  const letters = [...text];
  return letters.length <= most ? text : letters.slice(0, most - 1).join("") + "…";
}
