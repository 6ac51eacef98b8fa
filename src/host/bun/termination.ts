/** onTermination: a signal that aborts when the process is asked to end (SIGTERM, SIGINT). */
export function onTermination(): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => controller.abort());
  return controller.signal;
}
