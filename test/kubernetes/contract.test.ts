/** The real API server answers what is recorded of it, to which the embedded API is held: so both are compared by one record. */
import { beforeAll, expect, test } from "bun:test";
import { attachCluster, type Cluster } from "./cluster/cluster.ts";
import { inNetns } from "./cluster/layout.ts";

const CONTRACT = new URL("../scripts/kubectl-contract.ts", import.meta.url).pathname;
let cluster: Cluster;

beforeAll(async () => {
  cluster = await attachCluster();
});

test("Kubernetes answers as recorded", async () => {
  const { layout } = cluster;
  const command = [
    "env",
    `KUBECONFIG=${layout.adminKubeconfig}`,
    `HOME=${layout.directory}`,
    process.execPath,
    CONTRACT,
    "--exact",
  ];
  const child = Bun.spawn([...inNetns(layout.fabric, command)], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  console.log(stdout.trimEnd());
  expect(stderr).toBe("");
  expect(stdout.split("\n").filter((line) => line.startsWith("DIFFERS"))).toEqual([]);
  expect(stdout).toMatch(
    /^\d{3} exchanges compared with Kubernetes v1\.34\.4, 0 differ as intended, 0 differences are not intended\n$/,
  );
  expect(await child.exited).toBe(0);
});
