/** Runs the kubectl contract against the embedded API as its own process, with every kubectl given (PATH's, and those in CONTRACT_KUBECTL). */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = new URL("../../", import.meta.url).pathname;
const directory = mkdtempSync(join(tmpdir(), "contract-"));
const kubeconfig = join(directory, "kubeconfig");
let server: Bun.Subprocess<"ignore", "pipe", "inherit"> | undefined;

beforeAll(async () => {
  server = Bun.spawn([process.execPath, join(root, "src/main.ts"), "apiserver", "--data-dir", join(directory, "data"), "--listen", "127.0.0.1:0", "--kubeconfig-out", kubeconfig], { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
  for await (const chunk of server.stdout) if (new TextDecoder().decode(chunk).includes("Serving")) break;
});

afterAll(async () => {
  server?.kill();
  await server?.exited;
  rmSync(directory, { recursive: true, force: true });
});

for (const kubectl of [Bun.which("kubectl"), ...(process.env["CONTRACT_KUBECTL"] ?? "").split(":")].filter((path) => path !== null && path !== "")) {
  test(`contract holds with ${kubectl}`, async () => {
    const child = Bun.spawn([process.execPath, join(root, "test/scripts/kubectl-contract.ts"), "--kubectl", kubectl ?? ""], {
      env: { ...process.env, KUBECONFIG: kubeconfig, HOME: directory }, stdin: "ignore", stdout: "pipe", stderr: "pipe",
    });
    const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    expect(stderr).toBe("");
    expect(stdout).toMatch(/^\d{3} exchanges, 0 differ\n$/);
    expect(await child.exited).toBe(0);
  }, 180_000);
}
