// The browser of the journeys: Debian's Chromium, its windows, and what must hold on every page:
// no error on the console, no sideways scroll.
import { mkdir } from "node:fs/promises";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

export const phone = { width: 390, height: 844 };
export const desktop = { width: 1280, height: 800 };

const patience = 8000 * Number(process.env.PERIGEE_TIME_SCALE ?? 1); // ms, for what is waited for

const quietly = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Fails the journey with a sentence. */
export function check(condition, sentence) {
  if (!condition) throw new Error(sentence);
}

/** Waits until a function of no arguments is true; it may be asynchronous. */
export async function until(sentence, isTrue) {
  const end = Date.now() + patience;
  while (!(await isTrue())) {
    check(Date.now() < end, `not in time: ${sentence}`);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}

/** One person's browser window at a gateway's (a worker's) address. */
export class Window {
  constructor(page, base, name) {
    this.page = page;
    this.base = base;
    this.name = name;
    this.errors = [];
    page.setDefaultTimeout(patience);
    page.on("console", (message) => {
      if (message.type() === "error") this.note(`console: ${message.text()}`);
    });
    page.on("pageerror", (error) => this.note(`error: ${error.stack ?? error}`));
    page.on("requestfailed", (request) => {
      if (request.failure()?.errorText === "net::ERR_ABORTED") return; // a page that was left
      this.note(`failed: ${request.url()} ${request.failure()?.errorText}`);
    });
  }

  note(text) {
    if (!this.mayFail) this.errors.push(`${this.name} at ${this.page.url()}: ${text}`);
  }

  open(path) {
    return this.page.goto(this.base + path);
  }

  /** The element with this CSS selector, and this text in it. */
  at(selector, text = "") {
    return this.page.locator(selector).filter({ hasText: text });
  }

  /** Waits until the element's text contains `text`. */
  async sees(selector, text) {
    await this.at(selector, text).first().waitFor();
  }

  async isConnected(selector = "#status") {
    await this.sees(selector, "Connected");
  }

  /** Counts the elements whose text contains `text`. */
  count(selector, text = "") {
    return this.at(selector, text).count();
  }

  async hasNoSidewaysScroll() {
    const { path, wide, over } = await this.page.evaluate(() => {
      const { scrollWidth, clientWidth } = document.documentElement;
      const beyond = [...document.querySelectorAll("main *")].find(
        (each) => each.getBoundingClientRect().right > clientWidth + 1,
      );
      return {
        path: location.pathname,
        wide: scrollWidth - clientWidth,
        over: beyond && (beyond.id || beyond.className || beyond.tagName),
      };
    });
    const { width } = this.page.viewportSize();
    check(wide <= 0 && !over, `${path} at ${width} is ${wide} px too wide (${over ?? "?"})`);
  }

  /** Looks at the page as it is now on a phone and on a desk. */
  async fitsBothSizes() {
    const size = this.page.viewportSize();
    for (const each of [phone, desktop]) {
      await this.page.setViewportSize(each);
      await this.hasNoSidewaysScroll();
    }
    await this.page.setViewportSize(size);
  }
}

/** The journey's surroundings: opens windows, and asks the one who started it for things. */
export class Surroundings {
  constructor(options) {
    this.options = options;
    this.windows = [];
  }

  async begin() {
    this.browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: quietly,
      timeout: 4 * patience,
    });
  }

  /** A window of somebody who shares nothing with the others. Each is at the next address. */
  async window(name, options = {}) {
    const { bases } = this.options;
    const base = bases[this.windows.length % bases.length];
    const context = await this.browser.newContext({ viewport: desktop, ...options });
    const window = new Window(await context.newPage(), base, name);
    this.windows.push(window);
    return window;
  }

  /** Asks for `what` on standard output and waits for the answer on standard input. */
  async ask(what) {
    this.answers ??= createInterface({ input: process.stdin })[Symbol.asyncIterator]();
    process.stdout.write(`please ${what}\n`);
    const { value } = await this.answers.next();
    check(value === "done", `nobody answers "please ${what}"`);
  }

  async stopGateway() {
    for (const window of this.windows) window.mayFail = true;
    await this.ask("stop");
  }

  async startGateway() {
    await this.ask("start");
  }

  /** From here on an error on the console is one again. */
  gatewayIsBack() {
    for (const window of this.windows) window.mayFail = false;
  }

  async checkWindows() {
    for (const window of this.windows) {
      check(window.errors.length === 0, window.errors.join("\n"));
      await window.fitsBothSizes();
    }
  }

  async screenshots(journey) {
    const folder = this.options.screenshots;
    await mkdir(folder, { recursive: true });
    for (const { page, name } of this.windows) {
      await page.screenshot({ path: `${folder}/${journey}-${name}.png`, timeout: 5000 });
    }
  }

  async end() {
    await this.browser?.close();
  }
}
