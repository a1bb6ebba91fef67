// Elements are made here and nowhere else. Strings become text nodes: no text is ever read as markup.

function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "share") element.style.setProperty("--share", String(value));
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

const find = (id) => document.getElementById(id);

// Fill an element anew. What was opened, scrolled or had the focus is so again, if it is still there.
function fill(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  const opened = new Set(Array.from(element.querySelectorAll("details[open] > summary"), (each) => each.dataset.focus));
  const offsets = new Map(
    Array.from(element.querySelectorAll("[tabindex='0'][aria-label]"), (each) => [
      each.getAttribute("aria-label"),
      [each.scrollLeft, each.scrollTop],
    ]),
  );
  element.replaceChildren(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  for (const summary of opened.size ? element.querySelectorAll("summary") : []) {
    if (opened.has(summary.dataset.focus)) summary.parentElement.open = true;
  }
  for (const each of offsets.size ? element.querySelectorAll("[tabindex='0'][aria-label]") : []) {
    [each.scrollLeft, each.scrollTop] = offsets.get(each.getAttribute("aria-label")) ?? [0, 0];
  }
  if (focused === undefined) return;
  for (const candidate of element.querySelectorAll("[data-focus]")) {
    if (candidate.dataset.focus === focused) candidate.focus({ preventScroll: true });
  }
}

const unknown = () => h("span", { class: "unknown" }, UNKNOWN);

function figure(text, exact) {
  return text === UNKNOWN ? unknown() : h("span", { title: exact === text ? null : exact }, text);
}

const usd = (text) => figure(money(text), exactMoney(text));
const number = (value) => figure(count(value));
const shortNumber = (value) => figure(brief(value), count(value));

function when(at, options) {
  if (moment(at) === UNKNOWN) return unknown();
  return h("time", { datetime: new Date(at * 1000).toISOString(), title: utc(at) }, moment(at, options));
}

// A name from outside: isolated in direction, cut with the whole of it in the title.
function name(value, most = 48) {
  if (value === null || value === undefined) return unknown();
  const text = shortened(value, most);
  return h("bdi", { title: text === safe(value) ? null : safe(value) }, text);
}

// A table: columns are {title, number?, cell(row), header?}; the first column is the header of its row.
function table(caption, columns, rows, { quiet = false } = {}) {
  const head = columns.map((column) =>
    h(
      "th",
      { scope: "col", class: column.number ? "number" : null, "aria-sort": column.sorted ?? null },
      column.head ?? column.title,
    ),
  );
  const body = rows.map((row) =>
    h(
      "tr",
      { class: row.class ?? null },
      columns.map((column, n) =>
        h(
          n === 0 ? "th" : "td",
          { scope: n === 0 ? "row" : null, class: column.number ? "number" : null, "data-title": column.title },
          column.cell(row),
        ),
      ),
    ),
  );
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      null,
      h("caption", { class: quiet ? "hidden" : null }, caption),
      h("thead", null, h("tr", null, head)),
      h("tbody", null, body),
    ),
  );
}

const nothing = (text) => h("p", { class: "nothing" }, text);

// A set of radio buttons that looks like one switch.
function choices(fieldset, group, options, chosen, choose) {
  const legend = fieldset.querySelector("legend");
  fill(
    fieldset,
    legend,
    options.map(([value, title]) =>
      h(
        "label",
        null,
        h("input", {
          type: "radio",
          name: group,
          value,
          checked: value === chosen,
          "data-focus": `${group}-${value}`,
          onchange: () => choose(value),
        }),
        h("span", null, title),
      ),
    ),
  );
}

// "Where is this number from?": the reading, and the query for the events behind it.
function sources(list) {
  return h(
    "details",
    { class: "source" },
    h("summary", { "data-focus": "source" }, "Where these figures come from"),
    h(
      "dl",
      null,
      Object.entries(list).map(([what, source]) => [
        h("dt", null, what),
        h("dd", null, h("code", null, source.reading)),
        h("dd", null, h("code", null, source.events)),
        source.sums ? h("dd", null, "and of what is rolled up: ", h("code", null, source.sums)) : null,
        source.columns?.length
          ? h(
              "dd",
              null,
              "One row: and ",
              h("code", null, source.columns.map((column) => `${column} = \u2026`).join(" AND ")),
            )
          : null,
      ]),
    ),
  );
}
