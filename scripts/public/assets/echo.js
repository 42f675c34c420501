import { append, connect, element } from "/assets/client.js";

const log = document.getElementById("log");
const text = document.getElementById("text");
const send = document.getElementById("send");

function entryFor(message) {
  const [, kind, said] = /^(Echo|Broadcast): ([^]*)$/.exec(message) ?? [];
  if (!kind) return element("li", { class: "event" }, message);
  const by = element("span", { class: "by" }, kind === "Echo" ? "Echo" : "Somebody else");
  return element("li", kind === "Echo" ? { class: "mine" } : {}, by, said);
}

const connection = connect("/echo", {
  status: document.getElementById("status"),
  onMessage: (message) => append(log, entryFor(message)),
  onState: (state) => {
    send.disabled = state !== "connected";
  },
});

document.getElementById("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (text.value && connection.send(text.value)) text.value = "";
  text.focus();
});
