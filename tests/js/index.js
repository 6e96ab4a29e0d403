// Node 22 and later load this module for `node --test tests/js/`; older versions find the *.test.js files themselves.
import { readdirSync } from "node:fs";

for (const name of readdirSync(import.meta.dirname)) {
  if (name.endsWith(".test.js")) await import(`./${name}`);
}
