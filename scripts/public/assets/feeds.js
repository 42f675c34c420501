import { element, listen, parse } from "/assets/client.js";

const find = (id) => document.getElementById(id);
const shown = 6;

function note(list, text) {
  list.querySelector(".muted")?.remove();
  list.prepend(element("li", {}, text));
  while (list.children.length > shown) list.lastElementChild.remove();
}

listen("/events", {
  status: find("clock-status"),
  handlers: {
    message(text) {
      const time = new Date(text.replace("Server time: ", ""));
      find("clock").textContent = time.toLocaleTimeString();
      note(find("clock-log"), text);
    },
  },
});

listen("/updates", {
  status: find("updates-status"),
  handlers: {
    message(text) {
      find("updates").textContent = text.replace("Update ", "");
      note(find("updates-log"), text);
    },
    "user-count"(text) {
      const users = Number(parse(text)?.users);
      find("users").textContent = users === 1 ? "1 reader: you" : `${users} readers`;
      note(find("updates-log"), `user-count ${text}`);
    },
  },
});
