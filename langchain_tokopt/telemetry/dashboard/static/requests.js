// The newest requests: found, sorted, page by page.

const PAGE = 25;
const OUTCOMES = {
  answered: "Answered by a model",
  cached: "Answered from the cache",
  refused: "Refused by a budget",
  failed: "Failed",
  none: "No model asked",
};
const OUTCOME_TONE = { refused: "warn", failed: "bad", cached: "good" };

const cost = (request) => request.measured?.cost_usd ?? request.estimated?.cost_usd ?? null;
const ofUsage = (request, field) => (request.measured ?? request.estimated)?.[field] ?? null;

// "+" where part of it is only estimated: the two are never added.
const mark = (request) =>
  request.measured
    ? request.estimated
      ? h(
          "span",
          { class: "more", title: "some calls of this request are only estimated, and not in this figure" },
          "\u00a0+est.",
        )
      : null
    : request.estimated
      ? h("span", { class: "more", title: "estimated: the provider did not report" }, "\u00a0est.")
      : null;

const COLUMNS = [
  { key: "at", title: "When", value: (request) => request.at, cell: (request) => when(request.at), first: -1 },
  {
    key: "agent",
    title: "Agent",
    value: (request) => request.who?.agent ?? null,
    cell: (request) => name(request.who?.agent, 24),
  },
  {
    key: "user",
    title: "User",
    value: (request) => request.who?.user ?? null,
    cell: (request) => name(request.who?.user, 20),
  },
  {
    key: "model",
    title: "Model",
    value: (request) => request.model ?? null,
    cell: (request) =>
      request.model === undefined && !request.calls ? h("span", { class: "unknown" }, "-") : name(request.model, 28),
  },
  {
    key: "outcome",
    title: "Outcome",
    value: (request) => request.outcome,
    cell: (request) => h("span", { class: `badge ${OUTCOME_TONE[request.outcome] ?? ""}` }, safe(request.outcome)),
  },
  {
    key: "input",
    title: "Input",
    number: true,
    value: (request) => ofUsage(request, "input_tokens"),
    cell: (request) => called(request, (r) => number(ofUsage(r, "input_tokens"))),
  },
  {
    key: "read",
    title: "Cache read",
    number: true,
    value: (request) => ofUsage(request, "cache_read_tokens"),
    cell: (request) => called(request, (r) => number(ofUsage(r, "cache_read_tokens"))),
  },
  {
    key: "output",
    title: "Output",
    number: true,
    value: (request) => ofUsage(request, "output_tokens"),
    cell: (request) => called(request, (r) => number(ofUsage(r, "output_tokens"))),
  },
  {
    key: "cost",
    title: "Cost",
    number: true,
    value: (request) => {
      const text = cost(request);
      return text === null ? null : Number(text);
    },
    cell: (request) => called(request, (r) => [usd(cost(r)), mark(r)]),
  },
  {
    key: "saved",
    title: "Saved, est.",
    number: true,
    value: (request) => (request.saved?.usd === undefined ? null : Number(request.saved.usd)),
    cell: (request) => (request.saved ? usd(request.saved.usd) : h("span", { class: "unknown" }, "-")),
  },
  {
    key: "added",
    title: "Added",
    number: true,
    value: (request) => request.added_seconds ?? null,
    cell: (request) =>
      figure(
        duration(request.added_seconds),
        request.added_seconds === undefined ? null : `${request.added_seconds} s`,
      ),
  },
  {
    key: "latency",
    title: "Model time",
    number: true,
    value: (request) => request.latency_seconds ?? null,
    cell: (request) => called(request, (r) => figure(duration(r.latency_seconds), `${r.latency_seconds} s`)),
  },
];

// Where no model was called there is nothing to be known of a call.
const called = (request, cell) =>
  request.measured || request.estimated
    ? cell(request)
    : h("span", { class: "unknown" }, request.calls ? UNKNOWN : "-");

function haystack(request) {
  request.words ??= [
    request.id,
    request.model,
    request.provider,
    request.outcome,
    ...Object.values(request.who ?? {}),
    ...request.steps.map((step) => step.reason),
  ]
    .filter((text) => text !== undefined && text !== null)
    .join("\n")
    .toLowerCase();
  return request.words;
}

function chosenRequests(data, state, since) {
  const words = state.find.toLowerCase().split(/\s+/).filter(Boolean);
  const { by, key } = state.only ?? {};
  return data.requests.rows.filter(
    (request) =>
      request.until >= since &&
      (state.outcome === "" || request.outcome === state.outcome) &&
      (by === undefined || ((by === "model" ? request.model : request.who?.[by]) ?? null) === key) &&
      words.every((word) => haystack(request).includes(word)),
  );
}

function sortedRequests(rows, { key, way }) {
  const { value } = COLUMNS.find((column) => column.key === key);
  const ranked = rows.map((request) => [value(request), request]);
  // What is not known comes last, whichever way.
  ranked.sort(([a], [b]) => (a === null ? (b === null ? 0 : 1) : b === null ? -1 : (a < b ? -1 : a > b ? 1 : 0) * way));
  return ranked.map(([, request]) => request);
}

function drawRequests(data, view, state, redraw) {
  const rows = sortedRequests(chosenRequests(data, state, view.since), state.sort);
  const pages = Math.max(1, Math.ceil(rows.length / PAGE));
  state.page = Math.min(state.page, pages - 1);
  const shown = rows.slice(state.page * PAGE, (state.page + 1) * PAGE);
  const columns = COLUMNS.map((column) => ({
    ...column,
    sorted: state.sort.key === column.key ? (state.sort.way > 0 ? "ascending" : "descending") : null,
    head: h(
      "button",
      {
        type: "button",
        class: "link",
        "data-focus": `sort-${column.key}`,
        onclick: () => {
          const same = state.sort.key === column.key;
          state.sort = { key: column.key, way: same ? -state.sort.way : column.number || column.first ? -1 : 1 };
          state.page = 0;
          redraw();
        },
      },
      column.title,
      h(
        "span",
        { "aria-hidden": "true" },
        state.sort.key === column.key ? (state.sort.way > 0 ? " \u2191" : " \u2193") : "",
      ),
    ),
  }));
  columns[0].cell = (request) =>
    h(
      "button",
      {
        type: "button",
        class: "link",
        "data-focus": `open-${request.id}`,
        onclick: () => openRequest(request, state),
        "aria-label": `Open the request of ${moment(request.at)}`,
      },
      when(request.at),
    );
  const total = data.requests.rows.length;
  find("found").textContent = `${count(rows.length)} of the newest ${plural(total, "request")}`;
  fill(
    find("chip"),
    state.only
      ? h(
          "button",
          {
            type: "button",
            class: "chip",
            "data-focus": "chip",
            onclick: () => {
              state.only = null;
              redraw();
            },
          },
          `${state.only.by} = `,
          state.only.key === null ? UNKNOWN : shortened(state.only.key, 30),
          h("span", { "aria-hidden": "true" }, " \u00d7"),
          h("span", { class: "hidden" }, ", show all again"),
        )
      : null,
  );
  const turn = (by, title, sign) =>
    h(
      "button",
      {
        type: "button",
        class: "plain",
        disabled: state.page + by < 0 || state.page + by >= pages,
        "aria-label": title,
        "data-focus": `turn-${by}`,
        onclick: () => {
          state.page += by;
          redraw();
        },
      },
      sign,
    );
  fill(
    find("requests"),
    rows.length
      ? table("Requests", columns, shown, { quiet: true })
      : nothing(total ? "No request matches." : "No requests yet. They appear here as soon as an agent makes one."),
    pages > 1
      ? h(
          "nav",
          { class: "pages", "aria-label": "Pages of requests" },
          turn(-1, "Page before", "\u2190"),
          h("span", null, `${count(state.page + 1)} of ${count(pages)}`),
          turn(1, "Next page", "\u2192"),
        )
      : null,
    total >= data.requests.most
      ? h(
          "p",
          { class: "note" },
          `Only the newest ${count(total)} requests are on this page; all sums above are over every event. tokopt export writes all of them.`,
        )
      : null,
  );
}
