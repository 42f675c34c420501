import { append, connect, element, notify, parse, textOf } from "/assets/client.js";

const find = (id) => document.getElementById(id);
const privateRoom = Symbol("private messages");
const rooms = new Map(); // name to { entries, unread }; the private messages are shown like a room
let current; // the room that is shown
let wanted; // the room that was asked for last
let ownId;

function nameOf(id) {
  return id === ownId ? "You" : textOf(id).slice(0, 8);
}

function titleOf(room) {
  return room === privateRoom ? "Private messages" : room;
}

function showTabs() {
  const tabs = [...rooms].map(([room, { unread }]) => {
    const label = unread ? `${titleOf(room)} (${unread})` : titleOf(room);
    const tab = element("button", { class: "quiet slim", type: "button" }, label);
    tab.setAttribute("aria-pressed", room === current);
    tab.addEventListener("click", () => show(room));
    return tab;
  });
  find("tabs").replaceChildren(...tabs);
  find("no-rooms").hidden = rooms.size > 0;
}

function show(room) {
  current = room;
  const entries = rooms.get(room)?.entries ?? [];
  const hint = room === undefined ? "Join a room to begin." : "Nothing has been said here yet.";
  const empty = element("li", { class: "empty event" }, hint);
  find("log").replaceChildren(...(entries.length > 0 ? entries : [empty]));
  find("log").scrollTop = find("log").scrollHeight;
  if (rooms.has(room)) rooms.get(room).unread = 0;
  find("talk-title").textContent = room === undefined ? "No room" : titleOf(room);
  find("leave").hidden = room === undefined || room === privateRoom;
  find("text").disabled = find("leave").hidden;
  showButtons();
  showTabs();
}

function showButtons() {
  const isConnected = find("status").dataset.state === "connected";
  find("join-button").disabled = !isConnected;
  find("private-button").disabled = !isConnected;
  find("say-button").disabled = !isConnected || find("text").disabled;
}

function enter(room) {
  if (!rooms.has(room)) rooms.set(room, { entries: [], unread: 0 });
}

// What was on its way when we left a room does not bring it back.
function add(room, entry) {
  if (!rooms.has(room)) return;
  const { entries } = rooms.get(room);
  entries.push(entry);
  if (entries.length > 400) entries.shift();
  if (room === current) append(find("log"), entry);
  else rooms.get(room).unread += 1;
  showTabs();
}

function said(id, message, direction = "") {
  const by = element("span", { class: "by" }, element("b", {}, nameOf(id)), direction);
  return element("li", id === ownId ? { class: "mine" } : {}, by, textOf(message));
}

const handlers = {
  connection(data) {
    ownId = data.id;
    find("id").textContent = ownId;
    // After a lost connection: the gateway knows us by another id, and in no room.
    wanted = undefined;
    for (const room of rooms.keys()) {
      if (room !== privateRoom) connection.send({ type: "join-room", room });
    }
  },
  "room-joined"(data) {
    enter(data.room);
    if (data.room === wanted) show(data.room);
    else showTabs();
  },
  "user-joined"(data) {
    add(data.room, element("li", { class: "event" }, `${nameOf(data.userId)} has joined`));
  },
  "user-left"(data) {
    add(data.room, element("li", { class: "event" }, `${nameOf(data.userId)} has left`));
  },
  "room-message"(data) {
    add(data.room, said(data.senderId, data.message));
  },
  "private-message"(data) {
    enter(privateRoom);
    add(privateRoom, said(data.senderId, data.message, ` ${textOf(data.senderId)}`));
  },
  error: (data) => notify(find("notice"), textOf(data)),
};

const connection = connect("/rooms", {
  status: find("status"),
  onState: showButtons,
  onMessage(text) {
    const message = parse(text);
    if (message?.type !== "error") notify(find("notice"));
    if (Object.hasOwn(handlers, message?.type)) handlers[message.type](message.data);
  },
});

find("join").addEventListener("submit", (event) => {
  event.preventDefault();
  wanted = find("room").value.trim();
  if (connection.send({ type: "join-room", room: wanted })) find("room").value = "";
});

find("leave").addEventListener("click", () => {
  if (!connection.send({ type: "leave-room", room: current })) return;
  rooms.delete(current);
  show([...rooms.keys()].at(-1));
});

find("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const data = find("text").value;
  if (data && connection.send({ type: "room-message", room: current, data })) {
    find("text").value = "";
  }
});

find("private").addEventListener("submit", (event) => {
  event.preventDefault();
  const targetId = find("target").value.trim();
  const data = find("private-text").value;
  if (data && connection.send({ type: "private-message", targetId, data })) {
    find("private-text").value = "";
  }
});

show(undefined);
