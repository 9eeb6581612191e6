/* The numbers of the page, which runs are switched on, and numbers as text as Python's format() writes them. */

const find = (selector, from = document) => from.querySelector(selector);
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const data = JSON.parse(find("#numbers").textContent);
const panels = JSON.parse(find("#panels").textContent);
const on = { seeds: new Set(data.seeds), methods: new Set(data.methods.keys()) };
const DASH = "\u2013";

// what the page says, in its language: a message in English, with {name} for each of the values
const messages = panels.messages ?? {};
const gettext = (message, values = {}) => Object.entries(values).reduce(
  (text, [name, value]) => text.replaceAll(`{${name}}`, () => value), messages[message] ?? message,
);

// numbers as text, as Python's format() writes them
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const sum = (values) => values.reduce((total, value) => total + value, 0);
const mean = (values) => (values.length && values.every(isNumber) ? sum(values) / values.length : null);

function spread(values) {
  const center = mean(values);
  if (center === null) return null;
  if (values.length < 2) return 0;
  return Math.sqrt(sum(values.map((value) => (value - center) ** 2)) / (values.length - 1));
}

function fixed(value, digits) {
  // A tie, such as 12.25 with one digit, goes to the even neighbour; toFixed() would round it up.
  const halves = Math.abs(value) * 2 * 10 ** digits;
  const tie = Number.isInteger(value * 2 ** (digits + 1)) && Number.isInteger(halves) && halves % 2 === 1;
  if (!tie) return value.toFixed(digits);
  const low = Math.floor(halves / 2);
  return ((Math.sign(value) * (low + (low % 2))) / 10 ** digits).toFixed(digits);
}

function general(value, digits) {
  if (value === 0) return "0";
  const [mantissa, power] = value.toExponential(digits - 1).split("e").map(Number);
  if (power >= -4 && power < digits) return String(Number(value.toPrecision(digits)));
  const sign = power < 0 ? "-" : "+";
  return `${mantissa}e${sign}${String(Math.abs(power)).padStart(2, "0")}`;
}

function plain(value, digits) {
  if (!isNumber(value)) return gettext("diverged");
  if (Math.abs(value) < 1e9) return fixed(value, digits);
  return value.toExponential(2).replace(/e([+-])(\d)$/, "e$10$2");
}

const thousands = (value) => {
  const text = plain(value, 0);
  return text.includes("e") ? text : text.replace(/\B(?=(\d{3})+$)/g, ",");
};

const short = (value) => (isNumber(value) ? String(Number(value.toPrecision(4))) : DASH);
// Plotly reads some HTML in texts, and formulas between dollars.
const entities = { "&": "&amp;", "<": "&lt;", ">": "&gt;", $: "&#36;" };
const escaped = (text) => text.replace(/[&<>$]/g, (character) => entities[character]);

// which runs are on
const shownMethods = () => [...on.methods].sort((a, b) => a - b);
const runsOf = (method, runs = data.runs) => runs.filter((run) => run.method === method && on.seeds.has(run.seed));
