// Where limits stand: spent, held, left, and what is to come.

function drawBudgets(data) {
  const rows = data.budgets;
  find("budgets-section").hidden = rows.length + data.budget_errors.length === 0;
  const several = new Set(rows.map(({ budget }) => budget)).size > 1;
  const amount = (row, value) =>
    value === null ? unknown() : row.unit === "usd" ? usd(value) : [number(value), ` ${row.unit}`];
  const tone = (share) => (share >= 1 ? "bad" : share >= 0.8 ? "warn" : "spend");
  const meter = (row) => {
    const limit = Number(row.limit) || 1,
      spent = Math.min(1, Number(row.spent) / limit);
    return h(
      "span",
      { class: "meter" },
      h(
        "span",
        { class: "track", "aria-hidden": "true" },
        h("span", { class: tone(row.share), share: spent.toFixed(4) }),
        h("span", { class: "held", share: Math.min(1 - spent, Number(row.held) / limit).toFixed(4) }),
      ),
      percent(row.share),
    );
  };
  const forecast = (row) => {
    if (row.expected === null) return h("span", { class: "unknown" }, "no forecast");
    return [
      h("span", { class: Number(row.expected) > Number(row.limit) ? "warn" : null }, amount(row, row.expected)),
      row.low !== null && row.high !== null
        ? h(
            "span",
            { class: "more", title: row.coverage === null ? null : `with a chance of ${percent(row.coverage)}` },
            " (",
            amount(row, row.low),
            " to ",
            amount(row, row.high),
            ")",
          )
        : null,
    ];
  };
  fill(
    find("budgets"),
    data.budget_errors.map(([budget, error]) =>
      h("p", { class: "bad" }, `${safe(budget)} could not be read: `, h("bdi", null, shortened(error, 300))),
    ),
    rows.length
      ? table(
          "Budgets, the fullest first",
          [
            { title: "Node", cell: (row) => [several ? [name(row.budget), ": "] : null, name(row.node)] },
            {
              title: "Per",
              cell: (row) => [safe(row.per), row.hard ? null : h("span", { class: "more" }, " (alerts only)")],
            },
            { title: "Taken", cell: meter },
            { title: "Spent", number: true, cell: (row) => amount(row, row.spent) },
            { title: "Held", number: true, cell: (row) => amount(row, row.held) },
            { title: "Left", number: true, cell: (row) => amount(row, row.left) },
            { title: "Limit", number: true, cell: (row) => amount(row, row.limit) },
            { title: "By the end, estimated", number: true, cell: forecast },
            {
              title: "Runs out",
              number: true,
              cell: (row) =>
                row.runs_out_at === null
                  ? h("span", { class: "unknown" }, "-")
                  : h("span", { class: "warn" }, when(row.runs_out_at, { seconds: false })),
            },
            {
              title: "Begins anew",
              number: true,
              cell: (row) =>
                row.resets_at === null
                  ? h("span", { class: "unknown" }, "never")
                  : when(row.resets_at, { seconds: false }),
            },
          ],
          rows,
          { quiet: true },
        )
      : null,
  );
}
