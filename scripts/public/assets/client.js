// What the pages have in common: connections that come back and say how they are, and building
// what is shown from text alone. What strangers write goes through textContent, never through HTML.

const firstDelay = 400; // ms
const longestDelay = 8000;

const labels = {
  connecting: "Connecting…",
  connected: "Connected",
  reconnecting: "Reconnecting…",
  closed: "Disconnected",
};

/** Shows a connection's state in an element that is a `status` for screen readers too. */
export function showState(element, state, label = labels[state]) {
  element.dataset.state = state;
  if (element.textContent !== label) element.textContent = label;
}

// Twice as long after each failure, and never for two browsers the same, so that a gateway that
// comes back is not met by all of its visitors at once.
function delayAfter(failures) {
  const delay = Math.min(longestDelay, firstDelay * 2 ** failures);
  return delay * (0.5 + Math.random() / 2);
}

/**
 * Opens a WebSocket to a path of this gateway and opens it again when it is lost.
 *
 * Handlers: onOpen(), onMessage(text), onState(state), and onRefused(reason) for a close with 1008:
 * there is no use in trying again.
 */
export function connect(path, { status, onOpen, onMessage, onState, onRefused }) {
  const url = new URL(path, location.href.replace(/^http/, "ws"));
  let socket;
  let failures = 0;
  let timer;
  let isOver = false;

  function tell(state) {
    if (status) showState(status, state);
    onState?.(state);
  }

  function open() {
    clearTimeout(timer);
    const current = new WebSocket(url);
    socket = current;
    current.onopen = () => {
      failures = 0;
      tell("connected");
      onOpen?.();
    };
    current.onmessage = (event) => {
      if (current === socket && typeof event.data === "string") onMessage(event.data);
    };
    current.onclose = (event) => {
      if (current !== socket || isOver) return;
      if (event.code === 1008) {
        isOver = true;
        tell("closed");
        onRefused?.(event.reason);
        return;
      }
      tell("reconnecting");
      timer = setTimeout(open, delayAfter(failures++));
    };
  }

  function openNow() {
    if (!isOver && socket.readyState === WebSocket.CLOSED) open();
  }

  tell("connecting");
  open();
  addEventListener("online", openNow);
  return {
    /** Sends a string, or a value as JSON. Whether there was a connection to send it on. */
    send(data) {
      if (socket.readyState !== WebSocket.OPEN) return false;
      socket.send(typeof data === "string" ? data : JSON.stringify(data));
      return true;
    },
    /** Begins anew, for what the gateway says to one who opens. */
    reopen() {
      const old = socket;
      open();
      old.close();
    },
    close() {
      isOver = true;
      clearTimeout(timer);
      removeEventListener("online", openNow);
      socket.close();
      tell("closed");
    },
  };
}

/**
 * Reads an event stream: `handlers` maps event names to functions of the event's text.
 *
 * The browser reconnects by itself and asks for what it missed; only when it has given up for good
 * are we to begin again, from the last position it knew.
 */
export function listen(path, { status, handlers }) {
  let failures = 0;
  let last;

  function open() {
    const url = new URL(path, location.href);
    if (last) url.searchParams.set("last-event-id", last);
    const source = new EventSource(url);
    source.onopen = () => {
      failures = 0;
      showState(status, "connected");
    };
    source.onerror = () => {
      showState(status, "reconnecting");
      if (source.readyState === EventSource.CLOSED) setTimeout(open, delayAfter(failures++));
    };
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => {
        last = event.lastEventId || last;
        handle(event.data);
      });
    }
  }

  showState(status, "connecting");
  open();
}

/** The value that a text is in JSON, or undefined. */
export function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Text for a value of anybody's: strings as they are, others as JSON. */
export function textOf(value) {
  return typeof value === "string" ? value : (JSON.stringify(value) ?? "");
}

/** Makes an element: element("li", { class: "mine" }, "text", otherElement). */
export function element(name, attributes, ...children) {
  const result = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) result.setAttribute(key, value);
  result.append(...children);
  return result;
}

/** A time of day for a timestamp of anybody's: ISO text or milliseconds. */
export function timeOf(timestamp) {
  const date = new Date(timestamp);
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleTimeString([], { timeStyle: "short" });
}

/**
 * Appends to a log. It follows its end unless somebody has scrolled back to read, and forgets what
 * is older than `limit` entries.
 */
export function append(log, entry, limit = 400) {
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.querySelector(":scope > .empty")?.remove();
  log.append(entry);
  while (log.children.length > limit) log.firstElementChild.remove();
  if (isAtEnd) log.scrollTop = log.scrollHeight;
}

/** Shows a message in an element made for it, or hides that. */
export function notify(notice, text) {
  notice.textContent = text ?? "";
  notice.hidden = !text;
}

// On a narrow screen the pages' links are a strip that scrolls.
document.querySelector(".top nav [aria-current]")?.scrollIntoView({ block: "nearest" });
