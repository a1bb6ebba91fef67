// Whether what is shown is still so: a file says how old it is, a served page asks for more.

const EVERY = 2000; // milliseconds between two questions
const PATIENCE = 60000; // for an answer: a large database on a busy machine takes its time

function drawStatus(state) {
  const status = find("status");
  const old = age(Date.now() / 1000 - state.data.now);
  const stamp = () => when(state.data.now);
  const kind = state.refresh === null ? "file" : state.lost ? "lost" : "live";
  const key = `${kind} ${state.data.now} ${kind === "live" ? "" : old}`;
  if (state.status === key) return;
  state.status = key;
  status.className = kind;
  if (kind === "file") fill(status, "Snapshot of ", stamp(), `, ${old} old. It does not refresh.`);
  else if (kind === "lost") fill(status, "Stale: the server does not answer. As of ", stamp(), `, ${old} old.`);
  else fill(status, "Live, as of ", stamp());
}

async function ask(state, show) {
  if (document.hidden) return;
  try {
    const headers = state.tag ? { "If-None-Match": state.tag } : {};
    const answer = await fetch(state.refresh, {
      headers,
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.timeout(PATIENCE),
    });
    state.lost = !(answer.ok || answer.status === 304);
    if (answer.status === 200) {
      const data = await answer.json();
      state.tag = answer.headers.get("ETag");
      show(data);
    }
  } catch {
    state.lost = true;
  }
  drawStatus(state);
}

function keepAsking(state, show) {
  setInterval(() => drawStatus(state), 1000);
  if (state.refresh === null) return;
  const turn = async () => {
    await ask(state, show);
    setTimeout(turn, EVERY);
  };
  setTimeout(turn, EVERY);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) ask(state, show);
  });
}
