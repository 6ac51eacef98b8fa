/** Age: spans of time as kubectl's tables print them. Source: apimachinery pkg/util/duration. */

/** `42s`, `5m30s`, `3h`, `2d4h`; `<unknown>` for a malformed time. */
export function formatAge(timestamp: unknown, nowMs: number): string {
  const from = typeof timestamp === "string" ? Date.parse(timestamp) : Number.NaN;
  return Number.isNaN(from) ? "<unknown>" : formatDuration(Math.floor((nowMs - from) / 1000));
}

/** A span of whole seconds. */
export function formatDuration(seconds: number): string {
  if (seconds < -1) return "<invalid>";
  if (seconds < 0) return "0s";
  if (seconds < 120) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 10) return pair(minutes, "m", seconds % 60, "s");
  if (minutes < 180) return `${minutes}m`;
  const hours = Math.floor(minutes / 60);
  if (hours < 8) return pair(hours, "h", minutes % 60, "m");
  if (hours < 48) return `${hours}h`;
  const days = Math.floor(hours / 24);
  if (hours < 192) return pair(days, "d", hours % 24, "h");
  if (days < 730) return `${days}d`;
  const years = Math.floor(days / 365);
  return days < 2920 ? pair(years, "y", days % 365, "d") : `${years}y`;
}

function pair(large: number, largeUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large}${largeUnit}` : `${large}${largeUnit}${small}${smallUnit}`;
}
