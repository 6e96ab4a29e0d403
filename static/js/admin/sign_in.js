/* Counts down on the sign-in page until another attempt is allowed, and keeps the button disabled until then. */

function countDown(timer) {
  const button = document.querySelector(".sign-in .button");
  const end = Date.now() + timer.dataset.seconds * 1000;
  button.disabled = true;

  function show() {
    const left = Math.ceil((end - Date.now()) / 1000);
    if (left > 0) {
      timer.textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
      setTimeout(show, 500);
      return;
    }
    button.disabled = false;
    document.getElementById("wait").hidden = true;
    document.getElementById("wait-over").textContent = "You can try again now.";
  }
  show();
}

const timer = document.getElementById("countdown");
if (timer) countDown(timer);
