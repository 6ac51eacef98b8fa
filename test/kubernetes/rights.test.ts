/**
 * Each right of the role in `manifests/calico-node.yaml`, taken away: something breaks, `calico node` says which right it misses, and
 * goes on by itself when it has it again.
 *
 * Rights that one action needs are taken away together. Whichever the daemon names is given back, until the action succeeds; a right
 * that was never named is one that nothing needs.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { attachCluster, type Cluster } from "./cluster/cluster.ts";
import type { NodeLayout } from "./cluster/layout.ts";
import { callPlugin } from "./cluster/plugin.ts";
import { type Output, waitFor } from "./cluster/run.ts";
import { addressesOf, answers, awaitReady, namespace, pod, type Pod, removeNamespace, urlOf } from "./objects.ts";

const NS = "rights";
const NODE = "n1";
const ROLE = "calico-node";
const MANIFEST = new URL("../../manifests/calico-node.yaml", import.meta.url).pathname;
const POOLS = [
  ["rights4", "10.94.0.0/24"],
  ["rights6", "fd00:94::/112"],
] as const;
/** Longest wait between two attempts of the daemon, and a busy machine. */
const PATIENCE_S = 40;

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

interface Role {
  readonly rules: readonly Rule[];
}

interface Attempt {
  readonly succeeded: boolean;
  /** What the daemon says meanwhile. */
  readonly words: string;
}

let cluster: Cluster;
let at: NodeLayout;
let granted: readonly string[];
let rules: readonly Rule[];
let serial = 0;
/** Rights that the daemon missed and named. */
const named = new Set<string>();

beforeAll(async () => {
  cluster = await attachCluster();
  at = cluster.node(NODE);
  ({ rules } = await cluster.get<Role>(["clusterrole", ROLE]));
  granted = rules.flatMap(({ resources, verbs }) =>
    resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}`)),
  );
  await cluster.apply(namespace(NS));
  await cluster.apply(
    ...["server", "client"].map((name) =>
      pod({ namespace: NS, name, labels: { app: name }, node: name === "server" ? NODE : "n2" }),
    ),
  );
  await awaitReady(cluster, NS, ["server", "client"]);
});

afterAll(async () => {
  await cluster.kubectl(["apply", "-f", MANIFEST]);
  await cluster.kubectl(["delete", "ippools", "--ignore-not-found", ...POOLS.map(([name]) => name)]);
  await removeNamespace(cluster, NS);
});

/** The role is what it was, less these rights. */
async function grantAllBut(missing: ReadonlySet<string>): Promise<void> {
  const left = rules.flatMap(({ apiGroups, resources, verbs }) =>
    resources.map((resource) => ({
      apiGroups,
      resources: [resource],
      verbs: verbs.filter((verb) => !missing.has(`${verb} ${resource}`)),
    })),
  );
  await cluster.kubectl(
    ["replace", "-f", "-"],
    JSON.stringify({
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata: { name: ROLE },
      rules: left.filter(({ verbs }) => verbs.length > 0),
    }),
  );
}

/** The API server goes by the role as it is now. */
async function isDenied(right: string): Promise<boolean> {
  const [verb = "", resource = ""] = right.split(" ");
  const [plural = "", subresource] = resource.split("/");
  const { stdout } = await cluster.tryKubectl([
    "auth",
    "can-i",
    verb,
    plural,
    ...(subresource === undefined ? [] : [`--subresource=${subresource}`]),
    "-A",
    `--as=system:serviceaccount:kube-system:${ROLE}`,
  ]);
  return stdout.trim() === "no";
}

/** These rights, if the role grants them all. */
function rights(...wanted: readonly string[]): ReadonlySet<string> {
  for (const right of wanted)
    if (!granted.includes(right)) throw new Error(`the role does not grant ${JSON.stringify(right)}`);
  return new Set(wanted);
}

/** Takes the rights away, makes attempts, gives back what they name, until one succeeds; the daemon lives on after the first. */
async function without(missing: ReadonlySet<string>, attempt: () => Promise<Attempt>): Promise<void> {
  const left = new Set(missing);
  await grantAllBut(left);
  const [first = ""] = left;
  await waitFor(`${first} to be denied`, 30, () => isDenied(first));
  let words = "";
  let pid: number | undefined;
  await waitFor(
    "the action to succeed in the end",
    120,
    async () => {
      const now = await attempt();
      words = now.words;
      pid ??= cluster.daemons.pid(`${NODE}-calico`);
      const found = [...left].filter((right) => words.includes(`cannot ${right.replace(" ", ' resource "')}"`));
      for (const right of found) {
        named.add(right);
        left.delete(right);
      }
      if (found.length > 0) await grantAllBut(left);
      return found.length === 0 && now.succeeded;
    },
    async () => `${[...left].join(", ")} missing; ${words.slice(-1500)}`,
  );
  expect([...left]).toEqual([]);
  expect(cluster.daemons.pid(`${NODE}-calico`)).toBe(pid ?? 0);
}

async function readiness(): Promise<{ readonly ready: boolean; readonly text: string }> {
  const { isOk, text } = await health("readiness");
  return { ready: isOk, text };
}

async function health(path: string): Promise<{ readonly isOk: boolean; readonly text: string }> {
  const { exitCode, stdout } = await cluster.nodeExec(NODE, [
    "wget",
    "-q",
    "-T",
    "2",
    "-t",
    "1",
    "--content-on-error",
    "-O",
    "-",
    `http://127.0.0.1:${at.healthPort}/${path}`,
  ]);
  // The text is JSON: what the server said is quoted in it.
  return { isOk: exitCode === 0, text: stdout.replaceAll('\\"', '"') };
}

/** What the daemon has logged since a moment; quotes as they were. */
function logSince(): () => string {
  const file = cluster.daemons.logFile(`${NODE}-calico`);
  const from = readFileSync(file).length;
  return () => readFileSync(file).subarray(from).toString().replaceAll('\\"', '"');
}

function plugin(command: "ADD" | "DEL", podName: string, containerId: string): Promise<Output> {
  return callPlugin(at, { command, namespace: NS, pod: podName, containerId });
}

/** A Pod that nobody runs: its addresses are asked for by `plugin`. */
function unscheduled(name: string, annotations: Readonly<Record<string, string>> = {}): object {
  const made = pod({ namespace: NS, name, spec: { schedulerName: "nobody" } }) as { metadata: object };
  return { ...made, metadata: { ...made.metadata, annotations } };
}

async function serverIs(open: boolean): Promise<void> {
  const server = await cluster.get<Pod>(["pod", "-n", NS, "server"]);
  for (const address of addressesOf(server))
    await waitFor(
      `the server to be ${open ? "open" : "closed"} at ${address}`,
      PATIENCE_S,
      async () => (await answers(cluster, NS, "client", urlOf(address))) === open,
    );
}

const WATCHED = [
  "namespaces",
  "serviceaccounts",
  "networkpolicies",
  "pods",
  "nodes",
  "ippools",
  "ipamblocks",
  "ipreservations",
  "ipamconfigurations",
  "clusterinformations",
  "kubecontrollersconfigurations",
  "tiers",
  "globalnetworkpolicies",
  "networksets",
  "globalnetworksets",
  "hostendpoints",
  "felixconfigurations",
  "endpointslices",
  "clusternetworkpolicies",
  "workloadendpoints",
  "profiles",
  "adminnetworkpolicies",
  "baselineadminnetworkpolicies",
  "stagednetworkpolicies",
  "stagedglobalnetworkpolicies",
  "stagedkubernetesnetworkpolicies",
];

describe("without a right", () => {
  test.each(["list", "watch"])(
    "to %s, a daemon that starts is not ready and reports why, as does CNI",
    async (verb) => {
      let started = false;
      let told = "";
      await without(rights(...WATCHED.map((resource) => `${verb} ${resource}`)), async () => {
        if (!started) {
          await cluster.stopDaemon(NODE, "calico");
          cluster.startDaemon(NODE, "calico");
          started = true;
          await waitFor(
            "the daemon to say what it misses",
            60,
            async () =>
              WATCHED.every((resource) => told.includes(`"${resource}"`)) || ((told = (await readiness()).text), false),
            async () => told,
          );
          expect(told).toContain('"ready":false');
          expect(told).toContain(`ClusterRole "calico-node" must grant ${verb} of tiers (manifests/calico-node.yaml)`);
          const { stdout } = await plugin("ADD", "server", "rights-early");
          expect(stdout).toContain(`cannot ${verb} resource "networkpolicies"`);
          await plugin("DEL", "server", "rights-early");
          return { succeeded: false, words: told };
        }
        const { ready, text } = await readiness();
        return { succeeded: ready && text.includes('"datastoreErrors":[]'), words: text };
      });
      const policy = {
        apiVersion: "networking.k8s.io/v1",
        kind: "NetworkPolicy",
        metadata: { namespace: NS, name: "closed" },
        spec: { podSelector: { matchLabels: { app: "server" } }, policyTypes: ["Ingress"] },
      };
      await cluster.apply(policy);
      await serverIs(false);
      await cluster.kubectl(["delete", "networkpolicy", "-n", NS, "closed"]);
      await serverIs(true);
    },
  );

  test("to staged policies, as with an older role, a daemon that starts is ready; that nothing counts them is told", async () => {
    const staged = WATCHED.filter((resource) => resource.startsWith("staged"));
    await grantAllBut(rights(...staged.flatMap((resource) => [`list ${resource}`, `watch ${resource}`])));
    await waitFor("list stagednetworkpolicies to be denied", 30, () => isDenied("list stagednetworkpolicies"));
    await cluster.stopDaemon(NODE, "calico");
    cluster.startDaemon(NODE, "calico");
    await waitFor(
      "the daemon to be ready",
      PATIENCE_S,
      async () => (await readiness()).ready,
      async () => (await readiness()).text,
    );
    const places = [(await health("status")).text, (await health("counters")).text, (await readiness()).text];
    for (const text of places)
      for (const resource of staged)
        expect(text).toMatch(
          new RegExp(`cannot list resource "${resource}".*must grant list of ${resource} .*: going on without`),
        );
    await waitFor("the Events", PATIENCE_S, async () => {
      const events = await cluster.kubectl([
        "get",
        "events",
        "--field-selector=reason=KindNotReadable",
        "-o",
        "jsonpath={.items[*].message}",
      ]);
      return staged.every((resource) => events.includes(`${resource}: Cannot list`));
    });
    await grantAllBut(new Set());
    await waitFor("the daemon to read them", 120, async () =>
      (await readiness()).text.includes('"datastoreErrors":[]'),
    );
    expect((await health("counters")).text).toContain('"unknown":[]');
  });

  test("to keep addresses, ADD fails with the reason; DEL succeeds and the log has the reason why the addresses are not free", async () => {
    const annotations = {
      "cni.projectcalico.org/ipv4pools": '["rights4"]',
      "cni.projectcalico.org/ipv6pools": '["rights6"]',
    };
    await cluster.apply(
      ...POOLS.map(([name, cidr]) => ({
        apiVersion: "projectcalico.org/v3",
        kind: "IPPool",
        metadata: { name },
        spec: { cidr, nodeSelector: "!all()" },
      })),
      unscheduled("asks", annotations),
    );
    const needed = rights(
      "get nodes",
      "get ipamconfigurations",
      "list blockaffinities",
      "get blockaffinities",
      "create blockaffinities",
      "update blockaffinities",
      "create ipamblocks",
      "get ipamblocks",
      "update ipamblocks",
      "get ipamhandles",
      "create ipamhandles",
      "update ipamhandles",
    );
    let container = "";
    await without(needed, async () => {
      container = `rights-${++serial}`;
      const { exitCode, stdout } = await plugin("ADD", "asks", container);
      return { succeeded: exitCode === 0, words: stdout };
    });
    const log = logSince();
    expect((await plugin("DEL", "asks", container)).exitCode).toBe(0);
    const held = async (): Promise<boolean> =>
      (await cluster.kubectl(["get", "ipamhandles"])).includes(`k8s-pod-network.${container}`);
    await waitFor(
      "the addresses to be free",
      PATIENCE_S,
      async () => !(await held()),
      async () => log(),
    );
  });

  test("to delete what it kept, the log reports it", async () => {
    // The addresses of a container, and the blocks of a pool that is gone.
    const log = logSince();
    let container = "";
    await without(rights("delete ipamhandles", "delete ipamblocks", "delete blockaffinities"), async () => {
      if (container === "") {
        container = "rights-passes";
        // In blocks of pools that do not serve the node by themselves, whether or not it still has those.
        expect((await plugin("ADD", "asks", container)).exitCode).toBe(0);
        await waitFor(
          "the handle",
          PATIENCE_S,
          async () => (await cluster.kubectl(["get", "ipamhandles"])).includes(container),
          async () => log(),
        );
        expect((await plugin("DEL", "asks", container)).exitCode).toBe(0);
        await cluster.kubectl(["delete", "ippools", ...POOLS.map(([name]) => name)]);
      }
      const left = await cluster.kubectl([
        "get",
        "ipamblocks,blockaffinities,ipamhandles",
        "-o",
        "jsonpath={.items[*].spec}",
      ]);
      return {
        succeeded: !left.includes("10.94.0.") && !left.includes("fd00:94::") && !left.includes(container),
        words: log(),
      };
    });
  });

  test("to a Pod's annotations and its state, the pod still runs and the log reports it", async () => {
    const log = logSince();
    const annotated = async (): Promise<boolean> =>
      (await cluster.get<Pod>(["pod", "-n", NS, "annotated"])).metadata.annotations?.[
        "cni.projectcalico.org/podIPs"
      ] !== undefined;
    await without(rights("patch pods/status"), async () => {
      await cluster.apply(pod({ namespace: NS, name: "annotated", node: NODE }));
      await awaitReady(cluster, NS, ["annotated"]);
      return { succeeded: await annotated(), words: log() };
    });
    const later = logSince();
    let container = "";
    await without(rights("get pods"), async () => {
      if (container === "") {
        container =
          (await cluster.get<Pod>(["pod", "-n", NS, "annotated"])).metadata.annotations?.[
            "cni.projectcalico.org/containerID"
          ] ?? "";
        expect(container).not.toBe("");
        await cluster.kubectl(["delete", "pod", "-n", NS, "annotated", "--timeout=60s"]);
      }
      return { succeeded: !(await cluster.kubectl(["get", "ipamhandles"])).includes(container), words: later() };
    });
  });

  test("to create events, the log reports it together with the content of the Event", async () => {
    const log = logSince();
    await without(rights("create events"), async () => {
      const pool = {
        apiVersion: "projectcalico.org/v3",
        kind: "IPPool",
        metadata: { name: "rights-unreadable", labels: { attempt: String(++serial) } },
        spec: { cidr: "10.93.0.0/24", nodeSelector: "rack ==" },
      };
      await cluster.apply(pool);
      const events = await cluster.kubectl([
        "get",
        "events",
        "-A",
        "--field-selector=reason=InvalidPool,involvedObject.name=rights-unreadable",
        "-o",
        "jsonpath={.items[*].message}",
      ]);
      if (events !== "") await cluster.kubectl(["delete", "ippool", "rights-unreadable"]);
      return { succeeded: events !== "", words: log() };
    });
  });

  test("to describe the cluster and the node, it still serves pods and the log reports it", async () => {
    const described = async (): Promise<boolean> => {
      const { stdout } = await cluster.tryKubectl([
        "get",
        "clusterinformation/default",
        "kubecontrollersconfiguration/default",
        "tier/kube-baseline",
        "-o",
        "jsonpath={.items[*].kind} {.items[*].spec.calicoVersion}",
      ]);
      const node = await cluster.get<{ metadata: { annotations?: Record<string, string> } }>(["node", NODE]);
      return (
        /^ClusterInformation KubeControllersConfiguration Tier ([1-9]|0\.\d)/.test(stdout) &&
        node.metadata.annotations?.["projectcalico.org/IPv4Address"]?.startsWith("10.9.9.9") === false
      );
    };
    for (const [needed, prepare] of [
      [
        [
          "get clusterinformations",
          "create clusterinformations",
          "get kubecontrollersconfigurations",
          "create kubecontrollersconfigurations",
          "create tiers",
          "patch nodes/status",
        ],
        [
          "delete",
          "clusterinformation/default",
          "kubecontrollersconfiguration/default",
          "tier/default",
          "tier/kube-admin",
          "tier/kube-baseline",
        ],
      ],
      [
        ["update clusterinformations"],
        ["patch", "clusterinformation", "default", "--type=merge", "-p", '{"spec":{"calicoVersion":"unknown"}}'],
      ],
    ] as const) {
      const log = logSince();
      let started = false;
      await without(rights(...needed), async () => {
        if (!started) {
          await cluster.kubectl([...prepare]);
          await cluster.kubectl(["annotate", "node", NODE, "--overwrite", "projectcalico.org/IPv4Address=10.9.9.9/32"]);
          await cluster.stopDaemon(NODE, "calico");
          cluster.startDaemon(NODE, "calico");
          started = true;
          await waitFor(
            "the daemon to be ready",
            PATIENCE_S,
            async () => (await readiness()).ready,
            async () => log(),
          );
        }
        return { succeeded: await described(), words: log() };
      });
    }
  });

  test("to say which policies the kernel has, it still enforces them and the log reports it", async () => {
    const policy = "rights-told";
    const object = async (): Promise<string> =>
      (await cluster.tryKubectl(["get", "nodepolicystatus", NODE, "-o", "json"])).stdout;
    const restart = async (): Promise<void> => {
      await cluster.kubectl(["delete", "nodepolicystatus", NODE, "--ignore-not-found"]);
      await cluster.stopDaemon(NODE, "calico");
      cluster.startDaemon(NODE, "calico");
    };
    const change = (): Promise<unknown> =>
      cluster.apply({
        apiVersion: "projectcalico.org/v3",
        kind: "GlobalNetworkPolicy",
        metadata: { name: policy },
        spec: { selector: "app == 'server'", types: ["Ingress"], ingress: [{ action: "Allow" }] },
      });
    for (const [needed, begin, said] of [
      [["get nodepolicystatuses", "create nodepolicystatuses"], restart, "observed"],
      [["update nodepolicystatuses"], change, policy],
    ] as const) {
      const log = logSince();
      let begun = false;
      await without(rights(...needed), async () => {
        if (!begun) await begin();
        begun = true;
        return { succeeded: (await object()).includes(said), words: log() };
      });
    }
    await cluster.kubectl(["delete", "globalnetworkpolicy", policy]);
  });

  test("every granted permission is needed", () => {
    expect(granted.filter((right) => !named.has(right))).toEqual([]);
  });
});
