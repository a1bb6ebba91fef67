// One request: what came in, what each part did and why, what went out.

const FIGURES = {
  cost_usd: ["cost", exactMoney],
  saved_usd: ["saved", exactMoney],
  amount_usd: ["amount", exactMoney],
  seconds: ["took", duration],
  latency_seconds: ["model time", duration],
  similarity: ["similarity", (value) => Number(value).toFixed(4)],
  threshold: ["threshold", (value) => Number(value).toFixed(4)],
};

function figures(step) {
  const shown = Object.entries(step.figures ?? {}).map(([key, value]) => {
    const [title, text] = FIGURES[key] ?? [key.replace(/_tokens$/, " tokens").replaceAll("_", " "), count];
    return h("div", null, h("dt", null, safe(title)), h("dd", null, text(value)));
  });
  const more = Object.entries(step.detail ?? {}).map(([key, value]) =>
    h(
      "div",
      null,
      h("dt", null, safe(key)),
      h("dd", null, h("bdi", null, safe(typeof value === "object" ? JSON.stringify(value) : value))),
    ),
  );
  return shown.length + more.length ? h("dl", { class: "figures" }, shown, more) : null;
}

function openRequest(request, state) {
  const dialog = find("request");
  state.open = request.id;
  const close = () => dialog.close();
  const usage = (title, given) =>
    given
      ? [
          h("dt", null, title),
          h(
            "dd",
            null,
            number(given.input_tokens),
            " in",
            given.cache_read_tokens === undefined
              ? null
              : [" (", number(given.cache_read_tokens), " read from the provider's cache)"],
            ", ",
            number(given.output_tokens),
            " out, ",
            exactMoney(given.cost_usd) === UNKNOWN ? ["cost ", unknown()] : exactMoney(given.cost_usd),
          ),
        ]
      : null;
  fill(
    dialog,
    h(
      "header",
      null,
      h("h2", { id: "request-title" }, "Request of ", when(request.at)),
      h("button", { type: "button", class: "plain", onclick: close, autofocus: true, "data-focus": "close" }, "Close"),
    ),
    h(
      "p",
      null,
      h("span", { class: `badge ${OUTCOME_TONE[request.outcome] ?? ""}` }, safe(request.outcome)),
      " ",
      OUTCOMES[request.outcome] ?? "",
      request.model ? [" \u00b7 ", name(request.model)] : null,
    ),
    h(
      "dl",
      { class: "facts" },
      h("dt", null, "Id"),
      h("dd", null, h("code", null, h("bdi", null, safe(request.id)))),
      Object.entries(request.who ?? {}).map(([key, value]) => [
        h("dt", null, key),
        h("dd", null, h("bdi", null, safe(value))),
      ]),
      h("dt", null, "Came in"),
      h("dd", null, request.came_in === undefined ? unknown() : [number(request.came_in), " tokens, estimated"]),
      h("dt", null, "Went out"),
      h(
        "dd",
        null,
        request.went_out === undefined
          ? request.calls
            ? unknown()
            : "no model was called"
          : [number(request.went_out), ` tokens, ${request.went_out_measured ? "measured" : "estimated"}`],
      ),
      usage("Measured", request.measured),
      usage("Estimated", request.estimated),
      request.saved
        ? [
            h("dt", null, "Saved, estimated"),
            h(
              "dd",
              null,
              number(request.saved.tokens ?? null),
              " tokens, ",
              request.saved.usd === undefined ? unknown() : exactMoney(request.saved.usd),
            ),
          ]
        : null,
      request.shadow
        ? [
            h("dt", null, "Shadow"),
            h(
              "dd",
              null,
              "would have saved ",
              number(request.shadow.tokens ?? null),
              " tokens, ",
              request.shadow.usd === undefined ? unknown() : exactMoney(request.shadow.usd),
            ),
          ]
        : null,
    ),
    h("h3", null, "What happened"),
    h(
      "ol",
      { class: "steps" },
      request.steps.map((step) =>
        h(
          "li",
          { class: step.action === "failed" || step.action === "refused" ? "bad" : null },
          h(
            "p",
            { class: "step" },
            h("span", { class: "more", title: utc(request.at + step.after) }, `+${duration(step.after)}`),
            " ",
            h("strong", null, h("bdi", null, safe(step.part ?? step.kind))),
            " ",
            h("span", { class: "badge" }, safe(step.action ?? step.kind)),
            step.mode === "shadow" ? h("span", { class: "badge" }, "shadow") : null,
          ),
          step.reason ? h("p", null, h("bdi", null, safe(step.reason))) : null,
          figures(step),
          h("p", { class: "more" }, `${safe(step.kind)} `, h("code", null, h("bdi", null, safe(step.id)))),
        ),
      ),
    ),
    request.left_out ? h("p", { class: "note" }, `${plural(request.left_out, "more event")} of it left out.`) : null,
  );
  if (!dialog.open) dialog.showModal();
}
