/*
 * Arrow keys on the page of a picture, and progress on the page that waits for predictions. The gallery works without.
 */

const STALLED_AFTER = 15_000; // ms without progress

const LINK_OF_KEY = { ArrowLeft: "prev", ArrowRight: "next" };

function followArrowKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const rel = LINK_OF_KEY[event.key];
    const link = rel && document.querySelector(`.steps a[rel="${rel}"]`);
    if (!link) return;
    event.preventDefault();
    link.click();
  });
}

/** Poll the progress until the predictions are computed or have failed, then reload the page. */
async function pollProgress(panel) {
  const bar = panel.querySelector("progress");
  const status = panel.querySelector("[role=status]");
  let changedAt = performance.now();
  for (;;) {
    const progress = await fetchJson(panel.dataset.progressUrl);
    if (progress?.ready || progress?.error) {
      window.location.reload();
      return;
    }
    if (progress && progress.fraction !== bar.value) {
      bar.value = progress.fraction;
      changedAt = performance.now();
    }
    showStatus(status, progress, performance.now() - changedAt > STALLED_AFTER);
    await new Promise((resolve) => setTimeout(resolve, panel.dataset.pollSeconds * 1000));
  }
}

function showStatus(status, progress, stalled) {
  let message = "";
  if (!progress) message = "The server does not answer; asking again.";
  else if (stalled) message = "Nothing has moved for a while: is the worker running, or busy with another version?";
  // Screen readers announce a live region at every write, even of an equal text.
  if (status.textContent !== message) status.textContent = message;
}

/** Return the server's answer, or null on failure. */
async function fetchJson(url) {
  try {
    const response = await fetch(url, { headers: { Accept: "application/json" } });
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

const panel = document.getElementById("computing");
if (panel) pollProgress(panel);
else followArrowKeys();
