// Where it goes: by part, agent, model, project, user; and the tokens.

// What the tokens are that a part counts.
const LOOKS_AT = { tools: "schemas of the tools", history: "the whole request" };

const TITLES = { part: "Part", agent: "Agent", model: "Model", project: "Project", user: "User" };

function bar(value, most, tone) {
  const share = most > 0 && value > 0 ? value / most : 0;
  return h("span", { class: `bar ${tone}`, share: share.toFixed(4), "aria-hidden": "true" });
}

const pick = (row, ...path) =>
  path.reduce((value, key) => (value === null || value === undefined ? null : value[key]), row) ?? null;

function drawBy(view, state, choose) {
  const by = state.dimension;
  const { rows, source } = view.by[by];
  if (!rows.length) return fill(find("by"), nothing("Nothing was recorded in this span of time."));
  const label = (row) => {
    if (row.more) return h("span", { class: "more" }, `${count(row.more)} more`);
    if (by === "part") return name(row.key);
    return h(
      "button",
      {
        type: "button",
        class: "link",
        title: "Show its requests",
        "data-focus": `by-${row.key}`,
        onclick: () => choose(by, row.key),
      },
      name(row.key),
    );
  };
  const spent = (row) => Number(pick(row, "calls", "measured", "cost_usd") ?? 0);
  const saved = (row) => Number(pick(row, "parts", "real", "usd") ?? 0);
  const most = Math.max(...rows.map(by === "part" ? saved : spent));
  const amount =
    (...path) =>
    (row) => {
      const value = pick(row, ...path);
      return value === null ? unknown() : usd(value);
    };
  const tokens =
    (...path) =>
    (row) =>
      number(pick(row, ...path));
  const maybe = (first, cell) => (row) =>
    pick(row, ...first) ? cell(row) : h("span", { class: "unknown", title: "nothing" }, "-");
  const unpriced = (usage, cell) => (row) => [
    cell(row),
    pick(row, ...usage, "unpriced")
      ? h(
          "span",
          { class: "more", title: "calls without a known price" },
          ` +${count(pick(row, ...usage, "unpriced"))} unpriced`,
        )
      : null,
  ];
  const columns =
    by === "part"
      ? [
          { title: "Part", cell: label },
          {
            title: "Saved, estimated",
            number: true,
            cell: maybe(["parts", "real", "applied"], (row) => [
              bar(saved(row), most, "saved"),
              unpriced(["parts", "real"], amount("parts", "real", "usd"))(row),
            ]),
          },
          {
            title: "Tokens saved",
            number: true,
            cell: maybe(["parts", "real", "applied"], tokens("parts", "real", "tokens")),
          },
          { title: "Applied", number: true, cell: (row) => number(row.parts.real.applied) },
          { title: "Left alone", number: true, cell: (row) => number(row.parts.skipped) },
          {
            title: "Shadow: would save",
            number: true,
            cell: maybe(["parts", "shadow", "applied"], amount("parts", "shadow", "usd")),
          },
          {
            title: "Failures",
            number: true,
            cell: (row) => h("span", { class: row.failures ? "warn" : null }, count(row.failures)),
          },
        ]
      : [
          { title: TITLES[by], cell: label },
          {
            title: "Spent, measured",
            number: true,
            cell: maybe(["calls", "measured"], (row) => [
              bar(spent(row), most, "spend"),
              unpriced(["calls", "measured"], amount("calls", "measured", "cost_usd"))(row),
            ]),
          },
          {
            title: "Estimated",
            number: true,
            cell: maybe(
              ["calls", "estimated"],
              unpriced(["calls", "estimated"], amount("calls", "estimated", "cost_usd")),
            ),
          },
          {
            title: "Saved, estimated",
            number: true,
            cell: maybe(["parts", "real", "applied"], amount("parts", "real", "usd")),
          },
          {
            title: "Input",
            number: true,
            cell: maybe(["calls", "measured"], tokens("calls", "measured", "input_tokens")),
          },
          {
            title: "Cache read",
            number: true,
            cell: maybe(["calls", "measured"], tokens("calls", "measured", "cache_read_tokens")),
          },
          {
            title: "Output",
            number: true,
            cell: maybe(["calls", "measured"], tokens("calls", "measured", "output_tokens")),
          },
          {
            title: "Calls",
            number: true,
            cell: (row) =>
              number((pick(row, "calls", "measured", "calls") ?? 0) + (pick(row, "calls", "estimated", "calls") ?? 0)),
          },
          {
            title: "Failed",
            number: true,
            cell: (row) => h("span", { class: row.calls.failed ? "warn" : null }, count(row.calls.failed)),
          },
          {
            title: "Cache hits",
            number: true,
            cell: (row) =>
              row.eligible
                ? h("span", { title: `${count(row.hits)} of ${count(row.eligible)}` }, percent(row.hits / row.eligible))
                : h("span", { class: "unknown" }, "-"),
          },
        ];
  // Parts decide before a model is called, and say nothing of it.
  if (by === "model")
    columns.splice(
      0,
      columns.length,
      ...columns.filter(({ title }) => title !== "Saved, estimated" && title !== "Cache hits"),
    );
  return fill(find("by"), table(`By ${by}, the dearest first`, columns, rows, { quiet: true }), sources(source));
}

function drawTokens(view, data) {
  const usage = view.totals.calls.measured;
  const shares =
    usage === null
      ? []
      : [
          ["Input, new", less(usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens), "tone1"],
          ["Cache write", usage.cache_write_tokens, "tone2"],
          ["Cache read", usage.cache_read_tokens, "tone3"],
          ["Output", less(usage.output_tokens, usage.reasoning_tokens), "tone4"],
          ["Reasoning", usage.reasoning_tokens, "tone5"],
        ];
  const all = shares.reduce((sum, [, value]) => sum + (value ?? 0), 0);
  const kinds = h(
    "div",
    { class: "card" },
    h("h3", null, "By kind ", h("small", null, "measured")),
    all === 0
      ? nothing("No tokens were reported in this span of time.")
      : [
          h(
            "div",
            { class: "stack", "aria-hidden": "true" },
            shares.map(([title, value, tone]) =>
              value
                ? h("span", {
                    class: `tone-${tone}`,
                    share: (value / all).toFixed(5),
                    title: `${title}: ${count(value)}`,
                  })
                : null,
            ),
          ),
          table(
            "Tokens by kind",
            [
              {
                title: "Kind",
                cell: ([title, , tone]) => [
                  h("span", { class: `swatch bars tone-${tone}`, "aria-hidden": "true" }),
                  title,
                ],
              },
              { title: "Tokens", number: true, cell: ([, value]) => number(value) },
              {
                title: "Share",
                number: true,
                cell: ([, value]) => (value === null ? unknown() : percent(value / all)),
              },
              {
                title: "A call",
                number: true,
                cell: ([, value]) => (value === null ? unknown() : number(Math.round(value / usage.calls))),
              },
            ],
            shares,
            { quiet: true },
          ),
        ],
  );
  const changes = data.requests.changes;
  const most = Math.max(0, ...changes.map(({ before, decisions }) => before / decisions));
  const parts = h(
    "div",
    { class: "card" },
    h("h3", null, "What parts make of them ", h("small", null, "estimated")),
    changes.length === 0
      ? nothing("No part has counted tokens in the newest requests.")
      : [
          table(
            "Tokens of a request before and after each part",
            [
              {
                title: "Part",
                cell: ({ part }) => [
                  name(part),
                  LOOKS_AT[part] ? h("span", { class: "more" }, ` ${LOOKS_AT[part]}`) : null,
                ],
              },
              {
                title: "Before",
                number: true,
                cell: ({ before, decisions }) => [
                  bar(before / decisions, most, "faint"),
                  number(Math.round(before / decisions)),
                ],
              },
              {
                title: "After",
                number: true,
                cell: ({ after, decisions }) => [
                  bar(after / decisions, most, "saved"),
                  number(Math.round(after / decisions)),
                ],
              },
              {
                title: "Fewer",
                number: true,
                cell: ({ before, after }) => (before ? percent((before - after) / before) : unknown()),
              },
              { title: "Requests", number: true, cell: ({ decisions }) => number(decisions) },
            ],
            changes,
            { quiet: true },
          ),
          h(
            "p",
            { class: "note" },
            `Mean per request, over the newest ${count(data.requests.rows.length)} requests: what each part was given, and what it passed on.`,
          ),
        ],
  );
  fill(find("tokens"), kinds, parts);
}
