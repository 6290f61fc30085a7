// Enhances pages that are complete without it: pages load in place, charts answer to mouse and keyboard, the palette
// opens with Ctrl+K, and figures follow the gateway. Text from clients is only ever set as text.

const policy = globalThis.trustedTypes?.createPolicy("irisgate", { createHTML: html => html });
const parse = html => new DOMParser().parseFromString(policy ? policy.createHTML(html) : html, "text/html");
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const PLAIN = event => event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;

/* ---- pages load in place ---- */

let loading = null;

async function page(url) {
  loading?.abort();
  loading = new AbortController();
  const reply = await fetch(url, { headers: { accept: "text/html" }, signal: loading.signal });
  if (!reply.headers.get("content-type")?.startsWith("text/html")) throw new Error("no page");
  return { url: reply.url, next: parse(await reply.text()) };
}

// Puts the content of another page in the place of the present one. Focus, open details and the scroll stay.
function replace(next, { whole }) {
  const focus = document.activeElement?.id;
  const open = $$("details[open][id]").map(details => details.id);
  document.title = next.title;
  const main = $("main"), other = $("main", next);
  for (const name of ["data-live"]) {
    if (other.hasAttribute(name)) main.setAttribute(name, other.getAttribute(name));
    else main.removeAttribute(name);
  }
  main.replaceChildren(...document.adoptNode(other).childNodes);
  if (whole) {
    $(".side nav").replaceWith(document.adoptNode($(".side nav", next)));
  } else {
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  }
  if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
  enhance();
}

async function visit(url, { push = true } = {}) {
  // the menu of a narrow screen is the target of the address, and only a new document closes it; only a new document
  // asks before an edited text is lost
  if (location.hash || $("[data-edited]")) { location.assign(url); return; }
  const before = location.pathname;
  document.documentElement.setAttribute("aria-busy", "true");
  try {
    const { url: at, next } = await page(url);
    if (push) history.pushState(null, "", at);
    replace(next, { whole: true });
    if (location.pathname !== before) {
      scrollTo(0, 0);
      $("main").focus({ preventScroll: true });
    }
  } catch (error) {
    if (error.name !== "AbortError") location.assign(url);
  } finally {
    document.documentElement.removeAttribute("aria-busy");
  }
}

const here = url => url.origin === location.origin && url.pathname.startsWith("/ui/");

document.addEventListener("click", event => {
  const link = event.target.closest("a[href]");
  if (!link || !PLAIN(event) || event.defaultPrevented || link.hasAttribute("download")) return;
  if (link.hasAttribute("data-palette")) { event.preventDefault(); palette.open(); return; }
  const url = new URL(link.getAttribute("href"), location.href);
  if (!here(url) || link.getAttribute("href").startsWith("#")) return;
  event.preventDefault();
  visit(url.href);
});

document.addEventListener("submit", event => {
  const form = event.target;
  if (form.method !== "get" || !here(new URL(form.action))) return;
  event.preventDefault();
  const url = new URL(form.action);
  const fields = [...new FormData(form)].filter(([, value]) => value !== "");
  url.search = new URLSearchParams(fields).toString();
  visit(url.href);
});

let path = location.pathname + location.search;
addEventListener("popstate", () => {
  if (location.pathname + location.search !== path) visit(location.href, { push: false });
});

/* ---- charts ---- */

function chart(root) {
  const plot = $(".plot", root), readout = $("[data-readout]", root), slots = $$(".slot", root);
  if (!slots.length) return;
  const timed = Boolean(slots[0].dataset.until);   // columns of time can be chosen as a range
  let at = slots.length - 1, from = -1;
  const handle = document.createElement("div");
  handle.className = "handle";
  handle.id = `${plot.id}-handle`;
  for (const [name, value] of Object.entries({
    tabindex: "0", role: "slider", "aria-label": plot.dataset.label, "aria-valuemin": "0",
    "aria-valuemax": String(slots.length - 1),
  })) handle.setAttribute(name, value);
  plot.append(handle);
  readout.hidden = false;
  const lines = slot => $("title", slot).textContent.trim().split("\n").map(line => line.trim());

  function show(index) {
    at = index;
    const [first, last] = from < 0 ? [at, at] : [Math.min(from, at), Math.max(from, at)];
    slots.forEach((slot, number) => {
      slot.classList.toggle("at", number === at);
      slot.classList.toggle("chosen", from >= 0 && number >= first && number <= last);
    });
    const [label, ...values] = lines(slots[at]);
    const name = document.createElement("b");
    name.textContent = last > first ? `${lines(slots[first])[0]} – ${lines(slots[last])[0]}: Enter shows this time` : label;
    readout.replaceChildren(name, last > first ? "" : ` ${values.join(" · ")}`);
    handle.setAttribute("aria-valuenow", String(at));
    handle.setAttribute("aria-valuetext", readout.textContent);
  }

  // Shows no column, and leaves the place of the next key as it is.
  function rest() {
    slots.forEach(slot => slot.classList.remove("at", "chosen"));
    readout.textContent = timed
      ? "Point at a column, or use the arrow keys. Drag, or hold Shift, to choose a time."
      : "Point at a column, or use the arrow keys. Enter opens what the column stands for.";
  }

  function choose() {
    if (!timed) { visit(slots[at].getAttribute("href")); return; }
    const [first, last] = from < 0 ? [at, at] : [Math.min(from, at), Math.max(from, at)];
    const url = new URL(slots[first].getAttribute("href"), location.href);
    url.searchParams.set("to", slots[last].dataset.until);
    visit(url.href);
  }

  handle.addEventListener("keydown", event => {
    const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: slots.length - 1 };
    if (event.key in moves) {
      if (event.shiftKey && timed) { if (from < 0) from = at; } else from = -1;
      show(Math.max(0, Math.min(slots.length - 1, moves[event.key])));
    } else if (event.key === "Enter" && at >= 0) choose();
    else if (event.key === "Escape" && from >= 0) { from = -1; show(at); }
    else return;
    event.preventDefault();
  });
  handle.addEventListener("focus", () => show(at));
  handle.addEventListener("blur", rest);

  const under = event => slots.indexOf(document.elementFromPoint(event.clientX, event.clientY)?.closest(".slot"));
  let pressed = -1, dragged = false;
  plot.addEventListener("pointermove", event => {
    const index = under(event);
    if (index < 0) return;
    if (timed && pressed >= 0 && index !== pressed) { from = pressed; dragged = true; }
    show(index);
  });
  plot.addEventListener("pointerdown", event => {
    if (event.pointerType !== "mouse" || event.button) return;
    pressed = under(event); from = -1; dragged = false;
  });
  plot.addEventListener("dragstart", event => event.preventDefault());
  plot.addEventListener("click", event => {
    if (dragged) { event.preventDefault(); event.stopPropagation(); }
  }, true);
  plot.addEventListener("pointerup", () => {
    if (dragged && pressed >= 0) choose();
    pressed = -1;
  });
  plot.addEventListener("pointerleave", () => { if (pressed < 0) rest(); });
  show(at);
  rest();
}

/* ---- the palette ---- */

const brief = name => name.length <= 72 ? name : `${name.slice(0, 55)}…${name.slice(-16)}`;

const palette = {
  dialog: null, entries: [], at: 0, query: 0,

  make() {
    const dialog = document.createElement("dialog");
    dialog.setAttribute("aria-label", "Jump to a page, model, user or session");
    const input = document.createElement("input");
    Object.assign(input, { type: "text", placeholder: "Page, model, person or session", autocomplete: "off", spellcheck: false });
    for (const [name, value] of Object.entries({
      role: "combobox", "aria-expanded": "true", "aria-controls": "finds", "aria-label": "Search",
    })) input.setAttribute(name, value);
    const list = document.createElement("ul");
    Object.assign(list, { className: "finds", id: "finds" });
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", "Results");
    const foot = document.createElement("p");
    foot.className = "palette-foot";
    foot.textContent = "↑ ↓ to choose · Enter to open · Esc to close";
    dialog.append(input, list, foot);
    document.body.append(dialog);
    input.addEventListener("input", () => this.search(input.value));
    input.addEventListener("keydown", event => this.key(event));
    list.addEventListener("click", event => {
      const item = event.target.closest("li[data-at]");
      if (item) this.go(Number(item.dataset.at));
    });
    dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
    Object.assign(this, { dialog, input, list });
  },

  open() {
    if (!this.dialog) this.make();
    this.input.value = "";
    this.dialog.showModal();
    this.search("");
  },

  async search(text) {
    const query = ++this.query;
    const reply = await fetch(`/ui/find?q=${encodeURIComponent(text)}`, { headers: { accept: "application/json" } });
    if (!reply.ok || query !== this.query) return;
    this.entries = (await reply.json()).results;
    this.at = 0;
    this.show();
  },

  show() {
    const items = this.entries.map((entry, number) => {
      const item = document.createElement("li"), name = document.createElement("span"), kind = document.createElement("span");
      item.id = `find-${number}`;
      item.dataset.at = String(number);
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", String(number === this.at));
      Object.assign(name, { className: "name", textContent: brief(entry.name), title: entry.name });
      Object.assign(kind, { className: "kind", textContent: entry.kind });
      item.append(name, kind);
      return item;
    });
    if (!items.length) {
      const none = document.createElement("li");
      none.textContent = "Nothing has this name.";
      none.setAttribute("role", "option");
      none.setAttribute("aria-disabled", "true");
      items.push(none);
    }
    this.list.replaceChildren(...items);
    this.input.setAttribute("aria-activedescendant", this.entries.length ? `find-${this.at}` : "");
    items[this.at]?.scrollIntoView({ block: "nearest" });
  },

  key(event) {
    const last = this.entries.length - 1;
    if (event.key === "ArrowDown") this.at = Math.min(last, this.at + 1);
    else if (event.key === "ArrowUp") this.at = Math.max(0, this.at - 1);
    else if (event.key === "Enter") return this.go(this.at);
    else return undefined;
    event.preventDefault();
    return this.show();
  },

  go(number) {
    const entry = this.entries[number];
    if (!entry) return;
    this.dialog.close();
    visit(entry.href);
  },
};

document.addEventListener("keydown", event => {
  if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || event.altKey || !$("[data-palette]")) return;
  event.preventDefault();
  if (palette.dialog?.open) palette.dialog.close();
  else palette.open();
});

/* ---- figures follow the gateway ---- */

const REST = 3000;   // milliseconds between two loads of one page
let source = null, last = 0, timer = 0;

const busy = () =>
  document.hidden || palette.dialog?.open || $("main form:focus-within, main .handle:focus, main .plot:hover") ||
  !getSelection().isCollapsed;

async function refresh() {
  timer = 0;
  if (busy()) { timer = setTimeout(refresh, REST); return; }
  last = Date.now();
  try {
    replace((await page(location.href)).next, { whole: false });
  } catch (error) {
    if (error.name !== "AbortError") live(false);
  }
}

function live(on) {
  for (const mark of $$(".live")) {
    mark.classList.toggle("on", on);
    mark.textContent = on ? "Live" : "Not live";
  }
}

function follow() {
  const wanted = $("main").hasAttribute("data-live");
  if (!wanted) { source?.close(); source = null; return; }
  if (source) { live(source.readyState === EventSource.OPEN); return; }
  source = new EventSource("/ui/live");
  source.addEventListener("open", () => live(true));
  source.addEventListener("error", () => live(false));
  source.addEventListener("change", () => {
    if (!timer) timer = setTimeout(refresh, Math.max(0, last + REST - Date.now()));
  });
}
addEventListener("pagehide", () => { source?.close(); source = null; });
addEventListener("pageshow", event => { if (event.persisted) follow(); });

/* ---- copies ---- */

// A short number is copied as the exact one.
document.addEventListener("copy", event => {
  const selection = getSelection();
  const from = selection.anchorNode?.parentElement?.closest("data.exact");
  if (!from || from !== selection.focusNode?.parentElement?.closest("data.exact")) return;
  event.clipboardData.setData("text/plain", from.value);
  event.preventDefault();
});

document.addEventListener("click", async event => {
  const button = event.target.closest("[data-copies]");
  if (!button) return;
  const text = document.getElementById(button.dataset.copies).textContent;
  await navigator.clipboard.writeText(text);
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

/* ---- a test call from the page Connect ---- */

document.addEventListener("click", async event => {
  const button = event.target.closest("[data-test-call]");
  if (!button) return;
  const result = $("[data-test-result]"), begun = performance.now();
  button.disabled = true;
  result.textContent = "Waiting for the reply …";
  try {
    const reply = await fetch("/v1/chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: button.dataset.testCall, messages: [{ role: "user", content: "hello" }] }),
    });
    const text = await reply.text(), link = document.createElement("a");
    let said = text.slice(0, 300);
    try {
      const body = JSON.parse(text);
      said = body.choices?.[0]?.message?.content ?? body.error?.message ?? said;
    } catch { /* a reply that is no JSON is shown as it is */ }
    link.href = `/ui/calls?id=${encodeURIComponent(reply.headers.get("x-request-id") ?? "")}`;
    link.textContent = "The call";
    const seconds = ((performance.now() - begun) / 1000).toFixed(1);
    result.replaceChildren(`${reply.ok ? "It works" : "Refused"}: status ${reply.status} after ${seconds} s. ${said} `, link);
  } catch (error) {
    result.textContent = `The gateway cannot be reached: ${error.message}`;
  } finally {
    button.disabled = false;
  }
});

/* ---- start ---- */

function enhance() {
  path = location.pathname + location.search;
  $$("[data-chart]").forEach(chart);
  $$("[data-editor]").forEach(editor);
  if (navigator.clipboard) for (const button of $$("[data-copies]")) button.hidden = false;
  for (const button of $$("[data-test-call]")) button.hidden = false;
  follow();
}

for (const keys of $$("[data-keys]")) {
  keys.hidden = false;
  if (/Mac|iPhone|iPad/.test(navigator.platform)) keys.textContent = "⌘ K";
}
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && !document.cookie.split("; ").includes(`zone=${encodeURIComponent(zone)}`)) {
  document.cookie = `zone=${encodeURIComponent(zone)}; path=/ui/; max-age=31536000; samesite=lax`;
  // the first page was made without knowing the zone
  if (!/^(Etc\/)?UTC$/.test(zone) && document.cookie && !$("[data-editor]")) visit(location.href, { push: false });
}
enhance();
