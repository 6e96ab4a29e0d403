/* How long a training takes, in the words of the server (about() in webapp/presentation/wording.py). */

/** Return about how long something takes: "under a minute", "about 6 minutes", "about an hour". */
export function about(seconds) {
  if (seconds < 60) return seconds < 20 ? "seconds" : "under a minute";
  const minutes = Math.round(seconds / 60);
  if (minutes < 45) return minutes === 1 ? "about a minute" : `about ${minutes} minutes`;
  const hours = Math.round(minutes / 60);
  return hours <= 1 ? "about an hour" : `about ${hours} hours`;
}
