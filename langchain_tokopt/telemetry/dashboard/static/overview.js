// What was spent and saved, the key figures, and what stands out.

function drawHead(view) {
  const { calls, parts, net_usd: net, lookups, failures, reservations } = view.totals;
  const measured = calls.measured,
    estimated = calls.estimated;
  const own = [calls.own_measured, calls.own_estimated].filter(Boolean);
  const unpriced = (usage) => (usage?.unpriced ? ` Price unknown for ${count(usage.unpriced)}.` : "");
  const stat = (title, tag, value, ...more) =>
    h(
      "div",
      null,
      h("dt", null, title, " ", h("small", null, tag)),
      h("dd", { class: "big" }, value),
      more.map((line) => line && h("dd", { class: "more" }, line)),
    );
  const ownCost =
    own.length === 0
      ? null
      : [
          "The optimiser's own calls: ",
          [
            [calls.own_measured, "measured"],
            [calls.own_estimated, "estimated"],
          ]
            .filter(([usage]) => usage)
            .map(([usage, what], n) => [n ? " and " : "", usd(usage.cost_usd), ` ${what}`]),
        ];
  const nothingSaved = !parts.real.applied && own.length === 0;
  fill(
    find("head"),
    stat(
      "Spent",
      "measured",
      measured ? usd(measured.cost_usd) : "$0.00",
      [
        measured ? `${plural(measured.calls, "call")} reported by providers.` : "No call reported by a provider.",
        unpriced(measured),
      ],
      estimated && [
        "+ ",
        usd(estimated.cost_usd),
        ` estimated, for ${plural(estimated.calls, "call")}.`,
        unpriced(estimated),
      ],
    ),
    stat(
      "Saved, net",
      "estimated",
      nothingSaved ? "$0.00" : usd(net),
      parts.real.applied
        ? [usd(parts.real.usd), ` saved by ${plural(parts.real.applied, "decision")}.`, unpriced(parts.real)]
        : "No part has saved anything yet.",
      ownCost,
      parts.shadow.applied ? ["In shadow mode it would be ", usd(parts.shadow.usd), "."] : null,
    ),
    stat(
      "Tokens",
      "measured",
      measured ? shortNumber((measured.input_tokens ?? 0) + (measured.output_tokens ?? 0)) : "0",
      measured && [number(measured.input_tokens), " in, ", number(measured.output_tokens), " out."],
      parts.real.applied ? [number(parts.real.tokens), " fewer by our estimate."] : null,
    ),
    stat(
      "Requests",
      "to a model",
      number(calls.requests),
      lookups.real.eligible
        ? [`${count(lookups.real.hits)} of ${count(lookups.real.eligible)} answered from the cache.`]
        : null,
      h(
        "span",
        { class: calls.failed || failures || reservations.refused ? "warn" : null },
        `${count(calls.failed)} failed, ${count(reservations.refused ?? 0)} refused, ${plural(failures, "part")} stepped aside.`,
      ),
    ),
  );
}

const UNITS = {
  usd: (value) => usd(value),
  share: (value) => figure(percent(Number(value)), String(value)),
  seconds: (value) => figure(duration(Number(value)), `${value} s`),
  times: (value) => figure(`${Number(value).toFixed(2)}\u00d7`, String(value)),
  count: (value) => shortNumber(Number(value)),
};
const GROUPS = { cost: "Cost", tokens: "Tokens", cache: "Cache", quality: "Quality", health: "Health" };
const TRENDS = { up: "\u25b2", down: "\u25bc", same: "=" };

const kpiValue = (kpi, value) =>
  value === null ? unknown() : (UNITS[kpi.unit] ?? ((other) => figure(safe(other))))(value);

function drawKpis(view) {
  const groups = new Map();
  for (const kpi of view.kpis) groups.set(kpi.group, [...(groups.get(kpi.group) ?? []), kpi]);
  fill(
    find("kpis"),
    [...groups].map(([group, members]) =>
      h(
        "section",
        { class: "kpi-group" },
        h("h3", { class: "hidden" }, GROUPS[group] ?? safe(group)),
        members.map(tile),
      ),
    ),
  );
}

// One figure with how sure it is, where it comes from and where it is to go. No colour says what no word says.
function tile(kpi) {
  const known = kpi.value !== null;
  const good = kpi.trend === "same" || kpi.trend === null ? null : (kpi.trend === "up") === (kpi.better === "higher");
  const change = kpi.certain === false ? ", may be chance" : "";
  return h(
    "article",
    { class: `tile card ${kpi.ok === false ? "missed" : ""}` },
    h("p", { class: "group", "aria-hidden": "true" }, GROUPS[kpi.group] ?? safe(kpi.group)),
    h("h4", null, name(kpi.title)),
    h("p", { class: "value" }, kpiValue(kpi, kpi.value), known ? [" ", h("small", null, safe(kpi.source))] : null),
    known ? null : h("p", { class: "more" }, safe(kpi.reason ?? "")),
    known && kpi.low !== null
      ? h("p", { class: "more" }, "95%: ", kpiValue(kpi, kpi.low), " to ", kpiValue(kpi, kpi.high))
      : null,
    known && kpi.previous !== null
      ? h(
          "p",
          { class: "more" },
          h(
            "span",
            { class: good === null || kpi.certain === false ? null : good ? "good" : "warn", "aria-hidden": "true" },
            TRENDS[kpi.trend] ?? "",
            " ",
          ),
          h("span", { class: "hidden" }, kpi.trend ?? ""),
          "before: ",
          kpiValue(kpi, kpi.previous),
          change,
        )
      : null,
    kpi.target !== null
      ? h(
          "p",
          { class: "more" },
          "target ",
          kpi.better === "lower" ? "at most " : "at least ",
          kpiValue(kpi, kpi.target),
          kpi.ok === null ? null : [", ", h("span", { class: kpi.ok ? "good" : "bad" }, kpi.ok ? "met" : "missed")],
        )
      : null,
    h(
      "details",
      null,
      h("summary", { "data-focus": `kpi-${kpi.name}` }, "Definition"),
      h("p", null, safe(kpi.definition)),
      h("p", null, h("code", null, safe(kpi.formula))),
      h("p", null, `From ${plural(kpi.count, "observation")}. `, kpi.note ? safe(kpi.note) : null),
      h("p", null, h("code", null, safe(kpi.trace))),
    ),
  );
}

const SEVERITIES = { critical: "bad", warning: "warn" };

function alertItem(alert) {
  return h(
    "li",
    { class: SEVERITIES[alert.severity] ?? null },
    h("strong", null, h("span", { class: "badge" }, safe(alert.severity)), h("bdi", null, safe(alert.title))),
    " ",
    h("bdi", null, safe(alert.detail)),
    h(
      "p",
      { class: "more" },
      "since ",
      when(alert.since),
      alert.cleared_at !== null ? [", cleared ", when(alert.cleared_at)] : null,
      alert.acknowledged_by !== null
        ? [
            ", acknowledged by ",
            name(alert.acknowledged_by),
            alert.note ? [": ", h("bdi", null, safe(alert.note))] : null,
          ]
        : null,
      alert.value !== null
        ? `, value ${Number(alert.value.toPrecision(4))}, threshold ${Number(alert.threshold.toPrecision(4))}`
        : null,
      ", ",
      h("code", null, safe(alert.id)),
    ),
  );
}

function recommendation(one) {
  const money = (low, high) => (low !== null && high !== null ? [" (", usd(low), " to ", usd(high), ")"] : null);
  return h(
    "li",
    null,
    h("strong", null, h("bdi", null, safe(one.title))),
    one.saves_usd === null
      ? null
      : h(
          "p",
          null,
          "Would have saved ",
          usd(one.saves_usd),
          money(one.low_usd, one.high_usd),
          one.per_day_usd === null
            ? null
            : [", a day ", usd(one.per_day_usd), money(one.per_day_low_usd, one.per_day_high_usd)],
          ", ",
          safe(one.source),
          ".",
        ),
    one.change ? h("p", null, h("code", null, safe(one.change))) : null,
    h(
      "p",
      { class: "more" },
      `Confidence ${safe(one.confidence)}: ${safe(one.why)}. From ${plural(one.events, "event")}: ${safe(one.basis)}. `,
      safe(one.caveat),
    ),
  );
}

function drawNotes(data) {
  const open = data.alerts.filter((alert) => alert.cleared_at === null).length;
  const cards = [
    data.alerts.length
      ? h(
          "div",
          { class: "card" },
          h("h3", null, `Alerts: ${count(open)} open`),
          h("ul", { class: "alerts long", tabindex: "0", "aria-label": "Alerts" }, data.alerts.map(alertItem)),
        )
      : null,
    data.findings.length
      ? h(
          "div",
          { class: "card" },
          h("h3", null, "Findings"),
          h(
            "ul",
            { class: "long", tabindex: "0", "aria-label": "Findings" },
            data.findings.map((one) => h("li", null, h("bdi", null, safe(one)))),
          ),
        )
      : null,
    data.recommendations.length
      ? h(
          "div",
          { class: "card" },
          h("h3", null, "What to do"),
          h(
            "ul",
            { class: "long", tabindex: "0", "aria-label": "What to do" },
            data.recommendations.map(recommendation),
          ),
        )
      : null,
  ].filter((card) => card !== null);
  find("notes-section").hidden = cards.length === 0;
  fill(find("notes"), cards);
}
