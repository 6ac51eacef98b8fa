/** The shipped executable has the program of the thread that reads large lists: it starts, reads with the client's credentials, and ends. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const CALICO = resolve(import.meta.dir, "../../bin/calico");
const PODS = 1_000;

let directory = "";
let server: ReturnType<typeof Bun.serve>;
/** Requests for pages of pods: the token, and who asked. */
const asked: string[] = [];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "calico-list-thread-"));
  server = Bun.serve({ port: 0, hostname: "127.0.0.1", idleTimeout: 0, fetch: answer });
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "c", cluster: { server: `http://127.0.0.1:${server.port}` } }],
    users: [{ name: "u", user: { token: "secret" } }],
    contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
    "current-context": "x",
  };
  await writeFile(`${directory}/kubeconfig`, JSON.stringify(config));
});
afterAll(async () => {
  await server.stop(true);
  await rm(directory, { recursive: true });
});

function answer(request: Request): Response {
  const { pathname, searchParams } = new URL(request.url);
  if (pathname === "/apis") return Response.json({ groups: [] });
  if (searchParams.has("watch")) return silence(request);
  const isPods = pathname === "/api/v1/pods";
  const token = searchParams.get("continue");
  if (isPods) asked.push(`${token ?? "first"} ${request.headers.get("authorization")}`);
  const from = Number(token ?? "0");
  const to = Math.min(isPods ? PODS : 0, from + Number(searchParams.get("limit") ?? PODS));
  const items = Array.from({ length: Math.max(0, to - from) }, (_, i) => ({
    metadata: { namespace: "shop", name: `p${from + i}`, resourceVersion: "5" },
    spec: { nodeName: "other", containers: [] },
  }));
  return Response.json({
    metadata: { resourceVersion: "9", ...(isPods && to < PODS ? { continue: `${to}` } : {}) },
    items,
  });
}

/** A watch on which nothing happens; its headers come with a first byte. */
function silence(request: Request): Response {
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(new TextEncoder().encode("\n"));
      request.signal.addEventListener("abort", () => controller.close());
    },
  });
  return new Response(body, { headers: { "content-type": "application/json" } });
}

test("the executable reads a large list on a thread of its own", async () => {
  const args = ["node", "--observe", "--once", "--node-name", "n1", "--root", `${directory}/root`];
  const child = Bun.spawn([CALICO, ...args, "--kubeconfig", `${directory}/kubeconfig`], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const [error, code] = await Promise.all([new Response(child.stderr).text(), child.exited]);
  expect(error).toBe("");
  expect([0, 1]).toContain(code);
  // The first page twice: whoever sees that more follow asks the thread for the whole.
  expect(asked.filter((line) => line === "first Bearer secret").length).toBe(2);
  expect(new Set(asked.map((line) => line.split(" ").slice(1).join(" ")))).toEqual(new Set(["Bearer secret"]));
  expect(asked.length).toBeGreaterThan(3);
}, 60_000);
