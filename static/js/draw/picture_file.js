/*
 * Prepares a picture file for the server: a large one is turned upright and reduced by the browser where it can.
 */

export const MOST_BYTES = 10_000_000; // as the server reads
const SMALL = { bytes: 400_000, pixels: 4_000_000 }; // smaller files of the usual types go as they are
const LONGEST_SIDE = 1600; // pixels
const QUALITY = 0.85;
const USUAL = ["image/png", "image/jpeg", "image/webp"];
const PATTERN_SIDE = 8;
const LONGEST_BEGINNING = 12; // bytes
// How the files begin that the server reads: PNG, JPEG, WebP, BMP, GIF, TIFF, AVIF and HEIC, PGM.
const BEGINNINGS = /^(?:\x89PNG|\xff\xd8\xff|RIFF....WEBP|BM|GIF8|II\*\0|MM\0\*|....ftyp|P5\s)/s;
const UNREADABLE = "The file cannot be opened.";
const NO_PICTURE = "The file is no picture. PNG, JPEG, WebP, BMP, GIF, TIFF, AVIF and HEIC are read.";

/** Return the blob's bytes as a data URL. The server tells the type by the bytes. */
function toUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob.slice(0, blob.size, "application/octet-stream"));
  });
}

/** Return whether a canvas gives back what was drawn: browsers that resist fingerprinting answer with noise. */
function isCanvasTrue() {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = PATTERN_SIDE;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const drawn = context.createImageData(PATTERN_SIDE, PATTERN_SIDE);
  drawn.data.forEach((_, i) => (drawn.data[i] = i % 4 === 3 ? 255 : (i * 37) % 256));
  context.putImageData(drawn, 0, 0);
  const { data } = context.getImageData(0, 0, PATTERN_SIDE, PATTERN_SIDE);
  return data.every((value, i) => value === drawn.data[i]);
}

/**
 * Return the picture upright on a canvas of at most LONGEST_SIDE pixels, and the count of its own; no canvas if the
 * browser cannot decode it.
 */
async function decode(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    return { canvas: null, pixels: 0 };
  }
  const pixels = bitmap.width * bitmap.height;
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return { canvas, pixels };
}

/** Return whether any pixel of a canvas is transparent: then its opacity may be the ink. */
function isTransparent(canvas) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 3; i < data.length; i += 4) if (data[i] < 255) return true;
  return false;
}

/** Return whether the first bytes are those of a picture. */
async function isPicture(file) {
  const bytes = new Uint8Array(await file.slice(0, LONGEST_BEGINNING).arrayBuffer());
  return BEGINNINGS.test(String.fromCharCode(...bytes));
}

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

/**
 * Return {url, canvas}: what to send as a data URL, and the picture to show, or null if the browser cannot decode it;
 * {message} if it is no picture or too large to be sent.
 */
export async function prepare(file) {
  const { canvas, pixels } = await decode(file);
  try {
    if (!canvas && !(await isPicture(file))) return { message: NO_PICTURE };
  } catch {
    return { message: UNREADABLE };
  }
  const isSmall = file.size <= SMALL.bytes && pixels <= SMALL.pixels && USUAL.includes(file.type);
  if (canvas && !isSmall && isCanvasTrue()) {
    const type = isTransparent(canvas) ? "image/png" : "image/jpeg"; // a JPEG would be black there
    const reduced = await new Promise((resolve) => canvas.toBlob(resolve, type, QUALITY));
    if (reduced) return { url: await toUrl(reduced), canvas };
  }
  if (file.size > MOST_BYTES) {
    const size = megabytes(file.size);
    const limit = MOST_BYTES / 1e6;
    return { message: `The file has ${size} MB and this browser cannot reduce it; at most ${limit} MB are read.` };
  }
  try {
    return { url: await toUrl(file), canvas };
  } catch {
    return { message: UNREADABLE };
  }
}
