/**
 * The container runtimes and what they ask of the plugins: n1 has containerd 1.6 with CNI 1.0.0, n2 containerd 2 with CNI 1.1.0,
 * which asks for STATUS. What a platform engineer sees while `calico node` is away or the kernel refuses, and that it ends by itself.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { statSync } from "node:fs";
import { attachCluster, type Cluster } from "./cluster/cluster.ts";
import { inNetns } from "./cluster/layout.ts";
import { calicoNode } from "./cluster/node.ts";
import { tryRun, waitFor } from "./cluster/run.ts";
import { answers, awaitReady, holders, isReady, namespace, pod, type Pod, removeNamespace, urlOf } from "./objects.ts";
import { type Call, Recorder } from "./recorder.ts";

const NS = "runtime";
const NODES = ["n1", "n2"] as const;
let cluster: Cluster;

beforeAll(async () => {
  cluster = await attachCluster();
  await cluster.apply(namespace(NS));
});

afterAll(async () => {
  for (const node of NODES)
    if (cluster.daemons.pid(`${node}-calico`) === undefined) cluster.startDaemon(node, "calico");
  await removeNamespace(cluster, NS);
});

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly message?: string;
}

async function readyCondition(node: string): Promise<Condition | undefined> {
  const { status } = await cluster.get<{ status: { conditions?: readonly Condition[] } }>(["node", node]);
  return status.conditions?.find(({ type }) => type === "Ready");
}

async function nodeIs(node: string, status: "True" | "False"): Promise<void> {
  await waitFor(
    `node ${node} to have Ready ${status}`,
    120,
    async () => (await readyCondition(node))?.status === status,
    async () => JSON.stringify(await readyCondition(node)),
  );
}

/** Messages of a pod's warnings. */
function warnings(name: string): Promise<string> {
  return cluster.kubectl([
    "get",
    "events",
    "-n",
    NS,
    `--field-selector=involvedObject.name=${name},type=Warning`,
    "-o",
    'jsonpath={range .items[*]}{.reason}{": "}{.message}{"\\n"}{end}',
  ]);
}

function isOf(call: Call, name: string): boolean {
  return call.args.split(";").includes(`K8S_POD_NAME=${name}`);
}

const exists = async (name: string): Promise<boolean> =>
  (await cluster.tryKubectl(["get", "pod", "-n", NS, name])).exitCode === 0;

test("the nodes run containerd 1 and containerd 2", async () => {
  const { items } = await cluster.get<{
    items: readonly { status: { nodeInfo: { containerRuntimeVersion: string } } }[];
  }>(["nodes"]);
  expect(items.map(({ status }) => status.nodeInfo.containerRuntimeVersion.split(".")[0])).toEqual([
    "containerd://1",
    "containerd://2",
  ]);
});

describe("while calico node is away", () => {
  beforeAll(async () => {
    await cluster.apply(...NODES.map((node) => pod({ namespace: NS, name: `leaves-${node}`, node })));
    await awaitReady(
      cluster,
      NS,
      NODES.map((node) => `leaves-${node}`),
    );
    for (const node of NODES) await cluster.stopDaemon(node, "calico");
    await cluster.apply(...NODES.map((node) => pod({ namespace: NS, name: `waits-${node}`, node })));
  });

  test("containerd 2: the Node is not Ready, and its condition has our reason", async () => {
    await nodeIs("n2", "False");
    const ours = `cannot reach calico node at ${cluster.node("n2").root}/var/run/calico/cni.sock: is it running on this node?`;
    expect((await readyCondition("n2"))?.message).toContain(ours);
    expect(await cluster.kubectl(["describe", "node", "n2"])).toContain(ours);
    await waitFor(
      "the warning of the pod that waits",
      60,
      async () => (await warnings("waits-n2")).includes(ours),
      () => warnings("waits-n2"),
    );
  });

  test("containerd 1 never calls STATUS: the Node stays Ready, and the pod's Event has our reason", async () => {
    const ours = `cannot reach calico node at ${cluster.node("n1").root}/var/run/calico/cni.sock: is it running on this node?`;
    await waitFor(
      "the warning of the pod that waits",
      60,
      async () => (await warnings("waits-n1")).includes(ours),
      () => warnings("waits-n1"),
    );
    expect((await readyCondition("n1"))?.status).toBe("True");
  });

  test("a pod that is deleted meanwhile keeps its address until calico node can take it back", async () => {
    for (const node of NODES) await cluster.kubectl(["delete", "pod", "-n", NS, `leaves-${node}`, "--wait=false"]);
    for (const node of NODES)
      await waitFor(
        `the end of leaves-${node} to fail`,
        60,
        async () => (await warnings(`leaves-${node}`)).includes("cannot reach calico node"),
        () => warnings(`leaves-${node}`),
      );
    expect(await holders(cluster)).toEqual(expect.arrayContaining(NODES.map((node) => `leaves-${node}`)));
  });

  test("all comes right by itself when calico node is back", async () => {
    for (const node of NODES) cluster.startDaemon(node, "calico");
    await nodeIs("n2", "True");
    await awaitReady(
      cluster,
      NS,
      NODES.map((node) => `waits-${node}`),
      180,
    );
    for (const node of NODES)
      await waitFor(
        `leaves-${node} to be gone`,
        180,
        async () => !(await exists(`leaves-${node}`)),
        () => warnings(`leaves-${node}`),
      );
    await waitFor(
      "their addresses to be given back",
      60,
      async () => !(await holders(cluster)).some((name) => name.startsWith("leaves-")),
    );
  });
});

describe("while the kernel refuses our table", () => {
  test("the Node of containerd 2 is not Ready with the reason; the waiting pod starts when the kernel accepts", async () => {
    // Another process owns a table of our name (NFT_TABLE_F_OWNER): nobody else may change it while that process lives. While the daemon does, it is the owner.
    await cluster.stopDaemon("n2", "calico", "SIGKILL");
    const owner = Bun.spawn([...inNetns(cluster.node("n2").netns, ["nft", "-i"])], {
      stdin: "pipe",
      stdout: "ignore",
      stderr: "ignore",
    });
    try {
      owner.stdin.write("delete table inet calico\nadd table inet calico { flags owner; }\n");
      await owner.stdin.flush();
      await waitFor("the table to be owned", 20, async () =>
        (await tryRun(inNetns(cluster.node("n2").netns, ["nft", "list", "table", "inet", "calico"]))).stdout.includes(
          "flags owner",
        ),
      );
      // It must take nftables, whatever the node has otherwise.
      cluster.daemons.start(calicoNode(cluster.layout, cluster.node("n2"), "nftables"));
      await cluster.apply(pod({ namespace: NS, name: "refused", node: "n2" }));
      await nodeIs("n2", "False");
      // Before its first attempt the daemon is not ready for another reason.
      await waitFor(
        "the Node to say why",
        60,
        async () =>
          (await readyCondition("n2"))?.message?.includes("cannot program the kernel: new pods would stay closed") ===
          true,
      );
      expect(isReady(await cluster.get<Pod>(["pod", "-n", NS, "refused"]))).toBe(false);
    } finally {
      owner.kill("SIGKILL");
      await owner.exited;
    }
    await nodeIs("n2", "True");
    await awaitReady(cluster, NS, ["refused"], 120);
    await cluster.stopDaemon("n2", "calico", "SIGKILL");
    cluster.startDaemon("n2", "calico");
    await waitFor("calico node of n2", 60, () => cluster.calicoReady("n2"));
  });
});

describe("what the runtimes ask of the plugins", () => {
  const told = NODES.flatMap((node) => [`told-${node}`, `broken-${node}`]);
  let recorders: ReadonlyMap<string, Recorder>;
  let recorded: ReadonlyMap<string, readonly Call[]>;

  beforeAll(async () => {
    recorders = new Map(NODES.map((node) => [node, new Recorder(cluster.node(node))]));
    for (const recorder of recorders.values()) recorder.start();
    await cluster.apply(
      ...NODES.flatMap((node) => [
        pod({ namespace: NS, name: `told-${node}`, node }),
        pod({ namespace: NS, name: `broken-${node}`, node, command: ["/no/such/program"] }),
      ]),
    );
    await awaitReady(
      cluster,
      NS,
      NODES.map((node) => `told-${node}`),
    );
    for (const node of NODES)
      await waitFor("the start to fail", 60, async () =>
        (await warnings(`broken-${node}`)).includes("/no/such/program"),
      );
    await cluster.kubectl(["delete", "pod", "-n", NS, ...told, "--timeout=60s"]);
    const all = (): readonly Call[] => [...recorders.values()].flatMap((recorder) => recorder.calls());
    const isLast =
      (name: string) =>
      (call: Call): boolean =>
        isOf(call, name) && call.plugin === "calico" && call.command === "DEL" && call.netns === "";
    // The kubelet removes a dead sandbox within a minute.
    await waitFor(
      "the last DEL of each pod",
      120,
      () => told.every((name) => all().some(isLast(name))),
      async () =>
        all()
          .map(({ plugin, command, netns, args }) => `${plugin} ${command} ${netns} ${args}`)
          .join("\n"),
    );
    // The kubelet asks for the runtime's status every few seconds.
    await waitFor(
      "STATUS to be asked again on n2",
      120,
      () =>
        (recorders.get("n2")?.calls() ?? []).filter(
          ({ plugin, command }) => plugin === "calico" && command === "STATUS",
        ).length > 1,
    );
    recorded = new Map([...recorders].map(([node, recorder]) => [node, recorder.calls()]));
  });

  afterAll(() => {
    for (const recorder of recorders.values()) recorder.stop();
  });

  for (const node of NODES) {
    const runtime = node === "n1" ? "containerd 1" : "containerd 2";
    const callsOf = (plugin: Call["plugin"], command: string, name?: string): readonly Call[] =>
      (recorded.get(node) ?? []).filter(
        (call) => call.plugin === plugin && call.command === command && (name === undefined || isOf(call, name)),
      );
    const pair = [`told-${node}`, `broken-${node}`];

    test(`${runtime}: every call is answered with success`, () => {
      expect(
        recorded
          .get(node)
          ?.filter(({ exitCode }) => exitCode !== 0)
          .map(({ plugin, command, stdout }) => `${plugin} ${command}: ${stdout}`),
      ).toEqual([]);
    });

    test(`${runtime}: each sandbox has one ADD, in the node's version, answered with both families`, () => {
      for (const name of pair) {
        const added = callsOf("calico", "ADD", name);
        expect(added.map(({ config }) => config.cniVersion)).toEqual([cluster.node(node).cniVersion]);
        const { cniVersion, ips } = JSON.parse(added[0]?.stdout ?? "{}") as {
          cniVersion: string;
          ips: readonly { address: string }[];
        };
        expect(cniVersion).toBe(cluster.node(node).cniVersion);
        expect(ips.map(({ address }) => address.split("/")[1])).toEqual(["32", "128"]);
      }
    });

    test(`${runtime}: DEL comes with namespace and prevResult, and again without either`, () => {
      for (const name of pair) {
        const deleted = callsOf("calico", "DEL", name);
        expect(deleted.some(({ netns, config }) => netns !== "" && config.prevResult !== undefined)).toBe(true);
        expect(deleted.some(({ netns, config }) => netns === "" && config.prevResult === undefined)).toBe(true);
      }
    });

    test(`${runtime}: STATUS is ${node === "n1" ? "never asked" : "asked again and again"}, CHECK and GC never`, () => {
      const asked = callsOf("calico", "STATUS").length;
      if (node === "n1") expect(asked).toBe(0);
      else expect(asked).toBeGreaterThan(1);
      for (const command of ["CHECK", "GC"]) expect(callsOf("calico", command)).toEqual([]);
    });

    test(`${runtime}: loopback is called for each pod: ${node === "n1" ? "Debian's, which cni install has kept" : "ours"}`, () => {
      for (const name of pair) {
        const added = callsOf("loopback", "ADD", name);
        expect(added.length).toBe(1);
        expect(added[0]?.stdout.replace(/\s/g, "")).toMatch(/"address":"127\.0\.0\.1\/8".*"address":"::1\/128"/);
      }
    });
  }
});

test("a pod speaks to itself over its loopback, of both families, on both nodes", async () => {
  for (const name of NODES) {
    const { cniBinDir } = cluster.node(name);
    const ours = statSync(`${cniBinDir}/loopback`).size === statSync(`${cniBinDir}/calico`).size;
    expect(ours).toBe(name === "n2");
    const [found] = await awaitReady(cluster, NS, [`waits-${name}`]);
    expect(found).toBeDefined();
    for (const address of ["127.0.0.1", "::1"])
      expect(await answers(cluster, NS, `waits-${name}`, urlOf(address))).toBe(true);
  }
});
