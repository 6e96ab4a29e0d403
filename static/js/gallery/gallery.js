/*
 * Arrow keys among the pictures, in the tables and on the page of a picture, and progress on the page that waits for
 * predictions. The gallery works without.
 */

const STALLED_AFTER = 15_000; // ms without progress

const LINK_OF_KEY = { ArrowLeft: "prev", ArrowRight: "next" };

/**
 * Make the links of a list or table one tab stop, among which arrow keys move (a roving tabindex). Left and right go
 * from link to link, up and down stay in the column; Home and End go to the ends of the row, with Ctrl to the first and
 * the last link; PageUp and PageDown go to the ends of the column.
 */
function moveByArrowKeys(group) {
  const links = [...group.querySelectorAll("a")];
  const chosen = group.querySelector(":target a, a[aria-current]") ?? links[0];
  for (const link of links) link.tabIndex = -1;
  leave(chosen);

  /** Make `link` the tab stop; screen readers say the hint when the group is entered, and not at every move. */
  function leave(link) {
    link.tabIndex = 0;
    link.setAttribute("aria-describedby", "arrow-keys");
  }

  group.addEventListener("focusin", ({ target, relatedTarget }) => {
    for (const link of group.querySelectorAll('a[tabindex="0"]')) {
      link.tabIndex = -1;
      if (link !== target || group.contains(relatedTarget)) link.removeAttribute("aria-describedby");
    }
    target.tabIndex = 0;
  });
  group.addEventListener("focusout", ({ target, relatedTarget }) => {
    if (!group.contains(relatedTarget)) leave(target);
  });
  group.addEventListener("keydown", (event) => {
    if (event.metaKey || event.altKey || event.shiftKey) return;
    const next = linkByKey(links, links.indexOf(event.target), event);
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
}

function linkByKey(links, index, { key, ctrlKey }) {
  if (ctrlKey) return { Home: links[0], End: links.at(-1) }[key];
  if (key === "ArrowLeft") return links[Math.max(index - 1, 0)];
  if (key === "ArrowRight") return links[Math.min(index + 1, links.length - 1)];
  const boxes = links.map((link) => link.getBoundingClientRect());
  const here = boxes[index];
  const row = links.filter((_, i) => boxes[i].top < here.bottom && boxes[i].bottom > here.top);
  const column = links.filter((_, i) => boxes[i].left < here.right && boxes[i].right > here.left);
  const place = column.indexOf(links[index]);
  return {
    Home: row[0],
    End: row.at(-1),
    ArrowUp: column[Math.max(place - 1, 0)],
    ArrowDown: column[Math.min(place + 1, column.length - 1)],
    PageUp: column[0],
    PageDown: column.at(-1),
  }[key];
}

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
for (const group of document.querySelectorAll("[data-arrow-keys]")) moveByArrowKeys(group);
