/** A dual-stack lab whose pools are small: how nodes share them, what settings of address management do, and a datastore that is marked not ready. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { execute, Lab, LAB_API, type LabPod, list, namespace, serverPod, until } from "./fixture.ts";

const lab = new Lab();
beforeAll(() => lab.up("--dual-stack", "--nodes", "2"), 180_000);
afterAll(() => lab.down(), 60_000);

const NS = "addresses";
const PLATFORM_HANDLE = "windows-reserved-ipam-handle";

function pod(name: string, node: string): object {
  return serverPod(NS, name, { app: name }, 80, { nodeName: node });
}

function pool(name: string, spec: object): object {
  return { apiVersion: "projectcalico.org/v3", kind: "IPPool", metadata: { name }, spec };
}

async function gone(...names: readonly string[]): Promise<void> {
  await lab.must("delete", "pod", "-n", NS, ...names);
  await until("the daemons to have told the datastore everything", async () => {
    const backlogs = await Promise.all(
      ["n1", "n2"].map(async (name) => (await lab.daemon(await lab.node(name)).catch(() => undefined))?.backlog),
    );
    return backlogs.every((backlog) => backlog === 0);
  });
}

/** Every address that blocks record: its holder's handle. */
async function holders(): Promise<readonly string[]> {
  const { items } = JSON.parse(await lab.must("get", "ipamblocks", "-o", "json")) as {
    items: { spec: { allocations: (number | null)[]; attributes: { handle_id: string }[] } }[];
  };
  return items.flatMap(({ spec }) =>
    spec.allocations.flatMap((index) => (index === null ? [] : (spec.attributes[index]?.handle_id ?? ""))),
  );
}

beforeAll(async () => {
  await lab.apply(
    list(
      namespace(NS),
      pool("small4", { cidr: "10.77.0.0/30", blockSize: 30 }),
      pool("small6", { cidr: "fd00:77::/126", blockSize: 126 }),
    ),
  );
  for (const name of ["default-ipv4-ippool", "default-ipv6-ippool"])
    await lab.must("patch", "ippool", name, "--type=merge", "-p", '{"spec":{"disabled":true}}');
}, 60_000);

describe("what upstream's tools read", () => {
  test("the cluster, the node's addresses with the length of their subnet, and the sessions of both families", async () => {
    const cluster = JSON.parse(await lab.must("get", "clusterinformation", "default", "-o", "json")) as {
      spec: object;
    };
    expect(cluster.spec).toEqual({
      clusterGUID: expect.stringMatching(/^[0-9a-f]{32}$/),
      clusterType: "k8s,bgp,kdd",
      calicoVersion: expect.stringMatching(/^\d/),
      datastoreReady: true,
    });
    await lab.must("get", "kubecontrollersconfiguration", "default");
    const node = await lab.node("n1");
    const { metadata } = JSON.parse(await lab.must("get", "node", "n1", "-o", "json")) as {
      metadata: { annotations: object };
    };
    expect(metadata.annotations).toMatchObject({
      "projectcalico.org/IPv4Address": "172.30.0.11/24",
      "projectcalico.org/IPv6Address": "fd00:30::11/64",
    });
    expect(await Bun.file(`/proc/${node.pid}/cmdline`).text()).toStartWith("calico-node\0");
    const { stdout } = await execute([
      "birdc",
      "-r",
      "-s",
      `${node.root}/var/run/calico/bird.ctl`,
      "show",
      "protocols",
    ]);
    expect(stdout).toMatch(/^name +proto +table +state +since +info$/m);
    for (const peer of ["172_30_0_12", "fd00:30::12"])
      expect(stdout).toMatch(new RegExp(`^Mesh_${peer} BGP --- up \\S+ Established$`, "m"));
  }, 60_000);
});

describe("a pool of four addresses in one block", () => {
  test("serves the second node with all that the first does not use", async () => {
    await lab.apply(list(pod("first", "n1")));
    await lab.pods(NS, "first");
    await lab.apply(list(pod("second", "n2"), pod("third", "n2"), pod("fourth", "n2")));
    const pods = [...(await lab.pods(NS, "first")), ...(await lab.pods(NS, "second", "third", "fourth"))];
    const addresses = pods.flatMap((one) => one.addresses);
    expect(addresses.filter((address) => address.startsWith("10.77.0.")).toSorted()).toEqual([
      "10.77.0.0",
      "10.77.0.1",
      "10.77.0.2",
      "10.77.0.3",
    ]);
    expect(new Set(addresses).size).toBe(8);
    expect((await holders()).filter((handle) => handle === PLATFORM_HANDLE)).toEqual([]);
    const [first, second] = pods as [LabPod, LabPod];
    for (const address of second.addresses)
      await until(`${address} to answer`, async () => lab.connects(first, address, 80));
    await gone("first", "second", "third", "fourth");
  }, 120_000);
});

describe("settings", () => {
  test("IPReservation: its addresses are assigned only on request", async () => {
    await lab.apply(
      JSON.stringify({
        apiVersion: "projectcalico.org/v3",
        kind: "IPReservation",
        metadata: { name: "r" },
        spec: { reservedCIDRs: ["10.77.0.0/31", "10.77.0.2", "fd00:77::/127", "fd00:77::2/128"] },
      }),
    );
    await lab.apply(list(pod("one", "n1")));
    const [one] = (await lab.pods(NS, "one")) as [LabPod];
    expect([...one.addresses]).toEqual(["10.77.0.3", "fd00:77::3"]);
    const asks = pod("asks", "n1") as { metadata: Record<string, unknown> };
    asks.metadata["annotations"] = { "cni.projectcalico.org/ipAddrs": '["10.77.0.1","fd00:77::1"]' };
    await lab.apply(list(asks));
    const [asked] = (await lab.pods(NS, "asks")) as [LabPod];
    expect([...asked.addresses]).toEqual(["10.77.0.1", "fd00:77::1"]);
    await gone("one", "asks");
    await lab.must("delete", "ipreservation", "r");
  }, 120_000);

  test("IPAMConfiguration: what contradicts itself is refused, naming the field", async () => {
    const apply = (spec: object, name = "default") =>
      execute(["kubectl", "apply", "-f", "-"], {
        input: JSON.stringify({
          apiVersion: "projectcalico.org/v3",
          kind: "IPAMConfiguration",
          metadata: { name },
          spec,
        }),
        env: { KUBECONFIG: lab.kubeconfig },
      });
    expect((await apply({ autoAllocateBlocks: false })).stderr).toContain("spec.autoAllocateBlocks");
    expect((await apply({ maxBlocksPerHost: 2 })).stderr).toContain("spec.maxBlocksPerHost");
    expect((await apply({}, "other")).stderr).toContain("metadata.name must be default");
    expect((await apply({ strictAffinity: true, maxBlocksPerHost: 2, autoAllocateBlocks: false })).exitCode).toBe(0);
    await lab.must("delete", "ipamconfiguration", "default");
  }, 60_000);
});

describe("settings that have no effect", () => {
  test("warn at admission, and are in an Event and in the status of the nodes", async () => {
    const wanted =
      "spec.natOutgoing: true has no effect: packets that leave the pool keep the pod's address: the network must route it";
    const { stderr } = await lab.kubectl(
      "patch",
      "ippool",
      "small4",
      "--type=merge",
      "-p",
      '{"spec":{"natOutgoing":true,"vxlanMode":"Always"}}',
    );
    if (LAB_API === "embedded") {
      expect(stderr).toContain(`Warning: ${wanted}`);
      expect(stderr).toContain("Warning: spec.vxlanMode");
    }
    const event = await until("the Event", async () => {
      const { stdout } = await lab.kubectl(
        "get",
        "events",
        "-o",
        "jsonpath={range .items[?(@.reason=='WithoutEffect')]}{.involvedObject.name}: {.message}{end}",
      );
      return stdout === "" ? undefined : stdout;
    });
    expect(event).toStartWith("small4: ");
    expect(event).toContain(wanted);
    for (const name of ["n1", "n2"]) {
      const { withoutEffect } = (await lab.daemon(await lab.node(name))) as {
        readonly withoutEffect?: readonly string[];
      };
      expect(withoutEffect).toContain(`IPPool/small4 ${wanted}`);
    }
    await lab.must(
      "patch",
      "ippool",
      "small4",
      "--type=merge",
      "-p",
      '{"spec":{"natOutgoing":false,"vxlanMode":"Never"}}',
    );
    await until(
      "the status to forget it",
      async () =>
        ((await lab.daemon(await lab.node("n1"))) as { readonly withoutEffect?: readonly string[] }).withoutEffect
          ?.length === 0,
    );
  }, 60_000);
});

describe("a datastore that is marked not ready", () => {
  test("starts no pod and takes in no policy until it is ready; pods that go are let go", async () => {
    await lab.apply(list(pod("client", "n1"), pod("server", "n2")));
    const [client, server] = (await lab.pods(NS, "client", "server")) as [LabPod, LabPod];
    const reaches = (): Promise<boolean> => lab.connects(client, server.addresses[0] ?? "", 80);
    await until("the client to reach the server", reaches);
    const daemons = async () =>
      Promise.all(
        ["n1", "n2"].map(async (name) => (await lab.daemon(await lab.node(name))) as { readonly datastore?: string }),
      );
    const pids = async () => Promise.all(["n1", "n2"].map(async (name) => (await lab.node(name)).pid));
    await lab.must("patch", "clusterinformation", "default", "--type=merge", "-p", '{"spec":{"datastoreReady":false}}');
    await until("the daemons to hear of it", async () =>
      (await daemons()).every(({ datastore }) => datastore?.includes("datastoreReady") === true),
    );
    const before = await pids();
    await lab.apply(
      list(
        {
          apiVersion: "networking.k8s.io/v1",
          kind: "NetworkPolicy",
          metadata: { name: "deny", namespace: NS },
          spec: { podSelector: {}, policyTypes: ["Ingress"] },
        },
        pod("late", "n1"),
      ),
    );
    const refusal = await until("the late pod's refusal", async () => {
      const { stdout } = await lab.kubectl("get", "events", "-n", NS, "-o", "jsonpath={.items[*].message}");
      return stdout.includes("datastoreReady") ? stdout : undefined;
    });
    expect(refusal).toContain('spec.datastoreReady of ClusterInformation "default" is false');
    expect(await reaches()).toBe(true);
    expect(await pids()).toEqual(before);
    await lab.must("patch", "clusterinformation", "default", "--type=merge", "-p", '{"spec":{"datastoreReady":true}}');
    await until("the policy to take effect", async () => !(await reaches()));
    await lab.pods(NS, "late");
    await lab.must("delete", "networkpolicy", "-n", NS, "deny");
    await gone("client", "server", "late");
  }, 120_000);
});
