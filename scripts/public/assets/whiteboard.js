import { connect, notify, parse, textOf } from "/assets/client.js";

const find = (id) => document.getElementById(id);
const canvas = find("canvas");
const context = canvas.getContext("2d");
const longestStroke = 1000; // points; the gateway takes no more
const keyStep = 16;

let strokes = [];
let current; // the stroke being drawn
let cursor; // where the keyboard's pen is
let isConnected = false;
let lastSent = -Infinity;

// Painting --------------------------------------------------------------------------------------

// A stroke may come from anybody's program: what is not a point is passed over, and what is not a
// colour leaves the canvas as it is.
function pointsOf(stroke) {
  const points = Array.isArray(stroke?.points) ? stroke.points : [];
  return points
    .map((point) => (Array.isArray(point) ? point : [point?.x, point?.y]))
    .filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y));
}

function paint(stroke) {
  const points = pointsOf(stroke);
  if (points.length === 0) return;
  context.strokeStyle = "#1b1f27";
  if (typeof stroke.color === "string") context.strokeStyle = stroke.color;
  context.lineWidth = stroke.width > 0 && stroke.width < 200 ? stroke.width : 4;
  context.lineCap = "round";
  context.lineJoin = "round";
  context.beginPath();
  context.moveTo(...points[0]);
  // Through the middles between the points, with the points as handles: no corners.
  for (let i = 1; i < points.length - 1; i++) {
    const [x, y] = points[i];
    context.quadraticCurveTo(x, y, (x + points[i + 1][0]) / 2, (y + points[i + 1][1]) / 2);
  }
  context.lineTo(...points.at(-1));
  context.stroke();
}

function paintCursor([x, y]) {
  context.strokeStyle = "#8a93a3";
  context.lineWidth = 2;
  context.beginPath();
  context.arc(x, y, 14, 0, 2 * Math.PI);
  context.stroke();
}

function paintAll() {
  context.clearRect(0, 0, canvas.width, canvas.height);
  strokes.forEach(paint);
  if (current) paint(current);
  if (cursor) paintCursor(cursor);
  find("empty").hidden = strokes.length > 0 || current !== undefined || !isConnected;
  canvas.dataset.strokes = strokes.length;
}

// The largest board of this shape that the space below the tools has room for.
function fit() {
  const { clientWidth, clientHeight } = find("frame");
  const width = Math.min(clientWidth, (clientHeight * canvas.width) / canvas.height);
  canvas.style.width = `${Math.floor(width)}px`;
}

// The board ---------------------------------------------------------------------------------------

const board = new URLSearchParams(location.search).get("board") || "default";
find("board").value = board;

const handlers = {
  init(message) {
    strokes = Array.isArray(message.strokes) ? message.strokes : [];
  },
  draw(message) {
    strokes.push(message.stroke);
  },
  clear() {
    strokes = [];
    // A stroke of ours may have passed this message on its way, and be on the board after it.
    if (performance.now() - lastSent < 5000) connection.reopen();
  },
  error(message) {
    notify(find("notice"), textOf(message.data));
    // The stroke that was refused is on no other board: show what is.
    connection.reopen();
  },
};

const connection = connect(`/whiteboard?board=${encodeURIComponent(board)}`, {
  status: find("status"),
  onMessage(text) {
    const message = parse(text);
    if (Object.hasOwn(handlers, message?.type)) handlers[message.type](message);
    paintAll();
  },
  onState(state) {
    isConnected = state === "connected";
    find("clear").disabled = !isConnected;
    canvas.setAttribute("aria-disabled", !isConnected);
    paintAll();
  },
  onRefused: (reason) => notify(find("notice"), reason),
});

// Drawing -----------------------------------------------------------------------------------------

function begin(point) {
  if (!isConnected) return;
  notify(find("notice"));
  const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;
  current = { color: chosen("color"), width: Number(chosen("width")), points: [point] };
  paintAll();
}

function end() {
  if (!current) return;
  const stroke = current;
  current = undefined;
  if (connection.send({ type: "draw", stroke })) {
    strokes.push(stroke);
    lastSent = performance.now();
  }
  paintAll();
}

function moveTo(point) {
  const [x, y] = current.points.at(-1);
  if (x === point[0] && y === point[1]) return;
  current.points.push(point);
  if (current.points.length >= longestStroke) {
    end();
    begin(point);
  }
  paintAll();
}

function pointOf(event) {
  const box = canvas.getBoundingClientRect();
  const x = ((event.clientX - box.left) * canvas.width) / box.width;
  const y = ((event.clientY - box.top) * canvas.height) / box.height;
  return [Math.round(x), Math.round(y)];
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || !event.isPrimary) return;
  canvas.setPointerCapture(event.pointerId);
  cursor = undefined;
  begin(pointOf(event));
});
canvas.addEventListener("pointermove", (event) => {
  if (!current || cursor || !event.isPrimary) return;
  for (const each of event.getCoalescedEvents?.() ?? [event]) if (current) moveTo(pointOf(each));
});
canvas.addEventListener("pointerup", end);
canvas.addEventListener("pointercancel", end);

const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

canvas.addEventListener("keydown", (event) => {
  const direction = directions[event.key];
  if (!direction && event.key !== " ") return;
  event.preventDefault();
  cursor ??= [canvas.width / 2, canvas.height / 2];
  if (direction) {
    const step = event.shiftKey ? 5 * keyStep : keyStep;
    cursor = [
      Math.min(canvas.width, Math.max(0, cursor[0] + step * direction[0])),
      Math.min(canvas.height, Math.max(0, cursor[1] + step * direction[1])),
    ];
    if (current) moveTo(cursor);
  } else if (current) {
    end();
  } else {
    begin(cursor);
  }
  paintAll();
});
canvas.addEventListener("blur", () => {
  end();
  cursor = undefined;
  paintAll();
});

// Nothing brings a cleared board back, so clearing is asked twice.
function askToClear(isAsking) {
  find("clear").hidden = isAsking;
  find("confirm").hidden = !isAsking;
  find(isAsking ? "confirm-no" : "clear").focus();
}

find("clear").addEventListener("click", () => askToClear(true));
find("confirm-no").addEventListener("click", () => askToClear(false));
find("confirm-yes").addEventListener("click", () => {
  connection.send({ type: "clear" });
  askToClear(false);
});
find("confirm").addEventListener("keydown", (event) => {
  if (event.key === "Escape") askToClear(false);
});
find("go").addEventListener("submit", (event) => {
  event.preventDefault();
  location.search = new URLSearchParams({ board: find("board").value.trim() || "default" });
});
new ResizeObserver(fit).observe(find("frame"));
