/**
 * endOnBug: ends the process on a bug, so that a supervisor restarts it from the actual state.
 *
 * Needed because Bun only prints an unhandled rejection while the main module waits at its top level: the process would live on,
 * report that it is healthy, and enforce an outdated state.
 */
const EXIT_CODE = 70; // EX_SOFTWARE of sysexits.h

export function endOnBug(): void {
  const end = (error: unknown): void => {
    console.error(error instanceof Error ? (error.stack ?? error.message) : String(error));
    process.exit(EXIT_CODE);
  };
  process.on("uncaughtException", end);
  process.on("unhandledRejection", end);
}
