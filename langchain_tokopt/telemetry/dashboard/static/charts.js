// Charts on canvas, each with a reading of the bucket under the pointer or the arrow keys, and a table behind it.

const plots = new Set();
const HEIGHT = 184; // of a chart, in CSS pixels, as in the style sheet

// The colour behind a CSS variable, as a canvas takes it.
function colour(variable, alpha = 1) {
  const probe = h("span", { hidden: true });
  document.body.append(probe);
  probe.style.color = `var(--${variable})`;
  const [red, green, blue] = getComputedStyle(probe).color.match(/[\d.]+/g);
  probe.remove();
  return `rgba(${red}, ${green}, ${blue}, ${alpha})`;
}

function forgetPlots() {
  for (const plot of plots) plot.forget();
  plots.clear();
}

// Values as numbers to draw; `text` keeps the exact ones. In a stack each series stands on the one before.
function heights(series, stacked) {
  const drawn = [];
  let below = null;
  for (const { values } of series) {
    const numbers = values.map((value) => (value === null ? null : Number(value)));
    below =
      stacked && below
        ? numbers.map((value, n) => (value === null && below[n] === null ? null : (value ?? 0) + (below[n] ?? 0)))
        : numbers;
    drawn.push(below);
  }
  return drawn;
}

// What the bucket that begins at `start` is called.
function bucket(start, every) {
  if (every >= 86400) return DAY.format(new Date(start * 1000));
  return `${moment(start, { seconds: every < 60 })}\u2013${(every < 60 ? CLOCK : MINUTE).format(new Date((start + every) * 1000))}`;
}

// A card with a chart. `series`: {title, values, colour, kind: "bars" | "line" | "band", alpha?, dash?}.
function chart({ id, title, note, start, every, series, text, axis, stacked = false, range = null, state }) {
  const empty = series.every(({ values }) => values.every((value) => value === null));
  const reading = h("p", { class: "reading", "aria-live": "polite" });
  const legend = h(
    "ul",
    { class: "legend" },
    series
      .filter((one) => one.kind !== "band")
      .map((one) =>
        h("li", null, h("span", { class: `swatch ${one.kind} tone-${one.colour}`, "aria-hidden": "true" }), one.title),
      ),
  );
  const area = h("div", {
    class: "plot",
    role: "img",
    tabindex: empty ? null : "0",
    "data-focus": `plot-${id}`,
    "aria-label": `${title}. ${empty ? "No figures." : "The arrow keys read it bucket by bucket; the table below has all figures."}`,
  });
  const shown = state.tables.has(id);
  const holder = h("div", { hidden: !shown });
  const rows = () => start.map((at, n) => ({ at, n }));
  const lay = () =>
    fill(
      holder,
      table(
        title,
        [
          { title: "From", cell: ({ at }) => when(at) },
          ...series.map((one) => ({
            title: one.title,
            number: true,
            cell: ({ n }) =>
              one.values[n] === null ? h("span", { class: "unknown" }, "-") : (one.text ?? text)(one.values[n], true),
          })),
        ],
        rows().filter(({ n }) => series.some(({ values }) => values[n] !== null)),
        { quiet: true },
      ),
    );
  if (shown) lay();
  const button = h(
    "button",
    {
      type: "button",
      class: "plain",
      "aria-expanded": String(shown),
      "data-focus": `table-${id}`,
      onclick: () => {
        const open = holder.hidden;
        state.tables[open ? "add" : "delete"](id);
        holder.hidden = !open;
        button.setAttribute("aria-expanded", String(open));
        button.textContent = open ? "Hide table" : "Show as table";
        if (open) lay();
      },
    },
    shown ? "Hide table" : "Show as table",
  );
  const card = h(
    "figure",
    { class: "card chart", id: `chart-${id}` },
    h("figcaption", null, h("h3", null, title), legend, note ? h("p", { class: "note" }, note) : null),
    empty ? nothing("No figures in this span of time.") : [reading, area],
    empty ? null : button,
    holder,
  );
  if (!empty) draw(area, reading, { start, every, series, text, axis, stacked, range });
  return card;
}

function draw(area, reading, { start, every, series, text, axis, stacked, range }) {
  const say = (n) => {
    if (n === null || n === undefined || start[n] === undefined) return fill(reading, "\u00a0");
    return fill(
      reading,
      h("time", { title: utc(start[n]) }, bucket(start[n], every)),
      series
        .filter((one) => one.kind !== "band")
        .map((one) => [
          " \u00b7 ",
          h("span", { class: "what" }, `${one.title} `),
          one.values[n] === null ? "-" : (one.text ?? text)(one.values[n], true),
        ]),
    );
  };
  say(null);
  let plot = null;
  const make = () => {
    const line = colour("line"),
      ink = colour("muted");
    const drawn = heights(series, stacked);
    // In a stack, the highest is drawn first and the lower ones over it.
    const order = series.map((_, n) => n);
    if (stacked) order.reverse();
    const font = "11px system-ui, sans-serif";
    const side = { stroke: ink, font, grid: { stroke: line, width: 1 }, ticks: { show: false } };
    const bars = uPlot.paths.bars({ size: [0.78, 28], align: 0, gap: 1 });
    plot = new uPlot(
      {
        width: Math.max(200, area.clientWidth),
        height: HEIGHT,
        legend: { show: false },
        padding: [8, 8, 0, 0],
        cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
        scales: {
          x: { time: true, range: () => [start[0], start[start.length - 1] + every] },
          y: { range: range ?? ((_, low, high) => spread(low, high)) },
        },
        axes: [
          {
            ...side,
            grid: { show: false },
            space: 70,
            size: 40,
            values: [
              [86400 * 28, "{DD} {MMM}", null, null, null, null, null, null, 1],
              [86400, "{DD} {MMM}", null, null, null, null, null, null, 1],
              [60, "{HH}:{mm}", null, null, "\n{DD} {MMM}", null, null, null, 1],
              [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1],
            ],
          },
          { ...side, size: 58, space: 36, values: (_, splits) => splits.map((value) => axis(value)) },
        ],
        series: [
          {},
          ...order.map((n) => {
            const { kind, colour: tone, alpha = 1, dash } = series[n];
            if (kind === "bars") return { width: 0, fill: colour(tone, alpha), paths: bars, points: { show: false } };
            if (kind === "band") return { width: 0, stroke: "transparent", points: { show: false }, spanGaps: false };
            return {
              width: 1.75,
              stroke: colour(tone, alpha),
              dash,
              points: { show: true, size: 5, width: 0, fill: colour(tone, alpha), filter: () => lonely(drawn[n]) },
            };
          }),
        ],
        bands: bands(series),
        hooks: { setCursor: [(self) => say(self.cursor.left < 0 ? null : self.cursor.idx)] },
      },
      [start.map((at) => at + every / 2), ...order.map((n) => drawn[n])],
      area,
    );
    plot.root.setAttribute("aria-hidden", "true");
  };
  const watch = new ResizeObserver(() => {
    if (plot === null) make();
    else plot.setSize({ width: Math.max(200, area.clientWidth), height: HEIGHT });
  });
  watch.observe(area);
  let at = null;
  area.addEventListener("keydown", (event) => {
    const last = start.length - 1;
    const to = { ArrowRight: at === null ? 0 : at + 1, ArrowLeft: at === null ? last : at - 1, Home: 0, End: last }[
      event.key
    ];
    if (to === undefined || plot === null) return;
    event.preventDefault();
    at = Math.min(last, Math.max(0, to));
    plot.setCursor({ left: plot.valToPos(start[at] + every / 2, "x"), top: 0 });
  });
  area.addEventListener("blur", () => {
    at = null;
    say(null);
  });
  plots.add({
    forget: () => {
      watch.disconnect();
      plot?.destroy();
    },
  });
}

// Those with nothing on either side: no line would show them.
function lonely(values) {
  return values
    .map((_, n) => n)
    .filter((n) => values[n] !== null && (values[n - 1] ?? null) === null && (values[n + 1] ?? null) === null);
}

// From 0, with room above; both ways where something is negative.
function spread(low, high) {
  const top = Math.max(0, high ?? 0),
    bottom = Math.min(0, low ?? 0);
  if (top === 0 && bottom === 0) return [0, 1];
  return [bottom * 1.1, top * 1.1];
}

// Two neighbouring series of the kind "band" are the bounds of what is filled between them.
function bands(series) {
  const bounds = series.map((one, n) => [one, n + 1]).filter(([one]) => one.kind === "band");
  return bounds.length === 2 ? [{ series: [bounds[1][1], bounds[0][1]], fill: colour(bounds[0][0].colour, 0.14) }] : [];
}
