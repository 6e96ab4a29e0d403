/*
 * Loads the modules of static/js/ in Node. Node treats a .js file as a module if a package.json says so; use a hook in
 * place of that file, which would be served among the static files.
 */

import { register } from "node:module";

const hooks = `
  export async function load(url, context, next) {
    const isPageModule = url.includes("/static/js/") && url.endsWith(".js");
    return next(url, isPageModule ? { ...context, format: "module" } : context);
  }
`;

register(`data:text/javascript,${encodeURIComponent(hooks)}`);

/** Import static/js/<name>.js. */
export function pageModule(name) {
  return import(new URL(`../../static/js/${name}.js`, import.meta.url));
}
