/*
 * The page's own modules, in Node. Browsers know a module by its script tag, Node by a package.json, which has no place
 * among files that are served: so this says it for everything under static/js/.
 */

import { register } from "node:module";

const hooks = `
  export async function load(url, context, next) {
    const isPageModule = url.includes("/static/js/") && url.endsWith(".js");
    return next(url, isPageModule ? { ...context, format: "module" } : context);
  }
`;

register(`data:text/javascript,${encodeURIComponent(hooks)}`);

/** The module static/js/<name>.js. */
export function pageModule(name) {
  return import(new URL(`../../static/js/${name}.js`, import.meta.url));
}
