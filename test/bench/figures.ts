/** figures: percentiles and how they are printed. */
export function percentile(values: readonly number[], fraction: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? Number.NaN;
}

export function row(name: string, values: readonly number[], unit: string): void {
  const text = (value: number): string => value.toFixed(2).padStart(8);
  console.log(
    `${name.padEnd(44)} p50 ${text(percentile(values, 0.5))} ${unit}   p95 ${text(percentile(values, 0.95))} ${unit}   p99 ${text(percentile(values, 0.99))} ${unit}   n ${values.length}`,
  );
}

export function ratio(name: string, value: number, aim: string): void {
  console.log(`${name.padEnd(44)} ${value.toFixed(2)} times   (aim: ${aim})`);
}
