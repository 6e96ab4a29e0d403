// Node 22 and later take the folder in `node --test tests/js/` for a module and come here; older ones look for
// *.test.js themselves and pass this file by.
import { readdirSync } from "node:fs";

for (const name of readdirSync(import.meta.dirname)) {
  if (name.endsWith(".test.js")) await import(`./${name}`);
}
