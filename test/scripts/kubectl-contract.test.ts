/**
 * The embedded API, as a process of its own, answers as Kubernetes was recorded to, with every kubectl given (PATH's, and those in
 * CONTRACT_KUBECTL); and the document shows the intended differences.
 */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Recording } from "./contract/compare.ts";
import { INTENDED } from "./contract/differences.ts";

const root = new URL("../../", import.meta.url).pathname;
const directory = mkdtempSync(join(tmpdir(), "contract-"));
const running = new Set<Bun.Subprocess>();

afterAll(async () => {
  for (const child of running) {
    child.kill();
    await child.exited;
  }
  rmSync(directory, { recursive: true, force: true });
});

/** A server without any history; answers its kubeconfig. */
async function startServer(name: string): Promise<string> {
  const kubeconfig = join(directory, `${name}.kubeconfig`);
  const server = Bun.spawn(
    [
      process.execPath,
      join(root, "lab/main.ts"),
      "apiserver",
      "--data-dir",
      join(directory, name),
      "--listen",
      "127.0.0.1:0",
      "--kubeconfig-out",
      kubeconfig,
    ],
    { stdin: "ignore", stdout: "pipe", stderr: "inherit" },
  );
  running.add(server);
  for await (const chunk of server.stdout) if (new TextDecoder().decode(chunk).includes("Serving")) break;
  return kubeconfig;
}

const clients = [Bun.which("kubectl") ?? "kubectl", ...(process.env["CONTRACT_KUBECTL"] ?? "").split(":")].filter(
  (path) => path !== "",
);

for (const [index, kubectl] of clients.entries()) {
  test(`answers as Kubernetes does, with ${kubectl}`, async () => {
    const kubeconfig = await startServer(`server-${index}`);
    const child = Bun.spawn([process.execPath, join(root, "test/scripts/kubectl-contract.ts"), "--kubectl", kubectl], {
      env: { ...process.env, KUBECONFIG: kubeconfig, HOME: directory },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    console.log(stdout.trimEnd());
    expect(stderr).toBe("");
    expect(stdout.split("\n").filter((line) => line.startsWith("DIFFERS"))).toEqual([]);
    expect(stdout).toMatch(/\n\d{3} exchanges compared with Kubernetes v[\d.]+.*, 0 differences are not intended\n$/);
    expect(await child.exited).toBe(0);
  }, 180_000);
}

test("docs/embedded-api.md shows the intended differences", () => {
  const document = readFileSync(join(root, "docs/embedded-api.md"), "utf8");
  const table = /\n\| what \| here \|\n\|---\|---\|\n((?:\|.*\n)+)/.exec(document)?.[1];
  expect(table?.trimEnd().split("\n")).toEqual(INTENDED.map(({ what, here }) => `| ${what} | ${here} |`));
});

test("every listed exchange is recorded", () => {
  const recording = JSON.parse(readFileSync(join(root, "test/scripts/recorded-v1.34.json"), "utf8")) as Recording;
  const names = INTENDED.flatMap(({ where }) => where.flatMap(({ exchanges }) => exchanges));
  expect(
    names.filter(
      (name) =>
        !Object.hasOwn(recording.plain, name) && !Object.hasOwn(Object.values(recording.kubectl)[0] ?? {}, name),
    ),
  ).toEqual([]);
});
