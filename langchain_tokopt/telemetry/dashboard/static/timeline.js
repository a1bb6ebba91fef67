// How it went over time.

// Wilson's interval of a share, 95 %.
function wilson(hits, all) {
  if (!all) return [null, null];
  const z = 1.96,
    share = hits / all,
    base = 1 + (z * z) / all;
  const middle = (share + (z * z) / (2 * all)) / base;
  const half = (z / base) * Math.sqrt((share * (1 - share)) / all + (z * z) / (4 * all * all));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

// What is left of a sum when a part of it is taken out; what nobody said of the part is not taken out.
const less = (all, ...parts) => (all === null ? null : parts.reduce((rest, part) => rest - (part ?? 0), all));

function drawCharts(view, state) {
  const s = view.series;
  const base = { start: s.start, every: s.every, state };
  const dollars = {
    text: (value, exact) => (exact ? usd(value) : money(value)),
    axis: (value) => money(String(value)),
  };
  const tokens = { text: (value) => number(value), axis: (value) => brief(value) };
  const rates = { text: (value) => percent(value), axis: (value) => percent(value) };
  const share = s.eligible.map((all, n) => (all ? s.hits[n] / all : null));
  const bounds = s.eligible.map((all, n) => wilson(s.hits[n], all));
  const estimates = s.estimated_usd.some((value) => value !== null);
  fill(
    find("charts"),
    chart({
      ...base,
      ...dollars,
      id: "spend",
      title: "Spend",
      series: [
        { title: "measured", values: s.measured_usd, colour: "spend", kind: "bars" },
        ...(estimates
          ? [{ title: "estimated", values: s.estimated_usd, colour: "muted", kind: "line", dash: [4, 3] }]
          : []),
      ],
    }),
    chart({
      ...base,
      ...dollars,
      id: "saved",
      title: "Savings",
      note: "Estimates. Net: less what the optimiser's own calls cost.",
      series: [
        { title: "saved", values: s.saved_usd, colour: "saved", kind: "bars", alpha: 0.4 },
        { title: "net", values: s.net_usd, colour: "saved", kind: "line" },
      ],
    }),
    chart({
      ...base,
      ...tokens,
      id: "tokens",
      title: "Tokens",
      note: "As reported by the providers.",
      stacked: true,
      series: [
        {
          title: "input, new",
          values: s.input_tokens.map((all, n) => less(all, s.cache_read_tokens[n], s.cache_write_tokens[n])),
          colour: "tone1",
          kind: "bars",
        },
        { title: "cache write", values: s.cache_write_tokens, colour: "tone2", kind: "bars" },
        { title: "cache read", values: s.cache_read_tokens, colour: "tone3", kind: "bars" },
        {
          title: "output",
          values: s.output_tokens.map((all, n) => less(all, s.reasoning_tokens[n])),
          colour: "tone4",
          kind: "bars",
        },
        { title: "reasoning", values: s.reasoning_tokens, colour: "tone5", kind: "bars" },
      ].filter(({ values }) => values.some((value) => value)),
    }),
    chart({
      ...base,
      ...rates,
      id: "hits",
      title: "Semantic cache: hit rate",
      note: "Hits per lookup that may be answered; shaded: 95% interval.",
      range: () => [0, 1],
      series: [
        { title: "hit rate", values: share, colour: "spend", kind: "line" },
        { title: "from", values: bounds.map(([low]) => low), colour: "spend", kind: "band" },
        { title: "to", values: bounds.map(([, high]) => high), colour: "spend", kind: "band" },
      ],
    }),
  );
  fill(
    find("charts-source"),
    view.extent.rolled === null
      ? null
      : h(
          "p",
          { class: "note" },
          "What happened before ",
          when(view.extent.rolled, { seconds: false }),
          " is kept as sums by the hour or day: each stands in the bucket that it begins in.",
        ),
    sources(s.source),
  );
}
