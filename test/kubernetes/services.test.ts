/** Services through kube-proxy beside our tables: policy sees pods, never the service's address. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { attachCluster, type Cluster } from "./cluster/cluster.ts";
import { kubeProxy } from "./cluster/node.ts";
import { run, waitFor } from "./cluster/run.ts";
import { inNetns } from "./cluster/layout.ts";
import { removeRules } from "./power.ts";
import {
  addressesOf,
  answers,
  awaitAnswers,
  awaitReady,
  namespace,
  networkPolicy,
  pod,
  podsWith,
  removeNamespace,
  urlOf,
} from "./objects.ts";

const NS = "services";
let cluster: Cluster;
let addresses: readonly string[];

beforeAll(async () => {
  cluster = await attachCluster();
  await cluster.apply(namespace(NS));
  await cluster.apply(
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { namespace: NS, name: "web" },
      spec: { selector: { app: "web" }, ipFamilyPolicy: "RequireDualStack", ports: [{ port: 80, targetPort: "http" }] },
    },
    pod({ namespace: NS, name: "web", labels: { app: "web" }, node: "n1" }),
    pod({ namespace: NS, name: "far", labels: { app: "far" }, node: "n2" }),
    pod({ namespace: NS, name: "near", labels: { app: "near" }, node: "n1" }),
  );
  await awaitReady(cluster, NS, ["web", "far", "near"]);
  addresses = (await cluster.get<{ spec: { clusterIPs: readonly string[] } }>(["service", "-n", NS, "web"])).spec
    .clusterIPs;
});

afterAll(async () => {
  await removeNamespace(cluster, NS);
});

async function becomes(expected: boolean, from: string): Promise<void> {
  for (const address of addresses) {
    await waitFor(
      `${from} to ${expected ? "reach" : "be kept from"} the service at ${address}`,
      30,
      async () => (await answers(cluster, NS, from, urlOf(address, 80))) === expected,
    );
  }
}

async function checkPolicy(): Promise<void> {
  await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "--all"]);
  for (const from of ["far", "near"]) await becomes(true, from);
  // Ingress by the client's own labels and the pod's own port; egress by the server's: neither holds for a translated address.
  await cluster.apply({
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { namespace: NS, name: "web" },
    spec: {
      podSelector: { matchLabels: { app: "web" } },
      ingress: [{ from: [{ podSelector: { matchLabels: { app: "far" } } }], ports: [{ port: 8080 }] }],
    },
  });
  await becomes(true, "far");
  await becomes(false, "near");
  await cluster.apply({
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { namespace: NS, name: "far" },
    spec: {
      podSelector: { matchLabels: { app: "far" } },
      policyTypes: ["Egress"],
      egress: [{ to: [{ podSelector: { matchLabels: { app: "web" } } }], ports: [{ port: 8080 }] }],
    },
  });
  await becomes(true, "far");
  await cluster.apply({
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { namespace: NS, name: "far" },
    spec: {
      podSelector: { matchLabels: { app: "far" } },
      policyTypes: ["Egress"],
      egress: [{ to: [{ podSelector: { matchLabels: { app: "web" } } }], ports: [{ port: 80 }] }],
    },
  });
  await becomes(false, "far");
}

async function startProxies(mode: "nftables" | "iptables"): Promise<void> {
  for (const node of cluster.layout.nodes) {
    await cluster.stopDaemon(node.name, "kube-proxy");
    await run(inNetns(node.netns, [cluster.binaries.proxy, "--cleanup"]));
    cluster.daemons.start(kubeProxy(cluster.layout, node, cluster.binaries, mode));
  }
}

describe("ClusterIP", () => {
  test("has an address of each family", () => {
    expect(addresses.length).toBe(2);
  });

  test("with kube-proxy in nftables mode policy sees address and port of the pod", async () => {
    await checkPolicy();
  });

  test("our tables may come after kube-proxy's", async () => {
    for (const { name } of cluster.layout.nodes) await cluster.stopDaemon(name, "calico");
    for (const node of cluster.layout.nodes) {
      await removeRules(node);
      cluster.startDaemon(node.name, "calico");
    }
    for (const { name } of cluster.layout.nodes)
      await waitFor(`calico node of ${name}`, 30, () => cluster.calicoReady(name));
    await checkPolicy();
  });

  test("with kube-proxy in iptables mode as well", async () => {
    await startProxies("iptables");
    await checkPolicy();
    await startProxies("nftables");
    await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "--all"]);
    for (const from of ["far", "near"]) await becomes(true, from);
  });
});

describe("a headless service", () => {
  interface Slice {
    readonly addressType: string;
    readonly endpoints:
      | readonly { readonly addresses: readonly string[]; readonly conditions: { readonly ready?: boolean } }[]
      | null;
    readonly ports: readonly { readonly port: number }[];
  }

  /** What a name server would answer for the service: the addresses of its ready pods, and the port that goes with them. */
  async function endpoints(): Promise<{ readonly addresses: readonly string[]; readonly ports: readonly number[] }> {
    const { items } = await cluster.get<{ items: readonly Slice[] }>([
      "endpointslices",
      "-n",
      NS,
      "-l",
      "kubernetes.io/service-name=direct",
    ]);
    const ready = items.flatMap((slice) =>
      (slice.endpoints ?? [])
        .filter(({ conditions }) => conditions.ready === true)
        .flatMap(({ addresses: some }) => some),
    );
    return {
      addresses: ready.sort(),
      ports: [...new Set(items.flatMap(({ ports }) => ports.map(({ port }) => port)))],
    };
  }

  async function settle(names: readonly string[]): Promise<readonly string[]> {
    const made = await awaitReady(cluster, NS, names);
    const expected = made.flatMap(addressesOf).sort();
    await waitFor(
      "the EndpointSlices to tell the pods",
      30,
      async () => JSON.stringify((await endpoints()).addresses) === JSON.stringify(expected),
      async () => JSON.stringify(await endpoints()),
    );
    return expected;
  }

  test("leads to the pods' own addresses and ports, which are what policy sees, also when a pod is replaced", async () => {
    const direct = (name: string, node: string): object =>
      pod({ namespace: NS, name, labels: { app: "direct" }, node });
    await cluster.apply(
      {
        apiVersion: "v1",
        kind: "Service",
        metadata: { namespace: NS, name: "direct" },
        spec: {
          clusterIP: "None",
          selector: { app: "direct" },
          ipFamilyPolicy: "RequireDualStack",
          ports: [{ port: 80, targetPort: "http" }],
        },
      },
      direct("direct-1", "n1"),
      direct("direct-2", "n2"),
    );
    const found = await settle(["direct-1", "direct-2"]);
    expect((await endpoints()).ports).toEqual([8080]);
    const policies = (port: number): readonly object[] => [
      networkPolicy({
        namespace: NS,
        name: "direct",
        selects: { app: "direct" },
        ingress: [{ from: [podsWith({ app: "far" }), podsWith({ app: "near" })], ports: [{ port }] }],
      }),
      networkPolicy({ namespace: NS, name: "near", selects: { app: "near" }, egress: [] }),
    ];
    await cluster.apply(...policies(8080));
    await awaitAnswers(cluster, true, NS, "far", found);
    await awaitAnswers(cluster, false, NS, "near", found);
    // The service's own port is nobody's: there is no address that would translate it.
    await cluster.apply(...policies(80));
    await awaitAnswers(cluster, false, NS, "far", found);
    await cluster.apply(...policies(8080));
    await awaitAnswers(cluster, true, NS, "far", found);
    await cluster.kubectl(["delete", "pod", "-n", NS, "direct-1", "--timeout=60s"]);
    await cluster.apply(direct("direct-3", "n1"));
    const later = await settle(["direct-2", "direct-3"]);
    expect(later).not.toEqual(found);
    await awaitAnswers(cluster, true, NS, "far", later);
    await awaitAnswers(cluster, false, NS, "near", later);
    await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "--all"]);
  });
});
