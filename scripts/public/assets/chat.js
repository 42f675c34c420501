import { append, connect, element, notify, parse, textOf, timeOf } from "/assets/client.js";

const find = (id) => document.getElementById(id);
const key = "perigee-chat"; // for this tab only, so that two tabs can be two people

let connection;

function showLogin(reason) {
  sessionStorage.removeItem(key);
  connection?.close();
  connection = undefined;
  notify(find("login-error"), reason);
  find("login-card").hidden = false;
  find("chat-card").hidden = true;
  find("status").hidden = true;
  find("logout").hidden = true;
  find("user").focus();
}

function show(own, text) {
  const message = parse(text);
  if (message?.type !== "chat") return;
  const user = textOf(message.user);
  const by = element("span", { class: "by" });
  by.append(element("b", {}, user), timeOf(message.timestamp));
  const entry = element("li", user === own ? { class: "mine" } : {}, by, textOf(message.message));
  append(find("log"), entry);
}

function enter({ user, token }) {
  find("login-card").hidden = true;
  find("chat-card").hidden = false;
  find("status").hidden = false;
  find("logout").hidden = false;
  find("logout").textContent = `Log out ${user}`;
  connection = connect(`/chat?token=${encodeURIComponent(token)}`, {
    status: find("status"),
    onMessage: (text) => show(user, text),
    onState: (state) => {
      find("send").disabled = state !== "connected";
    },
    onRefused: () => showLogin("Your log-in is not valid any more. Please log in again."),
  });
  find("text").focus();
}

async function login(user) {
  const { length } = [...user];
  if (length < 1 || length > 40) throw new Error("A name has 1 to 40 characters.");
  const response = await fetch("/login", { method: "POST", body: JSON.stringify({ user }) });
  const answer = parse(await response.text());
  if (!response.ok) throw new Error(answer?.error ?? `The gateway answered ${response.status}.`);
  return { user, token: answer.token };
}

find("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const user = find("user").value.trim();
  try {
    const session = await login(user);
    sessionStorage.setItem(key, JSON.stringify(session));
    notify(find("login-error"));
    enter(session);
  } catch (error) {
    const reason = error instanceof TypeError ? "The gateway does not answer." : error.message;
    notify(find("login-error"), reason);
  }
});

find("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const message = find("text").value;
  const timestamp = new Date().toISOString();
  if (message.trim() && connection.send({ type: "chat", message, timestamp })) {
    find("text").value = "";
  }
  find("text").focus();
});

find("logout").addEventListener("click", () => showLogin());

const saved = parse(sessionStorage.getItem(key) ?? "");
if (saved?.token) enter(saved);
