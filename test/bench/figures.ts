/** figures: percentiles and how they are printed. */
export function percentile(values: readonly number[], fraction: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? Number.NaN;
}

/** Three digits that count, thousands whole. */
export function digits(value: number): string {
  if (!Number.isFinite(value)) return "-";
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

/** `p25 1.20  p50 1.31  p75 1.52  p99 4.01 ms  n 200`. */
export function spread(values: readonly number[], unit: string): string {
  const part = (name: string, fraction: number): string =>
    `${name} ${digits(percentile(values, fraction)).padStart(6)}`;
  return `${part("p25", 0.25)}  ${part("p50", 0.5)}  ${part("p75", 0.75)}  ${part("p99", 0.99)} ${unit}  n ${values.length}`;
}

export function row(name: string, values: readonly number[], unit: string): void {
  console.log(`${name.padEnd(56)} ${spread(values, unit)}`);
}

export function ratio(name: string, value: number, aim: string): void {
  console.log(`${name.padEnd(56)} ${value.toFixed(2)} times   (aim: ${aim})`);
}
