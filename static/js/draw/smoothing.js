/*
 * Smooths the points of a stroke into a curve. Depends on no canvas or page.
 */

// Factors of the brush's width: 0.6 at no pressure, 1.4 at full pressure, 1 at 0.5, which stands for unknown.
const MIN_FACTOR = 0.6;
const PRESSURE_GAIN = 0.8;

export function widthAt(brush, pressure) {
  return brush * (MIN_FACTOR + PRESSURE_GAIN * Math.min(1, Math.max(0, pressure)));
}

function midpoint(a, b) {
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
}

/**
 * Return the curve of a stroke as quadratic Bezier segments {from, control, to, width}.
 *
 * Use the inner points as controls and the midpoints between neighbours as joints: the direction is continuous at the
 * joints, and tremor is smoothed. The curve starts at the first point and ends at the last. Return one segment of
 * length zero for one point, and none for no points.
 */
export function curve({ width, points }) {
  if (points.length === 0) return [];
  const first = points[0];
  const segments = [];
  let from = { x: first.x, y: first.y };
  let thickness = widthAt(width, first.pressure);
  points.forEach((point, index) => {
    if (index === 0 && points.length > 1) return;
    const isLast = index === points.length - 1;
    const to = isLast ? { x: point.x, y: point.y } : midpoint(point, points[index + 1]);
    // Average with the previous width, because devices report pressure in coarse steps.
    thickness = (thickness + widthAt(width, point.pressure)) / 2;
    segments.push({ from, control: { x: point.x, y: point.y }, to, width: thickness });
    from = to;
  });
  return segments;
}
