// What is chosen, and drawing all of it again when that or the data changes.

const { refresh, tag, ...given } = JSON.parse(find("data").textContent);
const state = {
  data: given,
  refresh,
  tag,
  window: null,
  dimension: "agent",
  tables: new Set(),
  only: null,
  find: "",
  outcome: "",
  page: 0,
  sort: { key: "at", way: -1 },
  open: null,
  lost: false,
  status: null,
};
const THEMES = ["auto", "light", "dark"];

const view = () => state.data.windows[state.window];
const redrawRequests = () => drawRequests(state.data, view(), state, redrawRequests);
const redrawBy = () =>
  drawBy(view(), state, (by, key) => {
    state.only = { by, key };
    state.page = 0;
    redrawRequests();
    find("requests-title").scrollIntoView();
    find("chip").firstElementChild?.focus();
  });

function redrawCharts() {
  forgetPlots();
  drawCharts(view(), state);
}

function redraw() {
  state.window = Math.min(state.window ?? Infinity, state.data.windows.length - 1);
  choices(
    find("windows"),
    "window",
    state.data.windows.map(({ name: title }, n) => [String(n), title]),
    String(state.window),
    (n) => {
      state.window = Number(n);
      state.page = 0;
      redraw();
    },
  );
  choices(find("dimensions"), "dimension", Object.entries(TITLES), state.dimension, (by) => {
    state.dimension = by;
    redrawBy();
  });
  drawHead(view());
  drawKpis(view());
  drawNotes(state.data);
  redrawCharts();
  redrawBy();
  drawTokens(view(), state.data);
  drawBudgets(state.data);
  redrawRequests();
  drawStatus(state);
}

// A file may not be allowed to remember anything: then the choice lasts as long as the page.
function remembered(change) {
  try {
    return change(localStorage);
  } catch {
    return null;
  }
}

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const button = find("theme");
  button.textContent = `Theme: ${theme}`;
  button.onclick = () => {
    const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    remembered((kept) => kept.setItem("tokopt-theme", next));
    setTheme(next);
    redrawCharts();
  };
}

setTheme(
  THEMES.includes(remembered((kept) => kept.getItem("tokopt-theme")))
    ? remembered((kept) => kept.getItem("tokopt-theme"))
    : "auto",
);
fill(
  find("outcome"),
  h("option", { value: "" }, "all"),
  Object.entries(OUTCOMES).map(([value, title]) => h("option", { value }, title)),
);
find("outcome").addEventListener("change", (event) => {
  state.outcome = event.target.value;
  state.page = 0;
  redrawRequests();
});
find("find").addEventListener("input", (event) => {
  state.find = event.target.value;
  state.page = 0;
  redrawRequests();
});
find("filters").addEventListener("submit", (event) => event.preventDefault());
find("request").addEventListener("click", (event) => {
  if (event.target === event.currentTarget) event.currentTarget.close();
});
find("request").addEventListener("close", () => {
  if (find("request").open) return; // another one was opened since
  const opener = Array.from(document.querySelectorAll("[data-focus]")).find(
    (element) => element.dataset.focus === `open-${state.open}`,
  );
  state.open = null;
  opener?.focus();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawCharts);
redraw();
keepAsking(state, (data) => {
  state.data = data;
  redraw();
  const open = data.requests.rows.find(({ id }) => id === state.open);
  if (open !== undefined) openRequest(open, state);
});
performance.mark("ready");
document.documentElement.dataset.ready = "yes";
