/*
 * The gallery works without this: here are only the arrow keys of a picture's page, and the progress of the page that
 * waits for predictions.
 */

const PATIENCE = 15_000; // ms without any progress after which the page says so

const TURNS = { ArrowLeft: "prev", ArrowRight: "next" };

function turnByArrows() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const rel = TURNS[event.key];
    const link = rel && document.querySelector(`.steps a[rel="${rel}"]`);
    if (!link) return;
    event.preventDefault();
    link.click();
  });
}

/** Asks how far the predictions are until they are there, and then loads the page anew. */
async function follow(panel) {
  const bar = panel.querySelector("progress");
  const status = panel.querySelector("[role=status]");
  let movedAt = performance.now();
  for (;;) {
    const progress = await ask(panel.dataset.progressUrl);
    if (progress?.ready || progress?.error) {
      window.location.reload();
      return;
    }
    if (progress && progress.fraction !== bar.value) {
      bar.value = progress.fraction;
      movedAt = performance.now();
    }
    tell(status, progress, performance.now() - movedAt > PATIENCE);
    await new Promise((wake) => setTimeout(wake, panel.dataset.pollSeconds * 1000));
  }
}

function tell(status, progress, stuck) {
  let message = "";
  if (!progress) message = "The server does not answer; asking again.";
  else if (stuck) message = "Nothing has moved for a while: is the worker running, or busy with another version?";
  // A live region speaks at every write, also of the same words.
  if (status.textContent !== message) status.textContent = message;
}

/** The answer, or null where there is none now. */
async function ask(url) {
  try {
    const response = await fetch(url, { headers: { Accept: "application/json" } });
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

const panel = document.getElementById("computing");
if (panel) follow(panel);
else turnByArrows();
