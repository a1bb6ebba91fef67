// What was spent and saved, the key figures, what stands out, and how it went over time.

function drawHead(view) {
  const { calls, parts, net_usd: net, lookups, failures, reservations } = view.totals;
  const measured = calls.measured, estimated = calls.estimated;
  const own = [calls.own_measured, calls.own_estimated].filter(Boolean);
  const unpriced = (usage) => (usage?.unpriced ? ` Price unknown for ${count(usage.unpriced)}.` : "");
  const stat = (title, tag, value, ...more) => h("div", null,
    h("dt", null, title, " ", h("small", null, tag)), h("dd", { class: "big" }, value), more.map((line) => line && h("dd", { class: "more" }, line)));
  const ownCost = own.length === 0 ? null : ["The optimiser's own calls: ",
    [[calls.own_measured, "measured"], [calls.own_estimated, "estimated"]].filter(([usage]) => usage).map(([usage, what], n) => [n ? " and " : "", usd(usage.cost_usd), ` ${what}`])];
  const nothingSaved = !parts.real.applied && own.length === 0;
  fill(find("head"),
    stat("Spent", "measured", measured ? usd(measured.cost_usd) : "$0.00",
      [measured ? `${count(measured.calls)} calls reported by providers.` : "No call reported by a provider.", unpriced(measured)],
      estimated && ["+ ", usd(estimated.cost_usd), ` estimated, for ${count(estimated.calls)} calls.`, unpriced(estimated)]),
    stat("Saved, net", "estimated", nothingSaved ? "$0.00" : usd(net),
      parts.real.applied ? [usd(parts.real.usd), ` saved by ${count(parts.real.applied)} decisions.`, unpriced(parts.real)] : "No part has saved anything yet.",
      ownCost, parts.shadow.applied ? ["In shadow mode it would be ", usd(parts.shadow.usd), "."] : null),
    stat("Tokens", "measured", measured ? shortNumber((measured.input_tokens ?? 0) + (measured.output_tokens ?? 0)) : "0",
      measured && [number(measured.input_tokens), " in, ", number(measured.output_tokens), " out."],
      parts.real.applied ? [number(parts.real.tokens), " fewer by our estimate."] : null),
    stat("Requests", "to a model", number(calls.requests),
      lookups.real.eligible ? [`${count(lookups.real.hits)} of ${count(lookups.real.eligible)} answered from the cache.`] : null,
      h("span", { class: calls.failed || failures || reservations.refused ? "warn" : null },
        `${count(calls.failed)} failed, ${count(reservations.refused ?? 0)} refused, ${count(failures)} step-asides.`)));
}

const UNITS = {
  usd: (value) => [money(value), exactMoney(value)],
  share: (value) => [percent(value), String(value)],
  tokens: (value) => [brief(Number(value)), count(value)],
  seconds: (value) => [duration(Number(value)), `${value} s`],
  ratio: (value) => [`${Number(value).toFixed(2)}\u00d7`, String(value)],
};

function kpiValue(kpi, value) {
  if (value === null || value === undefined) return unknown();
  const [text, exact] = (UNITS[kpi.unit] ?? ((other) => [`${brief(Number(other))} ${safe(kpi.unit ?? "")}`, String(other)]))(value);
  return figure(text, exact);
}

function drawKpis(view) {
  const kpis = view.kpis ?? [];
  find("kpis-section").hidden = kpis.length === 0;
  const groups = new Map();
  for (const kpi of kpis) groups.set(kpi.group, [...(groups.get(kpi.group) ?? []), kpi]);
  fill(find("kpis"), [...groups].map(([group, members]) => h("section", { class: "kpi-group" }, h("h3", null, safe(group)),
    h("div", { class: "tiles" }, members.map(tile)))));
}

function tile(kpi) {
  const state = kpi.ok === true ? "good" : kpi.ok === false ? "bad" : "open";
  const interval = kpi.low !== null && kpi.high !== null && kpi.value !== null;
  const before = kpi.previous !== null && kpi.previous !== undefined;
  const rises = Number(kpi.value) - Number(kpi.previous);
  const better = kpi.better === "higher" ? rises > 0 : kpi.better === "lower" ? rises < 0 : null;
  const sign = rises > 0 ? "\u25b2" : rises < 0 ? "\u25bc" : "=";
  return h("article", { class: `tile card ${state}` },
    h("h4", null, safe(kpi.title)),
    h("p", { class: "value" }, kpiValue(kpi, kpi.value), " ", h("small", null, safe(kpi.source ?? ""))),
    interval ? h("p", { class: "more" }, "95%: ", kpiValue(kpi, kpi.low), " to ", kpiValue(kpi, kpi.high)) : null,
    before && kpi.value !== null ? h("p", { class: "more" }, h("span", { class: rises === 0 || better === null ? null : better ? "good" : "warn" }, sign), " before: ", kpiValue(kpi, kpi.previous)) : null,
    kpi.target !== null && kpi.target !== undefined ? h("p", { class: "more" },
      h("span", { class: state === "good" ? "good" : state === "bad" ? "bad" : null }, state === "good" ? "\u2713 on target " : state === "bad" ? "\u2717 off target " : "target "),
      kpi.better === "lower" ? "\u2264 " : "\u2265 ", kpiValue(kpi, kpi.target)) : null,
    h("details", null, h("summary", null, "Definition"), h("p", null, safe(kpi.definition ?? "")), kpi.formula ? h("p", null, h("code", null, safe(kpi.formula))) : null,
      kpi.count !== null && kpi.count !== undefined ? h("p", null, `From ${count(kpi.count)} events.`) : null));
}

// A recommendation is text, or an object that says more of it.
function said(one) {
  if (one === null || typeof one !== "object") return safe(one);
  const { title, text, what, detail, why, ...rest } = one;
  const first = title ?? what ?? text ?? "";
  return [h("strong", null, safe(first)), [detail ?? (first === text ? null : text), why].filter(Boolean).map((each) => [" ", safe(each)]),
    h("span", { class: "more" }, Object.entries(rest).filter(([, value]) => value !== null && typeof value !== "object").map(([key, value]) => ` ${safe(key.replaceAll("_", " "))}: ${safe(value)}.`))];
}

function drawNotes(data) {
  const severity = { critical: "bad", error: "bad", warning: "warn" };
  const cards = [];
  if (data.alerts.length) {
    cards.push(h("div", { class: "card" }, h("h3", null, `Alerts (${count(data.alerts.length)})`), h("ul", { class: "alerts" }, data.alerts.map((alert) =>
      h("li", { class: severity[alert.severity] ?? "" }, h("strong", null, h("span", { class: "badge" }, safe(alert.severity ?? "alert")), " ", safe(alert.title ?? alert.rule ?? "")),
        " ", alert.detail ? safe(alert.detail) : null, h("p", { class: "more" }, alert.since ? ["since ", when(alert.since)] : null,
          alert.acknowledged_by ? ` \u00b7 acknowledged by ${safe(alert.acknowledged_by)}` : null, alert.id ? [" \u00b7 ", h("code", null, safe(alert.id))] : null))))));
  }
  if (data.findings.length) cards.push(h("div", { class: "card" }, h("h3", null, "Findings"), h("ul", null, data.findings.map((one) => h("li", null, said(one))))));
  if (data.recommendations.length) cards.push(h("div", { class: "card" }, h("h3", null, "What to do"), h("ul", null, data.recommendations.map((one) => h("li", null, said(one))))));
  find("notes-section").hidden = cards.length === 0;
  fill(find("notes"), cards);
}

// Wilson's interval of a share, 95 %.
function wilson(hits, all) {
  if (!all) return [null, null];
  const z = 1.96, share = hits / all, base = 1 + (z * z) / all;
  const middle = (share + (z * z) / (2 * all)) / base;
  const half = (z / base) * Math.sqrt((share * (1 - share)) / all + (z * z) / (4 * all * all));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

// What is left of a sum when a part of it is taken out; what nobody said of the part is not taken out.
const less = (all, ...parts) => (all === null ? null : parts.reduce((rest, part) => rest - (part ?? 0), all));

function drawCharts(view, state) {
  const s = view.series;
  const base = { start: s.start, every: s.every, state };
  const dollars = { text: (value, exact) => (exact ? usd(value) : money(value)), axis: (value) => money(String(value)) };
  const tokens = { text: (value) => number(value), axis: (value) => brief(value) };
  const rates = { text: (value) => percent(value), axis: (value) => percent(value) };
  const share = s.eligible.map((all, n) => (all ? s.hits[n] / all : null));
  const bounds = s.eligible.map((all, n) => wilson(s.hits[n], all));
  const estimates = s.estimated_usd.some((value) => value !== null);
  fill(find("charts"),
    chart({ ...base, ...dollars, id: "spend", title: "Spend", series: [
      { title: "measured", values: s.measured_usd, colour: "spend", kind: "bars" },
      ...(estimates ? [{ title: "estimated", values: s.estimated_usd, colour: "muted", kind: "line", dash: [4, 3] }] : [])] }),
    chart({ ...base, ...dollars, id: "saved", title: "Savings", note: "Estimates. Net: less what the optimiser's own calls cost.", series: [
      { title: "saved", values: s.saved_usd, colour: "saved", kind: "bars", alpha: 0.4 },
      { title: "net", values: s.net_usd, colour: "saved", kind: "line" }] }),
    chart({ ...base, ...tokens, id: "tokens", title: "Tokens", note: "As reported by the providers.", stacked: true, series: [
      { title: "input, new", values: s.input_tokens.map((all, n) => less(all, s.cache_read_tokens[n], s.cache_write_tokens[n])), colour: "tone1", kind: "bars" },
      { title: "cache write", values: s.cache_write_tokens, colour: "tone2", kind: "bars" },
      { title: "cache read", values: s.cache_read_tokens, colour: "tone3", kind: "bars" },
      { title: "output", values: s.output_tokens.map((all, n) => less(all, s.reasoning_tokens[n])), colour: "tone4", kind: "bars" },
      { title: "reasoning", values: s.reasoning_tokens, colour: "tone5", kind: "bars" }].filter(({ values }) => values.some((value) => value)) }),
    chart({ ...base, ...rates, id: "hits", title: "Semantic cache: hit rate", note: "Hits per lookup that may be answered; shaded: 95% interval.", range: () => [0, 1], series: [
      { title: "hit rate", values: share, colour: "spend", kind: "line" },
      { title: "from", values: bounds.map(([low]) => low), colour: "spend", kind: "band" },
      { title: "to", values: bounds.map(([, high]) => high), colour: "spend", kind: "band" }] }));
  fill(find("charts-source"), sources(s.source));
}
