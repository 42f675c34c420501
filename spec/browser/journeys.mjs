// What people do on the pages, each journey in a browser of its own.
//
//   node journeys.mjs JOURNEY --base URL [--base URL] [--screenshots FOLDER]
//
// With two addresses the windows are placed on them by turns: two workers of one gateway. Ends with
// 0; or with 1, a sentence on standard error, and what the windows showed in FOLDER. A journey that
// needs something done to the gateway or its files, "please stop" and "please start" say, writes so
// to standard output and waits for "done" on standard input.
import { parseArgs } from "node:util";
import { check, desktop, phone, Surroundings, until } from "./kit.mjs";

const paths = ["/", "/feeds", "/market", "/echo", "/rooms", "/chat", "/blog", "/whiteboard"];
const markup = '<img src=x onerror="document.title=1"><b>bold</b>';
const longWord = "perigee".repeat(60);
const journeys = {};

async function hasNoMarkup(window) {
  const injected = await window.count("main b:text-is('bold'), main img[src='x']");
  check(injected === 0, `${window.name} shows foreign text as HTML`);
}

async function say(window, text) {
  await window.at("#text").fill(text);
  await window.at("#text").press("Enter");
}

journeys.index = async (around) => {
  const ann = await around.window("ann");
  await ann.open("/");
  const links = await ann
    .at("main a")
    .evaluateAll((all) => all.map((each) => each.getAttribute("href")));
  check(
    links.join() === paths.slice(1).join(),
    `the index links ${links.join(" ")}, not every page`,
  );
  for (const link of links) {
    await ann.open("/");
    await ann.at(`main a[href="${link}"]`).click();
    await ann.page.waitForURL(`**${link}`);
    check((await ann.count("h1")) === 1, `${link} has no heading`);
    const current = await ann.at('nav a[aria-current="page"]').getAttribute("href");
    check(current === link, `${link} does not say where it is`);
  }
};

journeys.sizes = async (around) => {
  const windows = [
    await around.window("phone", { viewport: phone, colorScheme: "dark" }),
    await around.window("desk", { viewport: desktop, colorScheme: "light" }),
  ];
  for (const window of windows) {
    for (const path of paths) {
      await window.open(path);
      await window.hasNoSidewaysScroll();
      const unnamed = await window
        .at("input, textarea, button")
        .evaluateAll((all) =>
          all
            .filter((each) => !each.labels?.length && !each.ariaLabel && !each.textContent)
            .map((each) => each.outerHTML),
        );
      check(unnamed.length === 0, `${path}: without a name: ${unnamed.join(" ")}`);
    }
  }
  const colours = await Promise.all(
    windows.map((each) =>
      each.page.evaluate(() => getComputedStyle(document.body).backgroundColor),
    ),
  );
  check(colours[0] !== colours[1], "dark and light look the same");
};

journeys.feeds = async (around) => {
  const ann = await around.window("ann");
  const bob = await around.window("bob");
  await ann.open("/feeds");
  await bob.open("/feeds");
  await ann.isConnected("#clock-status");
  await ann.sees("#clock-log li", /^Server time: \d{4}-\d\d-\d\dT/);
  await ann.sees("#clock", /\d:\d\d/);
  await ann.sees("#updates", /^#\d+$/);
  await ann.sees("#users", "2 readers");
  await bob.sees("#users", "2 readers");
  await bob.page.close();
  around.windows.pop();
  await ann.sees("#users", "1 reader: you");
};

journeys.market = async (around) => {
  const ann = await around.window("ann", { viewport: phone });
  await ann.open("/market");
  await ann.isConnected();
  await until("at least five quotes", async () => (await ann.count(".quote")) >= 5);
  check(await ann.at("#empty").isHidden(), "the market still says that it is empty");
  const line = ann.at(".quote polyline").first();
  const before = await line.getAttribute("points");
  await until("a line moves", async () => (await line.getAttribute("points")) !== before);
  await until("a line has many points", async () => {
    const points = await line.getAttribute("points");
    return points.split(" ").length >= 4;
  });
  await ann.sees(".quote .price", /^\d+\.\d\d$/);
};

journeys.echo = async (around) => {
  const ann = await around.window("ann");
  const bob = await around.window("bob", { viewport: phone });
  await ann.open("/echo");
  await bob.open("/echo");
  await ann.sees("#log li", "Welcome to the WebSocket server!");
  await bob.sees("#log li", "Welcome to the WebSocket server!");
  await say(ann, markup);
  await ann.sees("#log li.mine", markup);
  await bob.sees("#log li", markup);
  await hasNoMarkup(bob);
  await say(bob, longWord);
  await ann.sees("#log li", longWord);
  await ann.sees("#log li.event", "Server time: ");
};

async function joinRoom(window, room) {
  await window.at("#room").fill(room);
  await window.at("#room").press("Enter");
  await window.sees("#talk-title", room);
}

journeys.rooms = async (around) => {
  const ann = await around.window("ann");
  const bob = await around.window("bob", { viewport: phone });
  for (const each of [ann, bob]) {
    await each.open("/rooms");
    await each.isConnected();
    await each.sees("#no-rooms", "You are in no room yet.");
  }
  await ann.at("#room").press("Enter");
  await ann.sees("#notice", "Invalid room");
  await joinRoom(ann, "lobby");
  check(await ann.at("#notice").isHidden(), "the error does not go");
  await joinRoom(bob, "lobby");
  await ann.sees("#log li.event", "has joined");
  await say(ann, markup);
  await bob.sees("#log li", markup);
  await ann.sees("#log li.mine", markup);
  await hasNoMarkup(bob);
  await say(bob, longWord);
  await ann.sees("#log li", longWord);

  const bobId = await bob.at("#id").textContent();
  await ann.at("#target").fill(bobId);
  await ann.at("#private-text").fill("only for you");
  await ann.at("#private-text").press("Enter");
  await bob.at("#tabs button", "Private messages (1)").click();
  await bob.sees("#log li", "only for you");
  await ann.at("#target").fill("nobody");
  await ann.at("#private-text").fill("?");
  await ann.at("#private-text").press("Enter");
  await ann.sees("#notice", "Unknown recipient");

  await joinRoom(bob, markup);
  await hasNoMarkup(bob);
  await bob.at("#tabs button", "lobby").click();
  await bob.at("#leave").click();
  await ann.sees("#log li.event", "has left");
};

async function logIn(window, user) {
  await window.open("/chat");
  await window.sees("main", "anyone may log in as anyone");
  // The field has the focus: no mouse is needed.
  await window.page.keyboard.type(user);
  await window.page.keyboard.press("Enter");
  await window.isConnected();
}

journeys.chat = async (around) => {
  const ann = await around.window("ann");
  const bob = await around.window("bob", { viewport: phone });
  await ann.open("/chat");
  await ann.at("#user").fill("x".repeat(41));
  await ann.at("#user").press("Enter");
  await ann.sees("#login-error", "1 to 40 characters");
  await logIn(ann, "Ann");
  await logIn(bob, "<b>bold</b>");
  await ann.sees("#log li", "Nobody has said anything");
  await ann.page.keyboard.type("Hello, Bob");
  await ann.page.keyboard.press("Enter");
  await bob.sees("#log li", "Hello, Bob");
  await bob.sees("#log li .by", "Ann");
  await ann.sees("#log li.mine", "Hello, Bob");
  await say(bob, markup);
  await ann.sees("#log li", markup);
  await hasNoMarkup(ann);
  await say(bob, longWord);
  await ann.sees("#log li", longWord);
  await ann.hasNoSidewaysScroll();
  await bob.hasNoSidewaysScroll();

  await ann.page.reload();
  await ann.isConnected();
  await ann.page.evaluate(() => {
    const session = JSON.parse(sessionStorage.getItem("perigee-chat"));
    sessionStorage.setItem("perigee-chat", JSON.stringify({ ...session, token: "bad" }));
  });
  await ann.page.reload();
  await ann.sees("#login-error", "not valid any more");
  await bob.at("#logout").click();
  await bob.sees("#login-title", "Log in");
};

async function post(window, title, content = "") {
  await window.at("#title").fill(title);
  await window.at("#content").fill(content);
  await window.at("#publish").click();
}

journeys.blog = async (around) => {
  const reader = await around.window("reader", { viewport: phone });
  const author = await around.window("author");
  await reader.open("/blog");
  await reader.sees("#empty", "No posts yet");
  await author.open("/blog");
  await author.isConnected();
  await post(author, "First post", "Some\ntext");
  await author.sees("#notice", "Post published");
  await reader.sees("article h2", "First post");
  await reader.sees("#announcement", "First post");
  check(await reader.at("#empty").isHidden(), "the blog still says that it is empty");
  await post(author, markup, longWord);
  await reader.sees("article h2", markup);
  await hasNoMarkup(reader);
  const late = await around.window("late");
  await late.open("/blog");
  await until("a late reader sees both posts", async () => (await late.count("article")) === 2);
  await late.sees("article:first-of-type h2", markup);
  await post(author, "  ");
  await author.sees("#notice.error", "title");
};

journeys["blog-token"] = async (around) => {
  const author = await around.window("author");
  await author.open("/blog");
  await author.isConnected();
  author.mayFail = true; // the browser's console tells of a 401
  await post(author, "With a token");
  await author.at("#token").fill("open sesame");
  await author.at("#token").press("Enter");
  await author.sees("#notice", "Post published");
  await author.sees("article h2", "With a token");
};

async function drawLine(window, from, to) {
  const box = await window.at("#canvas").boundingBox();
  const { mouse } = window.page;
  await mouse.move(box.x + from[0] * box.width, box.y + from[1] * box.height);
  await mouse.down();
  await mouse.move(box.x + to[0] * box.width, box.y + to[1] * box.height, { steps: 6 });
  await mouse.up();
}

async function hasStrokes(window, count) {
  await until(`${window.name} sees ${count} strokes`, async () => {
    return (await window.at("#canvas").getAttribute("data-strokes")) === String(count);
  });
}

function pixels(window) {
  return window.page.evaluate(() => {
    const { width, height } = canvas;
    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
    let sum = 0;
    for (let i = 3; i < data.length; i += 4) sum = (sum * 31 + data[i] + data[i - 1]) % 1e9;
    return sum;
  });
}

journeys.whiteboard = async (around) => {
  const ann = await around.window("ann");
  const bob = await around.window("bob", { viewport: phone });
  for (const each of [ann, bob]) {
    await each.open("/whiteboard?board=journey");
    await each.isConnected();
    await each.sees("#empty", "The board is empty");
  }
  const blank = await pixels(ann);
  await drawLine(ann, [0.2, 0.2], [0.8, 0.5]);
  await hasStrokes(bob, 1);
  await bob.at('input[value="#cf3f3c"]').check();
  await drawLine(bob, [0.2, 0.8], [0.7, 0.3]);
  await hasStrokes(ann, 2);

  // The pen of the keyboard: down, to the right, up.
  await ann.at("#canvas").focus();
  for (const key of ["Space", "ArrowRight", "ArrowRight", "Shift+ArrowDown", "Space"]) {
    await ann.page.keyboard.press(key);
  }
  await hasStrokes(bob, 3);
  await ann.at("#clear").focus();

  const late = await around.window("late");
  await late.open("/whiteboard?board=journey");
  await hasStrokes(late, 3);
  const seen = await pixels(late);
  check(seen !== blank, "the strokes are not painted");
  check(seen === (await pixels(ann)), "the early and the late viewer see different boards");
  check(seen === (await pixels(bob)), "two viewers see different boards");

  await ann.page.keyboard.press("Enter");
  await ann.sees("#confirm", "Clear it for everybody?");
  await ann.page.keyboard.press("Escape");
  await hasStrokes(ann, 3);
  await ann.page.keyboard.press("Enter");
  await ann.at("#confirm-yes").focus();
  await ann.page.keyboard.press("Enter");
  for (const each of [ann, bob, late]) {
    await hasStrokes(each, 0);
    await each.isConnected();
  }
  check((await pixels(bob)) === blank, "the cleared board is not blank");

  await ann.at("#board").fill("another");
  await ann.at("#board").press("Enter");
  await ann.page.waitForURL("**/whiteboard?board=another");
  await ann.isConnected();
};

journeys.reconnecting = async (around) => {
  const open = async (path, status) => {
    const window = await around.window(path.slice(1));
    if (path === "/chat") await logIn(window, "Ann");
    else await window.open(path);
    await window.isConnected(status);
    return { window, status };
  };
  const all = [];
  for (const path of paths.slice(2)) all.push(await open(path));
  all.push(await open("/feeds", "#clock-status"));
  const rooms = around.windows.find(({ name }) => name === "rooms");
  await joinRoom(rooms, "lobby");

  await around.stopGateway();
  for (const { window, status } of all) await window.sees(status ?? "#status", "Reconnecting…");
  check(await rooms.at("#say-button").isDisabled(), "one can talk to nobody");
  await around.startGateway();
  for (const { window, status } of all) await window.isConnected(status);
  around.gatewayIsBack();
  await say(rooms, "here again");
  await rooms.sees("#log li.mine", "here again");
};

// The page that `perigee new` makes.
journeys.made = async (around) => {
  const ann = await around.window("ann", { viewport: phone });
  const bob = await around.window("bob", { colorScheme: "dark" });
  for (const window of [ann, bob]) {
    await window.open("/");
    await window.isConnected();
  }
  await ann.at("#name").fill("Ann");
  await say(ann, markup);
  await bob.sees("#log li", markup);
  await bob.sees("#log li b", "Ann");
  await hasNoMarkup(bob);
  await say(bob, longWord.slice(0, 250));
  await ann.sees("#log li", longWord.slice(0, 250));
  await ann.fitsBothSizes();
  await ann.open("/");
  await ann.sees("#log li", markup);
  check((await ann.at("#name").inputValue()) === "Ann", "the name is forgotten");
  const carl = await around.window("carl");
  await carl.open("/");
  await carl.sees("#log li", markup);

  // The history ends with the gateway: what they are shown begins anew, and nothing is there twice.
  await around.stopGateway();
  await bob.sees("#status", "Reconnecting…");
  check(await bob.at("#send").isDisabled(), "one can talk to nobody");
  await around.startGateway();
  for (const window of [ann, bob, carl]) await window.isConnected();
  around.gatewayIsBack();
  await say(ann, "here again");
  await bob.sees("#log li", "here again");
  check((await bob.count("#log li")) === 1, "what is lost is shown as if it were kept");
};

// The pages of somebody who writes them: `perigee serve --dev`. Nobody touches the window.
journeys.dev = async (around) => {
  const ann = await around.window("ann");
  await ann.open("/");
  await ann.sees("h1", "First");
  await ann.isConnected();
  await around.ask("edit");
  await ann.sees("h1", "Second");
  await ann.isConnected(); // its WebSocket is the new page's
  await around.ask("style");
  await ann.page.waitForFunction(() => getComputedStyle(document.body).color === "rgb(0, 0, 255)");

  await around.ask("break");
  await ann.sees("#perigee-dev", "main.lua:3: unexpected symbol");
  await ann.sees("#perigee-dev", markup);
  await hasNoMarkup(ann);
  await ann.fitsBothSizes();
  await ann.page.reload();
  await ann.sees("#perigee-dev", "main.lua:3: unexpected symbol");
  await ann.sees("h1", "Second");
  await around.ask("mend");
  await ann.at("#perigee-dev").waitFor({ state: "detached" });
  await ann.isConnected();

  ann.mayFail = true; // the browser's console tells of a 500
  await ann.open("/error");
  await around.ask("break");
  await ann.sees("#perigee-dev", "main.lua:3: unexpected symbol");
  await ann.page.reload();
  await ann.sees("h1", `/main.lua:9: ${markup}`);
  check((await ann.count("#perigee-dev")) === 1, "the load's error is shown twice");
  await ann.sees("mark", "error(");
  await ann.sees("pre", "stack traceback:");
  check((await ann.count("img, b")) === 0, "an error's text is shown as HTML");
  await ann.fitsBothSizes();
  await around.ask("repair");
  await ann.sees("body", "no error any more");
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    base: { type: "string", multiple: true },
    screenshots: { type: "string", default: "build/screenshots" },
  },
});
const [name] = positionals;
if (!Object.hasOwn(journeys, name) || !values.base) {
  console.error(`usage: journeys.mjs JOURNEY --base URL...; one of ${Object.keys(journeys)}`);
  process.exit(2);
}
const around = new Surroundings({ bases: values.base, screenshots: values.screenshots });
try {
  await around.begin();
  await journeys[name](around);
  await around.checkWindows();
} catch (error) {
  const noted = around.windows.flatMap((window) => window.errors);
  console.error([error.stack, ...noted].join("\n"));
  await around.screenshots(name).catch((why) => console.error(`no screenshot: ${why.message}`));
  process.exitCode = 1;
}
await around.end();
process.stdin.destroy();
