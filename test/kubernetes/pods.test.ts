/** Pods by a real kubelet and containerd: addresses, reachability, their lives and ends. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync, rmSync } from "node:fs";
import { attachCluster, type Cluster } from "./cluster/cluster.ts";
import { run, waitFor } from "./cluster/run.ts";
import { ctr } from "./cluster/node.ts";
import {
  addressesOf,
  answers,
  awaitReady,
  holders,
  isReady,
  namespace,
  pod,
  type Pod,
  pods,
  podTemplate,
  removeNamespace,
  urlOf,
} from "./objects.ts";

const NS = "pods";
/** containerd 1 and containerd 2. */
const NODES = ["n1", "n2"] as const;
let cluster: Cluster;

beforeAll(async () => {
  cluster = await attachCluster();
  await cluster.apply(namespace(NS));
});

afterAll(async () => {
  await removeNamespace(cluster, NS);
});

interface Block {
  readonly spec: { readonly cidr: string };
}

describe("two pods on two nodes", () => {
  let a: Pod;
  let b: Pod;

  beforeAll(async () => {
    await cluster.apply(pod({ namespace: NS, name: "a", node: "n1" }), pod({ namespace: NS, name: "b", node: "n2" }));
    const [first, second] = await awaitReady(cluster, NS, ["a", "b"]);
    if (first === undefined || second === undefined) throw new Error("not both pods are there");
    [a, b] = [first, second];
  });

  test("have addresses of our pools, of both families", () => {
    for (const found of [a, b]) {
      const [ipv4, ipv6] = addressesOf(found);
      expect(ipv4).toStartWith("10.65.");
      expect(ipv6).toStartWith("fd00:65:");
    }
  });

  test("say their addresses in upstream's annotations", async () => {
    await waitFor(
      "the annotations of pod a",
      10,
      async () =>
        (await cluster.get<Pod>(["pod", "-n", NS, "a"])).metadata.annotations?.["cni.projectcalico.org/podIPs"] !==
        undefined,
    );
    const { metadata } = await cluster.get<Pod>(["pod", "-n", NS, "a"]);
    expect(metadata.annotations?.["cni.projectcalico.org/podIPs"]).toBe(
      `${addressesOf(a)[0]}/32,${addressesOf(a)[1]}/128`,
    );
  });

  test("reach each other over both families, by ping and HTTP", async () => {
    for (const address of addressesOf(b)) {
      await waitFor(
        `ping of ${address}`,
        20,
        async () => (await cluster.exec(NS, "a", ["ping", "-c", "1", "-W", "1", address])).exitCode === 0,
      );
      expect(await answers(cluster, NS, "a", urlOf(address))).toBe(true);
    }
    for (const address of addressesOf(a)) expect(await answers(cluster, NS, "b", urlOf(address))).toBe(true);
  });

  test("are seen with their own addresses, without translation", async () => {
    const { stdout } = await cluster.exec(NS, "a", ["ip", "-o", "addr", "show", "dev", "eth0"]);
    for (const address of addressesOf(a)) expect(stdout).toContain(address);
  });

  test("DEL again, for a container that is gone, and without namespace, succeeds", async () => {
    for (const node of NODES.map((name) => cluster.node(name))) {
      const config = JSON.stringify({ ...(await networkConfiguration(node.cniConfDir)), prevResult: undefined });
      for (let i = 0; i < 3; i++) {
        const del = [
          "env",
          "CNI_COMMAND=DEL",
          `CNI_CONTAINERID=gone-${i % 2}`,
          "CNI_NETNS=",
          "CNI_IFNAME=eth0",
          `CNI_PATH=${node.cniBinDir}`,
          "CNI_ARGS=K8S_POD_NAMESPACE=pods;K8S_POD_NAME=gone;IgnoreUnknown=1",
          `${node.cniBinDir}/calico`,
        ];
        expect(await run(del, config)).toBe("");
      }
    }
    expect(await answers(cluster, NS, "a", urlOf(addressesOf(b)[0]))).toBe(true);
  });
});

/** What the runtime passes to the plugin. */
async function networkConfiguration(folder: string): Promise<object> {
  const list: unknown = JSON.parse(await Bun.file(`${folder}/10-calico.conflist`).text());
  const { name, cniVersion, plugins } = list as { name: string; cniVersion: string; plugins: readonly object[] };
  return { ...plugins[0], name, cniVersion };
}

describe("lives of pods", () => {
  test("a deployment spreads over both nodes, and gives every address back when it is deleted", async () => {
    const labels = { app: "spread" };
    await cluster.apply({
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { namespace: NS, name: "spread" },
      spec: {
        replicas: 4,
        selector: { matchLabels: labels },
        template: { metadata: { labels }, spec: podTemplate({}) },
      },
    });
    await cluster.kubectl(["rollout", "status", "-n", NS, "deployment/spread", "--timeout=90s"]);
    const made = await pods(cluster, NS, "app=spread");
    expect(new Set(made.map(({ spec }) => spec.nodeName))).toEqual(new Set(["n1", "n2"]));
    await waitFor(
      "the addresses to be recorded",
      20,
      async () => (await holders(cluster)).filter((name) => name.startsWith("spread-")).length === 8,
    );
    await cluster.kubectl(["delete", "deployment", "-n", NS, "spread", "--cascade=foreground", "--timeout=60s"]);
    await waitFor(
      "the addresses to be given back",
      30,
      async () => (await holders(cluster)).every((name) => !name.startsWith("spread-")),
      async () => (await holders(cluster)).join(" "),
    );
  });

  for (const node of NODES) {
    test(`a pod that finishes gives its address back before it is deleted (${node})`, async () => {
      const name = `finishes-${node}`;
      await cluster.apply(pod({ namespace: NS, name, node, command: ["true"], spec: { restartPolicy: "Never" } }));
      await waitFor(
        "the pod to finish",
        60,
        async () => (await cluster.get<Pod>(["pod", "-n", NS, name])).status.phase === "Succeeded",
      );
      await givenBack(name);
    });

    test(`a container that cannot start leaves the pod its address, and the pod's end takes it (${node})`, async () => {
      const name = `broken-${node}`;
      await cluster.apply(pod({ namespace: NS, name, node, command: ["/no/such/program"] }));
      await waitFor("the start to fail", 60, async () =>
        (
          await cluster.kubectl([
            "get",
            "events",
            "-n",
            NS,
            `--field-selector=involvedObject.name=${name}`,
            "-o",
            "jsonpath={.items[*].message}",
          ])
        ).includes("/no/such/program"),
      );
      expect(await holders(cluster)).toContain(name);
      await cluster.kubectl(["delete", "pod", "-n", NS, name, "--timeout=60s"]);
      await givenBack(name);
    });

    test(`a pod held by a finalizer has given its address back once it is torn down (${node})`, async () => {
      const name = `held-${node}`;
      const held = pod({ namespace: NS, name, node }) as { metadata: object };
      await cluster.apply({ ...held, metadata: { ...held.metadata, finalizers: ["example.org/held"] } });
      await awaitReady(cluster, NS, [name]);
      await cluster.kubectl(["delete", "pod", "-n", NS, name, "--wait=false"]);
      await givenBack(name);
      const { metadata } = await cluster.get<Pod>(["pod", "-n", NS, name]);
      expect(metadata.deletionTimestamp).toBeString();
      expect(metadata.annotations?.["cni.projectcalico.org/podIPs"]).toBe("");
      await cluster.kubectl(["patch", "pod", "-n", NS, name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}']);
    });

    test(`a pod in the host's network has the node's address and none of ours (${node})`, async () => {
      const name = `host-${node}`;
      await cluster.apply(pod({ namespace: NS, name, node, spec: { hostNetwork: true } }));
      const [found] = await awaitReady(cluster, NS, [name]);
      expect(found?.status.podIPs?.map(({ ip }) => ip)).toEqual([...cluster.node(node).addresses]);
      expect(await holders(cluster)).not.toContain(name);
    });

    test(`a static pod is served like any other (${node})`, async () => {
      const name = `static-${node}`;
      const manifest = `${cluster.node(node).root}/manifests/static.json`;
      writeFileSync(manifest, JSON.stringify(pod({ namespace: NS, name: "static" })));
      const [found] = await awaitReady(cluster, NS, [name]);
      expect(found === undefined ? [] : addressesOf(found)[0]).toStartWith("10.65.");
      rmSync(manifest);
      await waitFor(
        "the static pod to end",
        60,
        async () => !(await pods(cluster, NS)).some(({ metadata }) => metadata.name === name),
      );
      await givenBack(name);
    });

    test(`a sandbox that dies is recreated, with rules and address (${node})`, async () => {
      const name = `reborn-${node}`;
      const asks = `asks-${node}`;
      await cluster.apply(
        pod({ namespace: NS, name, node }),
        pod({ namespace: NS, name: asks, node: node === "n1" ? "n2" : "n1" }),
      );
      const [before] = await awaitReady(cluster, NS, [name, asks]);
      const at = cluster.node(node);
      const sandboxes = (
        await run(
          ctr(
            at,
            cluster.binaries,
            "containers",
            "list",
            "-q",
            `labels."io.kubernetes.pod.uid"==${before?.metadata.uid},labels."io.cri-containerd.kind"==sandbox`,
          ),
        )
      )
        .trim()
        .split("\n");
      expect(sandboxes.length).toBe(1);
      await run(ctr(at, cluster.binaries, "tasks", "kill", "-s", "SIGKILL", sandboxes[0] ?? ""));
      await waitFor("the sandbox to be made anew", 90, async () => {
        const now = await cluster.get<Pod>(["pod", "-n", NS, name]);
        return isReady(now) && (now.status.containerStatuses?.[0]?.restartCount ?? 0) > 0;
      });
      const after = await cluster.get<Pod>(["pod", "-n", NS, name]);
      for (const address of addressesOf(after))
        await waitFor(`an answer of ${address}`, 20, () => answers(cluster, NS, asks, urlOf(address)));
    });
  }
});

async function givenBack(name: string): Promise<void> {
  await waitFor(
    "its addresses to be given back",
    60,
    async () => !(await holders(cluster)).includes(name),
    async () => (await holders(cluster)).join(" "),
  );
}

describe("pools", () => {
  const pool = (name: string, cidr: string, nodeSelector = "all()"): object => ({
    apiVersion: "projectcalico.org/v3",
    kind: "IPPool",
    metadata: { name },
    spec: { cidr, nodeSelector },
  });
  const from = (name: string, poolName: string): object => {
    const made = pod({ namespace: NS, name, node: "n1" }) as { metadata: object };
    return {
      ...made,
      metadata: { ...made.metadata, annotations: { "cni.projectcalico.org/ipv4pools": JSON.stringify([poolName]) } },
    };
  };

  test("a node gives the blocks of a pool up when the pool is gone", async () => {
    const blocks = async (): Promise<readonly string[]> =>
      (await cluster.get<{ items: readonly Block[] }>(["ipamblocks"])).items
        .map(({ spec }) => spec.cidr)
        .filter((cidr) => cidr.startsWith("10.97."));
    await cluster.apply(pool("passing", "10.97.0.0/24"), from("passes", "passing"));
    const [found] = await awaitReady(cluster, NS, ["passes"]);
    expect(found === undefined ? "" : addressesOf(found)[0]).toStartWith("10.97.0.");
    expect((await blocks()).length).toBe(1);
    await cluster.kubectl(["delete", "pod", "-n", NS, "passes", "--timeout=60s"]);
    await givenBack("passes");
    await cluster.kubectl(["delete", "ippool", "passing"]);
    await waitFor(
      "the block to be given up",
      30,
      async () => (await blocks()).length === 0,
      async () => (await blocks()).join(" "),
    );
  });

  test("a pool that cannot be used is reported in an Event", async () => {
    await cluster.apply(pool("unreadable", "10.98.0.0/24", "rack =="));
    const message = (): Promise<string> =>
      cluster.kubectl([
        "get",
        "events",
        "-A",
        "--field-selector=reason=InvalidPool,involvedObject.name=unreadable",
        "-o",
        "jsonpath={.items[*].message}",
      ]);
    await waitFor("the Event", 30, async () => (await message()) !== "", message);
    expect(await message()).toContain("The pool gives no addresses");
    await cluster.kubectl(["delete", "ippool", "unreadable"]);
  });
});
