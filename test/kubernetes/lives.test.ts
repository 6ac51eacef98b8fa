/**
 * What is left of a pod after its end, and pods that are not what they seem: policy sees an address only of pods that have one.
 *
 * The node `paper` exists in the API alone: nobody writes the status of its pods but these tests.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { attachCluster, type Cluster, nodesReady } from "./cluster/cluster.ts";
import { inNetns } from "./cluster/layout.ts";
import { run, tryRun, waitFor } from "./cluster/run.ts";
import {
  addressesOf,
  awaitAnswers,
  awaitReady,
  namespace,
  networkPolicy,
  pod,
  type Pod,
  podsWith,
  removeNamespace,
  reporting,
  urlOf,
  writeStatus,
} from "./objects.ts";

const NS = "lives";
const PAPER = "paper";
let cluster: Cluster;
let server: readonly [string, string];
let client: readonly [string, string];

beforeAll(async () => {
  cluster = await attachCluster();
  await cluster.apply(namespace(NS), { apiVersion: "v1", kind: "Node", metadata: { name: PAPER } });
  await cluster.apply(
    pod({ namespace: NS, name: "server", labels: { app: "server" }, node: "n1" }),
    pod({ namespace: NS, name: "client", labels: { app: "client" }, node: "n2" }),
  );
  const [first, second] = await awaitReady(cluster, NS, ["server", "client"]);
  if (first === undefined || second === undefined) throw new Error("server and client are not there");
  [server, client] = [addressesOf(first), addressesOf(second)];
  await awaitAnswers(cluster, true, NS, "client", server);
});

afterAll(async () => {
  await cluster.kubectl(["delete", "node", PAPER, "--ignore-not-found"]);
  await removeNamespace(cluster, NS);
});

/** Policies and the pods of one test; those that stay for the whole file are named by their labels. */
afterEach(async () => {
  await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "--all"]);
  await cluster.tryKubectl([
    "patch",
    "pod",
    "-n",
    NS,
    "held",
    "--type=merge",
    "-p",
    '{"metadata":{"finalizers":null}}',
  ]);
  const passing = ["delete", "pod", "-n", NS, "-l", "app notin (server, client, asks, host)"];
  await cluster.kubectl([...passing, `--field-selector=spec.nodeName=${PAPER}`, "--force"]);
  await cluster.kubectl([...passing, "--timeout=90s"]);
});

async function label(name: string, app: string): Promise<void> {
  await cluster.kubectl(["label", "pod", "-n", NS, name, `app=${app}`, "--overwrite"]);
}

/** Policies that speak of the pods labelled `app`: they are closed, and they alone may reach the server and be reached by the client. */
async function speakOf(app: string): Promise<void> {
  await cluster.apply(
    networkPolicy({ namespace: NS, name: "closed", selects: { app }, ingress: [], egress: [] }),
    networkPolicy({
      namespace: NS,
      name: "server",
      selects: { app: "server" },
      ingress: [{ from: [podsWith({ app })] }],
    }),
    networkPolicy({ namespace: NS, name: "client", selects: { app: "client" }, egress: [{ to: [podsWith({ app })] }] }),
  );
  await awaitAnswers(cluster, false, NS, "client", server);
}

/**
 * Nothing that `speakOf` says concerns the pod: it is not closed, the server does not know it, the client may not reach it. The policies
 * are shown to work on it first and last, so that a packet that is lost for another reason does not count.
 */
async function isStranger(name: string, addresses: readonly string[], app: string): Promise<void> {
  await awaitAnswers(cluster, true, NS, "asks", addresses);
  await awaitAnswers(cluster, false, NS, name, server);
  await awaitAnswers(cluster, false, NS, "client", addresses);
  await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "closed"]);
  await label(name, app);
  await awaitAnswers(cluster, true, NS, name, server);
  await awaitAnswers(cluster, true, NS, "client", addresses);
}

/** Runs while nobody corrects what is written of the pods of n1. */
async function withoutKubelet(work: () => Promise<void>): Promise<void> {
  await cluster.stopDaemon("n1", "kubelet");
  try {
    await work();
  } finally {
    cluster.startDaemon("n1", "kubelet");
    await nodesReady(cluster);
  }
}

async function phaseOf(name: string): Promise<string> {
  return (await cluster.get<Pod>(["pod", "-n", NS, name])).status.phase;
}

async function annotate(name: string, addresses: readonly string[]): Promise<void> {
  const prefixes = addresses.map((address) => `${address}/${address.includes(":") ? 128 : 32}`);
  await cluster.kubectl([
    "annotate",
    "pod",
    "-n",
    NS,
    name,
    "--overwrite",
    `cni.projectcalico.org/podIP=${prefixes[0] ?? ""}`,
    `cni.projectcalico.org/podIPs=${prefixes.join(",")}`,
  ]);
}

describe("an address that is used again", () => {
  beforeAll(async () => {
    await cluster.apply(pod({ namespace: NS, name: "asks", labels: { app: "asks" }, node: "n2" }));
    await awaitReady(cluster, NS, ["asks"]);
  });

  for (const [phase, command, number] of [
    ["Succeeded", "true", "11"],
    ["Failed", "false", "12"],
  ] as const) {
    test(`after a pod that is ${phase} concerns the new pod alone`, async () => {
      const addresses = [`10.65.201.${number}`, `fd00:65::201:${number}`];
      await cluster.apply(
        pod({
          namespace: NS,
          name: "finished",
          labels: { app: "old" },
          addresses,
          node: "n1",
          command: [command],
          spec: { restartPolicy: "Never" },
        }),
      );
      await waitFor(`the pod to be ${phase}`, 60, async () => (await phaseOf("finished")) === phase);
      await waitFor(
        "its network to be torn down",
        60,
        async () =>
          (await cluster.get<Pod>(["pod", "-n", NS, "finished"])).metadata.annotations?.[
            "cni.projectcalico.org/podIPs"
          ] === "",
      );
      await withoutKubelet(async () => {
        // Both words that could still give it its addresses: that it has finished must be enough.
        await annotate("finished", addresses);
        await writeStatus(cluster, NS, "finished", reporting(addresses));
        await speakOf("old");
        await cluster.apply(pod({ namespace: NS, name: "again", labels: { app: "new" }, addresses, node: "n2" }));
        await awaitReady(cluster, NS, ["again"]);
        await isStranger("again", addresses, "old");
        expect(await phaseOf("finished")).toBe(phase);
      });
    });
  }

  test("after a pod that is torn down, and held by a finalizer, concerns the new pod alone", async () => {
    const addresses = ["10.65.201.13", "fd00:65::201:13"];
    await cluster.apply(
      pod({
        namespace: NS,
        name: "held",
        labels: { app: "old" },
        addresses,
        node: "n1",
        finalizers: ["example.org/held"],
      }),
    );
    await awaitReady(cluster, NS, ["held"]);
    await cluster.kubectl(["delete", "pod", "-n", NS, "held", "--wait=false"]);
    await waitFor(
      "its network to be torn down",
      90,
      async () =>
        (await cluster.get<Pod>(["pod", "-n", NS, "held"])).metadata.annotations?.["cni.projectcalico.org/podIPs"] ===
        "",
    );
    await withoutKubelet(async () => {
      // As a kubelet leaves it that dies before it has told the end: the plugin's mark alone says that the network is gone.
      await writeStatus(cluster, NS, "held", { phase: "Running", ...reporting(addresses) });
      await speakOf("old");
      await cluster.apply(pod({ namespace: NS, name: "again", labels: { app: "new" }, addresses, node: "n2" }));
      await awaitReady(cluster, NS, ["again"]);
      await awaitAnswers(cluster, true, NS, "asks", addresses);
      await awaitAnswers(cluster, false, NS, "again", server);
      await awaitAnswers(cluster, false, NS, "client", addresses);
      // Without the mark the pod counts, and its address with it: so it was the mark.
      await annotate("held", addresses);
      await awaitAnswers(cluster, true, NS, "again", server);
      await awaitAnswers(cluster, true, NS, "client", addresses);
    });
  });

  test("while an earlier pod still claims it stands for both, and for one again when either goes", async () => {
    const addresses = ["10.65.201.14", "fd00:65::201:14"];
    await cluster.apply(
      pod({ namespace: NS, name: "true", labels: { app: "true" }, addresses, node: "n1" }),
      pod({ namespace: NS, name: "claims", labels: { app: "old" }, node: PAPER }),
    );
    await awaitReady(cluster, NS, ["true"]);
    await speakOf("old");
    await awaitAnswers(cluster, false, NS, "true", server);
    await writeStatus(cluster, NS, "claims", { phase: "Running", ...reporting(addresses) });
    // What another pod claims never selects: the pod is not closed. As a peer the address is anyone's who has it (POL-3).
    await awaitAnswers(cluster, true, NS, "true", server);
    await awaitAnswers(cluster, true, NS, "client", addresses);
    await awaitAnswers(cluster, true, NS, "asks", addresses);
    // Nor does it open: a policy that selects the pod itself holds.
    await cluster.apply(
      networkPolicy({ namespace: NS, name: "true", selects: { app: "true" }, ingress: [], egress: [] }),
    );
    await awaitAnswers(cluster, false, NS, "asks", addresses);
    await awaitAnswers(cluster, false, NS, "true", server);
    await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "true"]);
    await awaitAnswers(cluster, true, NS, "true", server);
    await cluster.kubectl(["delete", "pod", "-n", NS, "claims", "--force"]);
    await awaitAnswers(cluster, false, NS, "true", server);
    await awaitAnswers(cluster, false, NS, "client", addresses);
    await awaitAnswers(cluster, true, NS, "asks", addresses);
    // The other way round: both have the labels, one goes, the address stays.
    await cluster.apply(pod({ namespace: NS, name: "claims", labels: { app: "old" }, node: PAPER }));
    await writeStatus(cluster, NS, "claims", { phase: "Running", ...reporting(addresses) });
    await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "closed"]);
    await label("true", "old");
    await awaitAnswers(cluster, true, NS, "true", server);
    await cluster.kubectl(["delete", "pod", "-n", NS, "claims", "--force"]);
    await waitFor(
      "the claim to be gone",
      30,
      async () => (await cluster.tryKubectl(["get", "pod", "-n", NS, "claims"])).exitCode !== 0,
    );
    for (let i = 0; i < 5; i++) await awaitAnswers(cluster, true, NS, "true", server);
  });
});

describe("a pod without an address", () => {
  test("is passed over, and those after it count", async () => {
    await speakOf("peer");
    // Never scheduled; bound to a node that never reports an address; announced with text that is none.
    await cluster.apply(
      pod({
        namespace: NS,
        name: "unscheduled",
        labels: { app: "peer" },
        spec: { nodeSelector: { "example.org/no": "such" } },
      }),
      pod({ namespace: NS, name: "silent", labels: { app: "peer" }, node: PAPER }),
    );
    await cluster.kubectl(["annotate", "pod", "-n", NS, "silent", "cni.projectcalico.org/podIPs=10.65.201.300/32"]);
    await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "closed"]);
    await cluster.apply(pod({ namespace: NS, name: "late", labels: { app: "peer" }, node: "n2" }));
    const [late] = await awaitReady(cluster, NS, ["late"]);
    await awaitAnswers(cluster, true, NS, "late", server);
    await awaitAnswers(cluster, true, NS, "client", late === undefined ? [] : addressesOf(late));
    await awaitAnswers(cluster, false, NS, "client", server);
  });
});

describe("a pod bound to a node that does not exist", () => {
  const HOSTS = [
    ["172.30.0.99/24", "172.30.0.11"],
    ["fd00:30::99/64", "fd00:30::11"],
  ] as const;
  const outside = HOSTS.map(([prefix]) => prefix.split("/")[0] ?? "");

  /** A host beside the nodes, which has the addresses that the pod claims, asks the server. */
  async function hostReaches(expected: boolean): Promise<void> {
    for (const [index, address] of outside.entries()) {
      const ask = [
        "wget",
        "-q",
        "-T",
        "1",
        "-t",
        "1",
        "-O",
        "-",
        `--bind-address=${address}`,
        urlOf(server[index] ?? ""),
      ];
      await waitFor(
        `${address} to be ${expected ? "heard" : "kept out"}`,
        60,
        async () => ((await tryRun(inNetns(cluster.layout.fabric, ask))).stdout === "hello\n") === expected,
      );
    }
  }

  async function fabricIp(action: "add" | "del"): Promise<void> {
    for (const [index, [prefix, router]] of HOSTS.entries()) {
      const option = prefix.includes(":") ? ["nodad"] : [];
      const commands = [
        ["addr", action, prefix, "dev", "fabric", ...(action === "add" ? option : [])],
        ["route", action, server[index] ?? "", "via", router],
      ];
      for (const command of commands) {
        const line = ["ip", "-n", cluster.layout.fabric, ...command];
        if (action === "add") await run(line);
        else await tryRun(line);
      }
    }
  }

  afterAll(() => fabricIp("del"));

  test("has no route and does no harm; its address counts for policy until pod GC removes the pod", async () => {
    await fabricIp("add");
    const before = cluster.layout.nodes.map(({ name }) => cluster.daemons.pid(`${name}-calico`));
    await hostReaches(true);
    await cluster.apply(
      networkPolicy({
        namespace: NS,
        name: "server",
        selects: { app: "server" },
        ingress: [{ from: [podsWith({ app: "ghost" })] }],
      }),
    );
    await hostReaches(false);
    await cluster.apply(pod({ namespace: NS, name: "ghost", labels: { app: "ghost" }, node: "nowhere" }));
    await hostReaches(false);
    await writeStatus(cluster, NS, "ghost", { phase: "Running", ...reporting(outside) });
    await hostReaches(true);
    for (const { netns } of cluster.layout.nodes) {
      for (const address of outside)
        expect(await run(["ip", "-n", netns, address.includes(":") ? "-6" : "-4", "route", "show", address])).toBe("");
    }
    await waitFor(
      "pod GC to delete the pod",
      180,
      async () => (await cluster.tryKubectl(["get", "pod", "-n", NS, "ghost"])).exitCode !== 0,
    );
    await hostReaches(false);
    expect(cluster.layout.nodes.map(({ name }) => cluster.daemons.pid(`${name}-calico`))).toEqual(before);
  });
});

describe("a pod in its host's network", () => {
  const PORT = 8099;
  let node: readonly [string, string];

  beforeAll(async () => {
    node = cluster.node("n1").addresses;
    await cluster.apply(
      pod({
        namespace: NS,
        name: "host",
        labels: { app: "host" },
        node: "n1",
        command: ["httpd", "-f", "-p", String(PORT), "-h", "/www"],
        container: { ports: [] },
        spec: { hostNetwork: true },
      }),
    );
    await awaitReady(cluster, NS, ["host"]);
    await awaitAnswers(cluster, true, NS, "client", node, PORT);
  });

  test("is not isolated by a policy that selects its labels", async () => {
    await cluster.apply(
      networkPolicy({ namespace: NS, name: "host", selects: { app: "host" }, ingress: [], egress: [] }),
    );
    // A second policy, seen to count, was written after the first.
    await cluster.apply(networkPolicy({ namespace: NS, name: "server", selects: { app: "server" }, ingress: [] }));
    await awaitAnswers(cluster, false, NS, "client", server);
    await awaitAnswers(cluster, true, NS, "client", node, PORT);
    await awaitAnswers(cluster, true, NS, "host", client);
    await awaitAnswers(cluster, true, NS, "host", server);
  });

  test("is no peer by its labels: only a block of addresses lets it in from another node, or lets others reach it", async () => {
    const policies = (peers: readonly object[]): readonly object[] => [
      networkPolicy({ namespace: NS, name: "client-in", selects: { app: "client" }, ingress: [{ from: peers }] }),
      networkPolicy({ namespace: NS, name: "client-out", selects: { app: "client" }, egress: [{ to: peers }] }),
    ];
    await cluster.apply(...policies([podsWith({ app: "host" })]));
    await awaitAnswers(cluster, false, NS, "host", client);
    await awaitAnswers(cluster, false, NS, "client", node, PORT);
    await cluster.apply(
      ...policies(node.map((address) => ({ ipBlock: { cidr: `${address}/${address.includes(":") ? 128 : 32}` } }))),
    );
    await awaitAnswers(cluster, true, NS, "host", client);
    await awaitAnswers(cluster, true, NS, "client", node, PORT);
    await awaitAnswers(cluster, false, NS, "client", server);
  });
});
