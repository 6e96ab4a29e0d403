/* Shows the times of a page in the reader's time zone and language; the server writes them in UTC. */

const FORMAT = { month: "short", day: "numeric", hour: "numeric", minute: "2-digit", timeZoneName: "short" };
const thisYear = new Intl.DateTimeFormat(undefined, FORMAT);
const otherYear = new Intl.DateTimeFormat(undefined, { ...FORMAT, year: "numeric" });
const inFull = new Intl.DateTimeFormat(undefined, { ...FORMAT, month: "long", year: "numeric", second: "2-digit" });

/** Write each <time> below `root` in the reader's time zone, which it names; its title repeats the server's text. */
export function localise(root) {
  for (const time of root.querySelectorAll("time")) {
    const date = new Date(time.dateTime);
    time.title = `${inFull.format(date)} (${time.textContent})`;
    time.textContent = (date.getFullYear() === new Date().getFullYear() ? thisYear : otherYear).format(date);
  }
}

localise(document);
