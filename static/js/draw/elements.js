/*
 * Elements that the modules make which draw.js loads only when they are needed.
 */

/** Return a new element with attributes, and texts or elements as its children. */
export function createElement(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Load css/draw/<name>.css; return a promise that is kept when it is there, or cannot be had. */
export function addStyleSheet(name) {
  const href = new URL(`../../css/draw/${name}.css`, import.meta.url);
  const style = createElement("link", { rel: "stylesheet", href });
  const loaded = new Promise((resolve) => (style.onload = style.onerror = resolve));
  document.head.append(style);
  return loaded;
}
