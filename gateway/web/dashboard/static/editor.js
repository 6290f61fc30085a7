// The editor of the configuration: findings while typing, line numbers, and a question before changes are lost. The page
// does the same without it, by its buttons. `pages.js` calls `editor`; both are one module.

const PAUSE = 500;   // milliseconds without a key before the text is checked

// The offset of a line and column, both counted from 1. The gateway counts characters, JavaScript counts UTF-16 units.
function offsetOf(text, line, column) {
  const lines = text.split("\n"), before = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
  return before + [...(lines[line - 1] ?? "")].slice(0, column - 1).join("").length;
}

function editor(form) {
  const area = $("textarea", form), list = $("[data-findings]", form), numbers = $("[data-numbers]", form);
  const place = $("[data-place]", form), save = $("[data-save]", form);
  const begun = area.value, unsaved = form.hasAttribute("data-edited");
  let timer = 0, asked = 0, checked = area.value, wrong = new Set();

  const number = () => {
    const count = area.value.split("\n").length;
    numbers.replaceChildren(...Array.from({ length: count }, (_, at) => {
      const text = `${at + 1}\n`;
      if (!wrong.has(at + 1)) return text;
      const mark = document.createElement("b");
      mark.textContent = text;
      return mark;
    }));
    numbers.scrollTop = area.scrollTop;
  };
  const where = () => {
    const lines = area.value.slice(0, area.selectionStart).split("\n");
    place.textContent = `Line ${lines.length}, column ${[...lines.at(-1)].length + 1}`;
  };

  function go(line, column) {
    const at = offsetOf(area.value, line, column);
    area.focus();
    area.setSelectionRange(at, at);
    const height = parseFloat(getComputedStyle(area).lineHeight);
    area.scrollTop = Math.max(0, (line - 4) * height);
    where();
  }

  function show(errors) {
    wrong = new Set(errors.map(error => error.line));
    area.setAttribute("aria-invalid", String(errors.length > 0));
    const head = document.createElement("p"), mark = document.createElement("strong");
    mark.className = errors.length ? "bad" : "good";
    mark.textContent = errors.length ? `${errors.length} finding${errors.length === 1 ? "" : "s"}.` : "No findings.";
    head.append(mark, errors.length ? " A text with findings is not saved." : " This text can be saved.");
    const lines = area.value.split("\n"), items = document.createElement("ol");
    items.className = "findings";
    items.append(...errors.slice(0, 200).map(error => {
      const item = document.createElement("li"), message = document.createElement("span");
      if (error.line) {
        const link = document.createElement("a");
        link.href = "#text";
        Object.assign(link.dataset, { line: error.line, column: error.column });
        link.textContent = `Line ${error.line}, column ${error.column}`;
        item.append(link, ": ");
      }
      if (error.path) {
        const path = document.createElement("code");
        path.className = "name";
        path.textContent = error.path;
        item.append(path, ": ");
      }
      message.className = "name";
      message.textContent = error.message;
      item.append(message);
      const excerpt = (lines[error.line - 1] ?? "").trim();
      if (excerpt) {
        const quote = document.createElement("code");
        quote.className = "excerpt name";
        quote.textContent = excerpt.length > 160 ? `${excerpt.slice(0, 160)}…` : excerpt;
        item.append(quote);
      }
      return item;
    }));
    list.replaceChildren(head, ...(errors.length ? [items] : []));
    number();
  }

  function fail(text) {
    const line = document.createElement("p");
    line.textContent = text;
    list.replaceChildren(line);
  }

  async function check() {
    const turn = ++asked;
    checked = area.value;
    try {
      const reply = await fetch("/aperture/config:validate", {
        method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ config: checked }),
      });
      const answer = await reply.json();
      if (turn !== asked || !form.isConnected) return;
      if (reply.ok) show(answer.errors);
      else fail(`The text was not checked: ${answer.detail}`);
    } catch (error) {
      if (turn === asked) fail(`The text was not checked: ${error.message}`);
    }
  }

  area.addEventListener("input", () => {
    form.toggleAttribute("data-edited", unsaved || area.value !== begun);
    // what was reviewed is not what would be saved
    if (save) save.hidden = area.value !== begun;
    number();
    clearTimeout(timer);
    timer = setTimeout(() => { if (area.value !== checked) check(); }, PAUSE);
  });
  area.addEventListener("scroll", () => { numbers.scrollTop = area.scrollTop; });
  for (const kind of ["keyup", "click", "focus"]) area.addEventListener(kind, where);
  list.addEventListener("click", event => {
    const link = event.target.closest("a[data-line]");
    if (!link) return;
    event.preventDefault();
    go(Number(link.dataset.line), Number(link.dataset.column));
  });
  form.addEventListener("submit", () => form.removeAttribute("data-edited"));
  numbers.hidden = false;
  for (const link of $$("a[data-line]", list)) wrong.add(Number(link.dataset.line));
  number();
}

addEventListener("beforeunload", event => {
  if ($("[data-editor][data-edited]")) event.preventDefault();
});
