import { element, listen, parse } from "/assets/client.js";

const kept = 90; // prices a line shows: 45 s
const width = 300;
const height = 64;
const quotes = new Map(); // by symbol
const list = document.getElementById("quotes");

function drawing(name, attributes = {}) {
  const result = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) result.setAttribute(key, value);
  return result;
}

function makeQuote(symbol) {
  const quote = {
    prices: [],
    price: element("p", { class: "price" }),
    change: element("p", { class: "change" }),
    area: drawing("path"),
    line: drawing("polyline"),
  };
  const chart = drawing("svg", {
    viewBox: `0 0 ${width} ${height}`,
    preserveAspectRatio: "none",
    "aria-hidden": "true",
  });
  chart.append(quote.area, quote.line);
  const head = element("div", { class: "row spread" }, element("h2", {}, symbol), quote.change);
  quote.card = element("li", { class: "card quote" }, head, quote.price, chart);
  list.append(quote.card);
  document.getElementById("empty").hidden = true;
  return quote;
}

// The line fills the chart's height whatever the prices are; a flat one lies in the middle.
function pointsOf(prices) {
  const low = Math.min(...prices);
  const range = Math.max(...prices) - low;
  const step = width / Math.max(1, prices.length - 1);
  return prices.map((price, index) => {
    const share = range > 0 ? (price - low) / range : 0.5;
    return `${(index * step).toFixed(1)},${(height - 4 - share * (height - 8)).toFixed(1)}`;
  });
}

function show(quote) {
  const { prices } = quote;
  const last = prices.at(-1);
  const change = last - prices[0];
  const percent = (100 * change) / prices[0];
  const trend = change > 0 ? "up" : change < 0 ? "down" : "flat";
  const arrow = { up: "▲", down: "▼", flat: "·" }[trend];
  quote.card.dataset.trend = trend;
  quote.price.textContent = last.toFixed(2);
  const size = `${Math.abs(change).toFixed(2)} (${Math.abs(percent).toFixed(2)} %)`;
  quote.change.textContent = `${arrow} ${size}`;
  const points = pointsOf(prices.length > 1 ? prices : [last, last]);
  quote.line.setAttribute("points", points.join(" "));
  quote.area.setAttribute("d", `M0,${height} L${points.join(" L")} L${width},${height} Z`);
}

listen("/stocks", {
  status: document.getElementById("status"),
  handlers: {
    "price-update"(text) {
      const update = parse(text);
      if (typeof update?.symbol !== "string" || typeof update.price !== "number") return;
      if (!quotes.has(update.symbol)) quotes.set(update.symbol, makeQuote(update.symbol));
      const quote = quotes.get(update.symbol);
      quote.prices.push(update.price);
      if (quote.prices.length > kept) quote.prices.shift();
      show(quote);
    },
  },
});
