/** clock: milliseconds of one clock for all processes of a bench, finer than Date tells them. */

const offsetMs = calibrate();

/** Date's clock is read to the millisecond: when it ticks, the fine one is set by it. */
function calibrate(): number {
  const before = Date.now();
  let now = before;
  while (now === before) now = Date.now();
  return now - performance.now();
}

/** Since the epoch, to some microseconds; agrees between processes to some tens of them. */
export function wallMs(): number {
  return offsetMs + performance.now();
}
