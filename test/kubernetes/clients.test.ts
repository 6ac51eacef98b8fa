/** Clients other than kubectl see the same of Kubernetes' API server and of the embedded one. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  type Api,
  CHART,
  CLIENT_GO_SAW,
  clientGoSession,
  helm,
  PYTHON_SAW,
  pythonSession,
} from "../clients/sessions.ts";
import { Lab } from "../conformance/fixture.ts";
import { attachCluster, type Cluster } from "./cluster/cluster.ts";
import { BOX_IMAGE } from "./cluster/image.ts";
import { netnsPath } from "./cluster/layout.ts";

const lab = new Lab();
let cluster: Cluster;
const apis: Record<string, () => Api> = {
  "Kubernetes' API server": () => ({
    kubeconfig: cluster.layout.adminKubeconfig,
    netnsPath: netnsPath(cluster.layout.fabric),
  }),
  "the embedded API": () => ({ kubeconfig: lab.kubeconfig }),
};

beforeAll(async () => {
  cluster = await attachCluster();
  await lab.up("--nodes", "2", "--dual-stack");
}, 90_000);
afterAll(() => lab.down(), 30_000);

for (const [name, api] of Object.entries(apis)) {
  describe(name, () => {
    test("the Python client makes, watches, changes and deletes objects", async () => {
      expect(await pythonSession(api(), "python-session")).toEqual({ exitCode: 0, lines: PYTHON_SAW, stderr: "" });
    }, 90_000);

    test("client-go's informers see what its typed clients write", async () => {
      expect(await clientGoSession(api(), cluster.binaries.clientGo, "client-go-session")).toEqual({
        exitCode: 0,
        lines: CLIENT_GO_SAW,
        stderr: "",
      });
    }, 90_000);

    test("Helm installs a chart of Pods, a Service and a NetworkPolicy, waits for them, upgrades and removes it", async () => {
      const image = name.startsWith("Kubernetes") ? ["--set", `image=${BOX_IMAGE}`] : [];
      const release = ["session", CHART, "--namespace", "helm-session", "--wait", "--timeout", "90s", ...image];
      const installed = await helm(api(), cluster.binaries.helm, "install", ...release, "--create-namespace");
      expect([installed.exitCode, installed.stderr]).toEqual([0, ""]);
      expect(installed.lines).toContain("STATUS: deployed");
      const upgraded = await helm(api(), cluster.binaries.helm, "upgrade", ...release, "--set", "allowed=stranger");
      expect([upgraded.exitCode, upgraded.stderr]).toEqual([0, ""]);
      expect(upgraded.lines).toContain("REVISION: 2");
      const manifest = await helm(
        api(),
        cluster.binaries.helm,
        "get",
        "manifest",
        "session",
        "--namespace",
        "helm-session",
      );
      expect(manifest.lines.join("\n")).toContain("app: session-stranger");
      const removed = await helm(
        api(),
        cluster.binaries.helm,
        "uninstall",
        "session",
        "--namespace",
        "helm-session",
        "--wait",
      );
      expect([removed.exitCode, removed.lines]).toEqual([0, ['release "session" uninstalled']]);
    }, 180_000);
  });
}
