/**
 * endOnBug: a mistake of this program ends the process, so that a supervisor starts it again from what is true.
 *
 * Needed because Bun only prints a rejection that nobody handles while the main module waits at its top level: the process would
 * live on, say that it is healthy, and enforce what was true before.
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
