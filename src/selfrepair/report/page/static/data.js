// The run's data: blocks of base64 in the page, inflated when a view asks for them.

import { exact, hasEnds, headName, visible } from "./format.js";

export const index = JSON.parse(document.getElementById("index").textContent);

const MISSING = -(2 ** 31);
const found = new Map();

function once(key, make) {
  if (!found.has(key)) found.set(key, make());
  return found.get(key);
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

export async function bytesOf(described) {
  const packed = fromBase64(document.getElementById(`block-${described.block}`).textContent);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export function jsonOf(described) {
  return once(`json ${described.block}`, async () => JSON.parse(new TextDecoder().decode(await bytesOf(described))));
}

export function arraysOf(described) {
  return once(`arrays ${described.block}`, async () => {
    const bytes = await bytesOf(described);
    const arrays = {};
    let start = 0;
    for (const one of described.arrays) {
      const count = one.shape.reduce((a, b) => a * b, 1);
      const width = { float32: 4, fixed: 4, int32: 4, uint16: 2, uint8: 1 }[one.kind];
      const joined = joinPlanes(bytes.subarray(start, start + count * width), count, width);
      arrays[one.name] = typed(one, joined.buffer);
      start += count * width;
    }
    return arrays;
  });
}

function joinPlanes(planes, count, width) {
  const joined = new Uint8Array(count * width);
  for (let byte = 0; byte < width; byte++) {
    const plane = byte * count;
    for (let i = 0; i < count; i++) joined[i * width + byte] = planes[plane + i];
  }
  return joined;
}

function typed(one, buffer) {
  const kinds = { float32: Float32Array, int32: Int32Array, uint16: Uint16Array, uint8: Uint8Array };
  if (one.kind !== "fixed") return new kinds[one.kind](buffer);
  return Float64Array.from(new Int32Array(buffer), (value) => (value === MISSING ? NaN : value * one.step));
}

// One run, as views ask for it.
class Run {
  constructor(given, number) {
    Object.assign(this, given);
    this.number = number;
    this.quantity = Object.fromEntries(this.quantities.map((one) => [one.name, one]));
  }

  async ready() {
    this.values = await arraysOf(this.cells);
    return this;
  }

  place(filter, layer, head) {
    return (filter * this.layers + layer) * this.heads + head;
  }

  // Cells that have a head, or another intervention, in the order of layers.
  get every() {
    const all = Array.from({ length: this.layers * this.heads }, (_, at) => ({ layer: Math.floor(at / this.heads), head: at % this.heads }));
    return all.filter(({ layer, head }) => this.exists(layer, head));
  }

  exists(layer, head) {
    return layer < this.layers && head < this.heads && (!this.names || this.names[layer][head] !== "");
  }

  // What results call a head, or another intervention.
  nameOf(layer, head) {
    return this.names ? this.names[layer][head] : headName(layer, head);
  }

  // Its numbers in Python, and how one of them is chosen.
  get python() {
    return this.names ? 'run.interventions.set_index(intervention="name")' : "run.heads";
  }

  where(layer, head) {
    return this.names ? `intervention=${JSON.stringify(this.nameOf(layer, head))}` : `layer=${layer}, head=${head}`;
  }

  // A number of one head: its value and the ends of its interval.
  cell(name, filter, layer, head) {
    const at = this.place(filter, layer, head);
    const part = (ending) => this.values[name + ending]?.[at] ?? NaN;
    return { value: part(""), low: part("_low"), high: part("_high") };
  }

  // A number of all heads together, or of the heads of one layer.
  whole(name, filter, layer) {
    const given = layer === undefined ? this.pooled.pooled : this.pooled.layer;
    const part = (ending) => exact(layer === undefined ? given[name + ending]?.[filter] : given[name + ending]?.[filter]?.[layer]);
    return { value: part(""), low: part("_low"), high: part("_high") };
  }

  // Layers whose heads lose something, as far as that can be told, so that shares of it mean something.
  losing(filter) {
    return Array.from({ length: this.layers }, (_, layer) => layer).filter((layer) => hasEnds(this.whole("repaired_fraction", filter, layer)));
  }

  // Whether a number means something for a head: a ratio does where its interval has ends, as in the terminal's tables.
  determined(quantity, filter, layer, head) {
    return !quantity.denominator || hasEnds(this.cell(quantity.name, filter, layer, head));
  }

  label(filter, layer, head) {
    return this.measured(filter, layer, head) ? this.labels[this.values.label[this.place(filter, layer, head)]] : "not ablated";
  }

  measured(filter, layer, head) {
    return this.values.count[this.place(filter, layer, head)] > 0;
  }

  caption(filter) {
    const one = this.filters[filter];
    return `${this.operator}; ${one.words}${one.estimated}; ${this.leftOut}`;
  }

  async rowsOf(layer, head) {
    return this.rows[layer] ? ofHead(await arraysOf(this.rows[layer]), head) : [];
  }

  async passagesOf(layer, head) {
    return this.passages[layer] ? ofHead(await arraysOf(this.passages[layer]), head) : [];
  }

  async closeup(layer, head, window, position) {
    if (!this.closeups[layer]) return undefined;
    return (await jsonOf(this.closeups[layer]))[`${head}/${window}/${position}`];
  }

  // Windows and positions of a head's close-ups.
  async closeupsOf(layer, head) {
    if (!this.closeups[layer]) return new Set();
    const keys = Object.keys(await jsonOf(this.closeups[layer]));
    return new Set(keys.filter((key) => key.startsWith(`${head}/`)).map((key) => key.slice(key.indexOf("/") + 1)));
  }

  async densityOf(layer, head, filter) {
    if (!this.density[layer]) return undefined;
    const given = await arraysOf(this.density[layer]);
    const which = given.head.findIndex((one, at) => one === head && given.filter[at] === filter);
    if (which < 0) return undefined;
    const size = given.counts.length / given.head.length;
    return { range: given.range.subarray(4 * which, 4 * which + 4), counts: given.counts.subarray(size * which, size * (which + 1)) };
  }

  async repairersOf(filter, layer, head) {
    if (!this.repairers) return [];
    const given = await arraysOf(this.repairers);
    const most = given.component.length / this.values.count.length;
    const start = this.place(filter, layer, head) * most;
    const parts = [];
    for (let at = start; at < start + most && given.component[at] >= 0; at++) {
      parts.push({ ...this.component(given.component[at]), effect: given.effect[at], low: given.low[at], high: given.high[at] });
    }
    return parts;
  }

  component(number) {
    const cells = this.layers * this.modelHeads;
    if (number < cells) {
      const [layer, head] = [Math.floor(number / this.modelHeads), number % this.modelHeads];
      return { kind: "head", layer, head, name: headName(layer, head) };
    }
    const layer = (number - cells) % this.layers;
    return number - cells < this.layers ? { kind: "mlp", layer, name: `MLP ${layer}` } : { kind: "attention", layer, name: `attention ${layer}` };
  }

  words() {
    return once(`words ${this.number}`, () => Words.of(this.text));
  }
}

// Rows of one head, with what follows from them.
function ofHead(arrays, head) {
  const rows = [];
  for (let i = 0; i < arrays.head.length; i++) {
    if (arrays.head[i] !== head) continue;
    const row = { passes: 0 };
    for (const [name, values] of Object.entries(arrays)) row[name] = values[i]; // where it is, its effects and its ledger
    row.lost = row.direct_effect - row.ablated_direct_effect;
    row.self_repair = row.total_effect + row.lost;
    rows.push(row);
  }
  return rows;
}

// The text: windows of tokens, by their place in the page; `numbers` are the run's own.
class Words {
  static async of(described) {
    const words = new Words();
    Object.assign(words, await arraysOf(described.tokens));
    words.starts = new Int32Array(words.lengths.length + 1);
    words.lengths.forEach((length, at) => (words.starts[at + 1] = words.starts[at] + length));
    words.rankOf = new Map();
    words.ids.forEach((id, rank) => words.rankOf.set(id, rank));
    words.documents = await jsonOf(described.documents);
    if (described.pieces) await words.read(described.pieces);
    return words;
  }

  async read(described) {
    const { lengths, bytes } = await arraysOf(described);
    this.pieces = [];
    let start = 0;
    for (const length of lengths) {
      this.pieces.push(length < 0 ? undefined : bytes.subarray(start, start + length));
      start += Math.max(0, length);
    }
  }

  byRank(rank) {
    const piece = this.pieces?.[rank];
    return piece === undefined ? `#${this.ids[rank]}` : visible(piece);
  }

  byId(id) {
    return this.rankOf.has(id) ? this.byRank(this.rankOf.get(id)) : `#${id}`;
  }

  at(window, position) {
    return position < this.lengths[window] ? this.byRank(this.ranks[this.starts[window] + position]) : "";
  }

  isBreak(window, position) {
    const piece = this.pieces?.[this.ranks[this.starts[window] + position]];
    return piece !== undefined && piece.includes(10);
  }

  document(window) {
    return this.documents.windows[window].map((one) => this.documents.names[one]).join(" · ");
  }

  place(number) {
    return this.numbers.indexOf(number);
  }
}

export const runs = index.runs.map((given, number) => new Run(given, number));
