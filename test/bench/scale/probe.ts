/**
 * probe: a process that asks the daemon's health endpoint 2 ms after each answer, and apart from that an HTTP server that does nothing,
 * which tells the machine's own delays. It prints `WHICH AT-MS MS` a line; the bench keeps what it wants.
 * Usage: bun probe.ts HOST PORT; `bun probe.ts idle` is the server that does nothing.
 */
import { connect } from "node:net";
import { writeSync } from "node:fs";
import { wallMs } from "./clock.ts";

const PAUSE_MS = 2;
const IDLE_PAUSE_MS = 20;
const PATH = "/liveness";

/** One kept-alive connection; asks again when it was closed. */
function asker(host: string, port: number): () => Promise<void> {
  let socket: ReturnType<typeof connect> | undefined;
  return () =>
    new Promise((resolve, reject) => {
      socket ??= connect({ host, port, noDelay: true });
      const current = socket;
      const end = (error: Error | undefined): void => {
        current.removeAllListeners();
        if (error === undefined) return resolve();
        current.on("error", () => {});
        current.destroy();
        socket = undefined;
        reject(error);
      };
      current.once("data", () => end(undefined));
      current.once("error", end);
      current.once("close", () => end(new Error("closed")));
      current.write(`GET ${PATH} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    });
}

async function measure(which: string, ask: () => Promise<void>): Promise<string> {
  const at = wallMs();
  try {
    await ask();
  } catch {
    return "";
  }
  return `${which} ${at.toFixed(3)} ${(wallMs() - at).toFixed(3)}\n`;
}

async function probe(host: string, port: number): Promise<void> {
  const idle = Bun.spawn([process.execPath, import.meta.path, "idle"], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  const { value = new Uint8Array() } = await idle.stdout.getReader().read();
  const other = asker("127.0.0.1", Number(new TextDecoder().decode(value)));
  const daemon = asker(host, port);
  writeSync(1, `listening ${idle.pid} 0\n`);
  await Promise.all([repeat("daemon", PAUSE_MS, daemon), repeat("idle", IDLE_PAUSE_MS, other)]);
}

async function repeat(which: string, pauseMs: number, ask: () => Promise<void>): Promise<never> {
  for (;;) {
    const line = await measure(which, ask);
    if (line !== "") writeSync(1, line);
    await Bun.sleep(pauseMs);
  }
}

/** Ends with the probe, whose pipe it holds. */
async function serveNothing(): Promise<void> {
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    idleTimeout: 0,
    fetch: () => Response.json({ live: true }),
  });
  writeSync(1, String(server.port));
  for await (const _ of Bun.stdin.stream());
  process.exit(0);
}

const [host = "", port = ""] = process.argv.slice(2);
if (host === "idle") await serveNothing();
else await probe(host, Number(port));
