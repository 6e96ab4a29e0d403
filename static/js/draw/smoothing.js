/*
 * From the points a pen reported to the curve a pen drew. Pure maths: no canvas, no page.
 */

// A light touch draws at 0.6 of the brush's width, full pressure at 1.4; 0.5, which stands for "unknown", at 1.
const LIGHTEST = 0.6;
const PRESSURE_GAIN = 0.8;

export function widthAt(brush, pressure) {
  return brush * (LIGHTEST + PRESSURE_GAIN * Math.min(1, Math.max(0, pressure)));
}

function middle(a, b) {
  return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
}

/**
 * The curve through a stroke's points, as quadratic Bezier segments {from, control, to, width}.
 *
 * Inner points are the controls and the middles between neighbours the joints, so that the direction never jumps at a
 * joint and a pen's tremor is smoothed; the first and the last point are met exactly. One point gives one segment of
 * no length, no points give none.
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
    const to = isLast ? { x: point.x, y: point.y } : middle(point, points[index + 1]);
    // Half of the width so far: pressure is reported in coarse jumps, a line should not show them.
    thickness = (thickness + widthAt(width, point.pressure)) / 2;
    segments.push({ from, control: { x: point.x, y: point.y }, to, width: thickness });
    from = to;
  });
  return segments;
}
