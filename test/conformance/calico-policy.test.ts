/**
 * Calico's policies on a dual-stack lab of three nodes, through kubectl and real packets: tiers, Pass, sets, Services, service accounts, cluster
 * policies, host endpoints, failsafe ports and what pods may send to their node.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { CALICO, execute, Lab, type LabNode, type LabPod, list, namespace, serverPod, until } from "./fixture.ts";

const lab = new Lab();
beforeAll(() => lab.up("--dual-stack"), 180_000);
afterAll(() => lab.down(), 60_000);

const NS = "shop";
const KINDS = [
  "globalnetworkpolicies.projectcalico.org",
  "clusternetworkpolicies.policy.networking.k8s.io",
  "globalnetworksets.projectcalico.org",
  "hostendpoints.projectcalico.org",
  "felixconfigurations.projectcalico.org",
];
/** Made by a test, and none of the lab's own. */
const MADE = "made-by=test";

let client: LabPod;
let stranger: LabPod;
let server: LabPod;
let n1: LabNode;

beforeAll(async () => {
  const pod = (name: string, node: string, extra: object = {}): object =>
    serverPod(NS, name, { app: name }, 80, { nodeName: node, ...extra });
  const account = { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "robot", namespace: NS } };
  await lab.apply(
    list(
      namespace(NS, { team: "blue" }),
      account,
      pod("client", "n1", { serviceAccountName: "robot" }),
      pod("stranger", "n2"),
      pod("server", "n2"),
    ),
  );
  [client, stranger, server] = (await lab.pods(NS, "client", "stranger", "server")) as [LabPod, LabPod, LabPod];
  n1 = await lab.node("n1");
}, 120_000);

afterEach(async () => {
  for (const kind of KINDS) await lab.must("delete", kind, "-l", MADE);
  for (const kind of ["networkpolicies", "workloadendpoints"])
    await lab.must("delete", `${kind}.projectcalico.org`, "-n", NS, "-l", MADE);
  await becomes(stranger, server, true);
}, 60_000);

type Written = { readonly kind: string; readonly name: string; readonly labels?: object; readonly spec: object };

function object({ kind, name, labels = {}, spec }: Written): object {
  const isOfKubernetes = kind === "ClusterNetworkPolicy";
  return {
    apiVersion: isOfKubernetes ? "policy.networking.k8s.io/v1alpha2" : "projectcalico.org/v3",
    kind,
    metadata: {
      name,
      labels: { "made-by": "test", ...labels },
      ...(["NetworkPolicy", "NetworkSet", "WorkloadEndpoint"].includes(kind) ? { namespace: NS } : {}),
    },
    spec,
  };
}

async function apply(...objects: readonly Written[]): Promise<void> {
  await lab.apply(list(...objects.map(object)));
}

/** In both families. */
async function becomes(from: LabPod, to: LabPod, wanted: boolean): Promise<void> {
  for (const address of to.addresses)
    await until(
      `${from.name} → ${address} to be ${wanted ? "allowed" : "denied"}`,
      async () => (await lab.connects(from, address, 80)) === wanted,
    );
}

async function pings(from: LabPod | LabNode, address: string): Promise<boolean> {
  const run =
    "interface" in from
      ? lab.inPod(from, "ping", "-c1", "-W1", address)
      : lab.inNode(from, "ping", "-c1", "-W1", address);
  return (await run).exitCode === 0;
}

/** What `calico node --counters` of the node says of a policy's rules. */
async function counted(
  node: LabNode,
  policy: string,
): Promise<readonly { direction: string; rule: number; action: string; packets: number; bytes?: number }[]> {
  const { stdout } = await lab.inNode(node, CALICO, "node", "--counters", "-o", "json");
  const { rules } = JSON.parse(stdout) as {
    rules: ({ policy: { name: string } } & Awaited<ReturnType<typeof counted>>[number])[];
  };
  return rules.filter((each) => each.policy.name === policy);
}

function ingress(name: string, spec: object): Written {
  return { kind: "GlobalNetworkPolicy", name, spec: { selector: "app == 'server'", types: ["Ingress"], ...spec } };
}

describe("tiers", () => {
  test("a tier before Kubernetes' policies denies, passes on to them, and is gone with its last policy", async () => {
    await apply({ kind: "Tier", name: "security", spec: { order: 100 } });
    const rules = [
      { action: "Pass", source: { selector: "app == 'client'" } },
      { action: "Deny", source: { selector: "app == 'stranger'" } },
    ];
    await apply(ingress("security", { tier: "security", ingress: rules }));
    await becomes(stranger, server, false);
    await becomes(client, server, true);
    const seen = await counted(await lab.node("n2"), "security");
    expect(seen.map(({ direction, rule, action }) => `${direction} ${rule} ${action}`)).toEqual([
      "ingress 1 pass",
      "ingress 2 deny",
    ]);
    // eBPF counts packets alone.
    for (const { packets, bytes = 40 * packets } of seen)
      expect(bytes).toBeGreaterThanOrEqual(40 * Math.max(1, packets));
    await lab.must("delete", "globalnetworkpolicies.projectcalico.org", "security");
    await becomes(stranger, server, true);
    await lab.must("delete", "tiers.projectcalico.org", "security");
  });

  test("the order of a tier is what counts, and may change", async () => {
    const tiers = (order: number): Written[] => [
      { kind: "Tier", name: "one", spec: { order: 100 } },
      { kind: "Tier", name: "two", spec: { order } },
    ];
    await apply(
      ...tiers(200),
      ingress("one", { tier: "one", ingress: [{ action: "Deny" }] }),
      ingress("two", { tier: "two", ingress: [{ action: "Allow" }] }),
    );
    await becomes(client, server, false);
    await apply(...tiers(50));
    await becomes(client, server, true);
    await lab.must("delete", "globalnetworkpolicies.projectcalico.org", "one", "two");
    await lab.must("delete", "tiers.projectcalico.org", "one", "two");
  });

  test("a ClusterNetworkPolicy overrides what namespaces say", async () => {
    const subject = { pods: { podSelector: { matchLabels: { app: "server" } } } };
    const from = [{ pods: { podSelector: { matchLabels: { app: "stranger" } } } }];
    const spec = { tier: "Admin", priority: 1, subject, ingress: [{ action: "Deny", from }] };
    await apply({ kind: "ClusterNetworkPolicy", name: "admin", spec });
    await becomes(stranger, server, false);
    await becomes(client, server, true);
  });
});

describe("what rules match", () => {
  test("a set of nets, service accounts and a port range", async () => {
    const nets = stranger.addresses.map((address) => `${address}/${address.includes(":") ? 128 : 32}`);
    await apply(
      { kind: "GlobalNetworkSet", name: "strangers", labels: { list: "strangers" }, spec: { nets } },
      ingress("sets", {
        ingress: [
          { action: "Deny", source: { selector: "list == 'strangers'" } },
          {
            action: "Allow",
            protocol: "TCP",
            source: { serviceAccounts: { names: ["robot"] } },
            destination: { ports: ["79:81"] },
          },
        ],
      }),
    );
    await becomes(stranger, server, false);
    await becomes(client, server, true);
    // The set alone changes: then nothing allows the stranger, but nothing names it either.
    await apply({ kind: "GlobalNetworkSet", name: "strangers", labels: { list: "strangers" }, spec: { nets: [] } });
    await becomes(stranger, server, false);
    await apply(
      ingress("sets", {
        ingress: [{ action: "Deny", source: { selector: "list == 'strangers'" } }, { action: "Allow" }],
      }),
    );
    await becomes(stranger, server, true);
  });

  test("the endpoints of a Service", async () => {
    const slice = (name: string, addressType: string, addresses: readonly string[]): object => ({
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { name, namespace: NS, labels: { "kubernetes.io/service-name": "shop" } },
      addressType,
      endpoints: [{ addresses }],
      ports: [{ port: 80, protocol: "TCP" }],
    });
    const [four = "", six = ""] = server.addresses;
    await lab.apply(list(slice("shop-4", "IPv4", [four]), slice("shop-6", "IPv6", [six])));
    const egress = [{ action: "Allow", destination: { services: { name: "shop" } } }];
    await apply({
      kind: "NetworkPolicy",
      name: "out",
      spec: { selector: "app == 'client'", types: ["Egress"], egress },
    });
    await becomes(client, server, true);
    await becomes(client, stranger, false);
    await lab.must("delete", "endpointslices", "-n", NS, "shop-4", "shop-6");
    await becomes(client, server, false);
  });

  test("what cannot be is refused, with field and reason", async () => {
    const refused = async (spec: object): Promise<string> => {
      const text = JSON.stringify(object({ kind: "GlobalNetworkPolicy", name: "bad", spec }));
      const { exitCode, stderr } = await execute(["kubectl", "apply", "-f", "-"], {
        input: text,
        env: { KUBECONFIG: lab.kubeconfig },
      });
      expect(exitCode).not.toBe(0);
      return stderr;
    };
    expect(await refused({ selector: "app = 'x'" })).toContain("spec.selector");
    expect(await refused({ ingress: [{ action: "Allow", destination: { ports: [80] } }] })).toContain(
      "spec.ingress[0]",
    );
    expect(await refused({ doNotTrack: true, preDNAT: true, applyOnForward: true })).toContain("preDNAT");
  });
});

describe("the node", () => {
  const label = { host: "n1" };
  const endpoint = (spec: object): Written => ({
    kind: "HostEndpoint",
    name: "n1-eth0",
    labels: label,
    spec: { node: "n1", ...spec },
  });
  const atHost = (name: string, spec: object): Written => ({
    kind: "GlobalNetworkPolicy",
    name,
    spec: { selector: "host == 'n1'", ...spec },
  });

  for (const how of ["by name", "by address"] as const)
    test(`a host endpoint ${how}: closed but for rules, other nodes' pods still served`, async () => {
      const n2 = await lab.node("n2");
      await apply(endpoint(how === "by name" ? { interfaceName: "eth0" } : { expectedIPs: n1.addresses }));
      for (const address of n1.addresses)
        await until(`n1 to be closed at ${address}`, async () => !(await pings(n2, address)));
      // What is forwarded is not the host's own.
      await becomes(stranger, client, true);
      const rules = [
        { action: "Allow", protocol: "ICMP", icmp: { type: 8 } },
        { action: "Allow", protocol: "ICMPv6" },
      ];
      await apply(atHost("ping", { ingress: rules, egress: [{ action: "Allow" }] }));
      for (const address of n1.addresses) await until(`n1 to answer at ${address}`, () => pings(n2, address));
    });

  test("policy for what a host forwards, and before translation", async () => {
    await apply(
      endpoint({ interfaceName: "eth0", profiles: ["projectcalico-default-allow"] }),
      atHost("forward", {
        applyOnForward: true,
        ingress: [{ action: "Deny", protocol: "TCP", destination: { ports: [80] } }, { action: "Allow" }],
        egress: [{ action: "Allow" }],
      }),
    );
    await becomes(stranger, client, false);
    await becomes(client, stranger, true);
    await lab.must("delete", "globalnetworkpolicies.projectcalico.org", "forward");
    await becomes(stranger, client, true);
    const ingressRules = [{ action: "Deny", protocol: "TCP", destination: { ports: [80] } }];
    await apply(atHost("early", { applyOnForward: true, preDNAT: true, ingress: ingressRules }));
    await becomes(stranger, client, false);
  });

  test("what pods may send to their node", async () => {
    for (const address of n1.addresses) expect(await pings(client, address)).toBe(true);
    await apply({ kind: "FelixConfiguration", name: "node.n1", spec: { defaultEndpointToHostAction: "Drop" } });
    for (const address of n1.addresses)
      await until(`${address} to be closed to pods`, async () => !(await pings(client, address)));
    // The node reaches its pods all the same.
    for (const address of client.addresses) expect(await pings(n1, address)).toBe(true);
  });
});

describe("a machine", () => {
  const NETNS = `machine-${process.pid}`;
  const ADDRESSES = ["10.65.255.9", "fd00:65:0:ffff::9"];
  const INTERFACE = "tap9";

  const machine = (name: string, spec: object): Written => ({
    kind: "WorkloadEndpoint",
    name,
    labels: { app: "machine" },
    spec: { node: "n1", orchestrator: "kvm", endpoint: "eth0", profiles: ["projectcalico-default-allow"], ...spec },
  });

  async function run(...command: readonly string[]): Promise<void> {
    const { exitCode, stderr } = await execute(command);
    if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
  }

  /** What runs the machine: a cable from n1, and its addresses with a gateway, as a VM would have them. */
  async function plug(): Promise<void> {
    const inside = (...command: readonly string[]): Promise<void> => run("ip", "netns", "exec", NETNS, ...command);
    const cable = [
      "link",
      "add",
      INTERFACE,
      "address",
      "ee:ee:ee:ee:ee:ee",
      "type",
      "veth",
      "peer",
      "name",
      "eth0",
      "netns",
      NETNS,
    ];
    await run("ip", "netns", "add", NETNS);
    expect((await lab.inNode(n1, "ip", ...cable)).exitCode).toBe(0);
    await inside("ip", "link", "set", "eth0", "up");
    for (const address of ADDRESSES) {
      const family = address.includes(":") ? "-6" : "-4";
      await inside("ip", family, "addr", "add", address, "dev", "eth0", ...(family === "-6" ? ["nodad"] : []));
      // For IPv4 the node answers for every address that it has a route to.
      const via = family === "-6" ? ["via", "fe80::ecee:eeff:feee:eeee"] : [];
      await inside("ip", family, "route", "add", "default", ...via, "dev", "eth0");
    }
  }

  afterAll(() => run("ip", "netns", "delete", NETNS));

  test("is reached from every node once its object is there, by policy, and is closed without", async () => {
    await plug();
    await apply(
      { kind: "FelixConfiguration", name: "default", spec: { interfacePrefix: "cali,tap" } },
      machine("n1-kvm-vm-eth0", { workload: "vm", interfaceName: INTERFACE, ipNetworks: ADDRESSES }),
    );
    for (const pod of [client, stranger])
      for (const address of ADDRESSES) await until(`${pod.name} to reach ${address}`, () => pings(pod, address));
    await apply({
      kind: "GlobalNetworkPolicy",
      name: "guard",
      spec: {
        selector: "app == 'machine'",
        ingress: [{ action: "Deny", source: { selector: "app == 'stranger'" } }, { action: "Allow" }],
      },
    });
    for (const address of ADDRESSES) {
      await until(`${address} to be closed to ${stranger.name}`, async () => !(await pings(stranger, address)));
      expect(await pings(client, address)).toBe(true);
    }
    await lab.must("delete", "workloadendpoints.projectcalico.org", "-n", NS, "n1-kvm-vm-eth0");
    for (const address of ADDRESSES)
      await until(`${address} to be closed`, async () => !(await pings(client, address)));
  }, 120_000);

  test("never gets a pod's interface, and an Event says so", async () => {
    await apply(
      machine("n1-kvm-thief-eth0", { workload: "thief", interfaceName: client.interface, ipNetworks: ["10.65.255.8"] }),
    );
    await until("the Event", async () =>
      (await lab.must("get", "events", "-n", NS, "-o", "json")).includes(
        `interface ${client.interface} is that of Pod ${NS}/client`,
      ),
    );
    await becomes(stranger, client, true);
  }, 60_000);
});
