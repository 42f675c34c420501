import { element, listen, notify, parse, textOf } from "/assets/client.js";

const find = (id) => document.getElementById(id);
const seen = new Set(); // ids: a gateway that has lost its positions begins from the first post
const openedAt = Date.now();

function dateOf(timestamp) {
  const date = new Date(timestamp);
  if (Number.isNaN(date.getTime())) return "";
  return date.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

function show(text) {
  const post = parse(text);
  if (typeof post?.title !== "string" || seen.has(post.id)) return;
  seen.add(post.id);
  find("empty").hidden = true;
  const title = element("h2", {}, post.title);
  const when = element("p", { class: "muted small" }, dateOf(post.timestamp));
  const article = element("article", { class: "card" }, title, when);
  if (post.content) article.append(element("p", {}, textOf(post.content)));
  if (Date.parse(post.timestamp) > openedAt) {
    article.classList.add("new");
    find("announcement").textContent = `New post: ${post.title}`;
  }
  find("posts").prepend(article);
}

function say(text, isError) {
  notify(find("notice"), text);
  find("notice").classList.toggle("error", isError);
}

async function publish() {
  const headers = { "Content-Type": "application/json" };
  if (find("token").value) headers.Authorization = `Bearer ${find("token").value}`;
  const body = JSON.stringify({ title: find("title").value, content: find("content").value });
  const response = await fetch("/new-post", { method: "POST", headers, body });
  const answer = await response.text();
  say(answer, !response.ok);
  if (response.status === 401) {
    find("token-field").hidden = false;
    find("token").focus();
  } else if (response.ok) {
    find("title").value = "";
    find("content").value = "";
    find("title").focus();
  } else {
    find("title").focus();
  }
}

find("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!find("title").value.trim()) {
    say("A post needs a title.", true);
    find("title").focus();
    return;
  }
  find("publish").disabled = true;
  try {
    await publish();
  } catch {
    say("The gateway does not answer. Your text is still here.", true);
  }
  find("publish").disabled = false;
});

listen("/blog-updates", { status: find("status"), handlers: { message: show } });
