/** Host ports, which the plugin `portmap` behind ours serves, by both container runtimes: reached from outside the node, as policy says. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { attachCluster, type Cluster } from "./cluster/cluster.ts";
import { waitFor } from "./cluster/run.ts";
import { awaitReady, namespace, networkPolicy, pod, removeNamespace, urlOf } from "./objects.ts";

const NS = "hostport";
const PORT = 31_080;
let cluster: Cluster;

beforeAll(async () => {
  cluster = await attachCluster();
  await cluster.apply(namespace(NS));
  const ports = [{ name: "http", containerPort: 8080, hostPort: PORT }];
  await cluster.apply(
    ...["n1", "n2"].map((node) =>
      pod({ namespace: NS, name: `on-${node}`, labels: { app: `on-${node}` }, node, container: { ports } }),
    ),
  );
  await awaitReady(cluster, NS, ["on-n1", "on-n2"]);
});

afterAll(() => removeNamespace(cluster, NS));

/** Whether a process on the other node gets the pod's page from each address of the node. */
async function becomes(expected: boolean, node: string, other: string): Promise<void> {
  for (const address of cluster.node(node).addresses) {
    await waitFor(`port ${PORT} of ${address} to ${expected ? "answer" : "be silent"}`, 30, async () => {
      const { stdout } = await cluster.nodeExec(other, [
        "wget",
        "-q",
        "-T",
        "1",
        "-t",
        "1",
        "-O",
        "-",
        urlOf(address, PORT),
      ]);
      return (stdout === "hello\n") === expected;
    });
  }
}

for (const [node, other, runtime] of [
  ["n1", "n2", "containerd 1"],
  ["n2", "n1", "containerd 2"],
] as const) {
  describe(`a host port of ${runtime}`, () => {
    test("is reached from another node, at the node's addresses of both families", () => becomes(true, node, other));

    test("is closed by a policy that selects the pod, and opened by one that names the client's own address and the pod's port", async () => {
      await cluster.apply(networkPolicy({ namespace: NS, name: node, selects: { app: `on-${node}` }, ingress: [] }));
      await becomes(false, node, other);
      const from = cluster
        .node(other)
        .addresses.map((address) => ({ ipBlock: { cidr: `${address}/${address.includes(":") ? 128 : 32}` } }));
      await cluster.apply(
        networkPolicy({
          namespace: NS,
          name: node,
          selects: { app: `on-${node}` },
          ingress: [{ from, ports: [{ port: 8080 }] }],
        }),
      );
      await becomes(true, node, other);
      await cluster.apply(
        networkPolicy({
          namespace: NS,
          name: node,
          selects: { app: `on-${node}` },
          ingress: [{ from, ports: [{ port: PORT }] }],
        }),
      );
      await becomes(false, node, other);
    });

    test("goes with its pod", async () => {
      await cluster.kubectl(["delete", "networkpolicy", "-n", NS, node]);
      await becomes(true, node, other);
      await cluster.kubectl(["delete", "pod", "-n", NS, `on-${node}`]);
      await becomes(false, node, other);
    });
  });
}

test("the list names portmap after our plugin on both nodes", async () => {
  for (const { cniConfDir } of cluster.layout.nodes) {
    const { plugins } = JSON.parse(await Bun.file(`${cniConfDir}/10-calico.conflist`).text()) as {
      plugins: readonly { type: string }[];
    };
    expect(plugins.map(({ type }) => type).slice(0, 2)).toEqual(["calico", "portmap"]);
  }
});
