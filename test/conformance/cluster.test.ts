/**
 * A dual-stack lab of three nodes: pods, routes, policy, restarts, faults. Every test speaks to the cluster as its users do:
 * kubectl, the CNI protocol, packets.
 */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, rmSync } from "node:fs";
import { kernelOwnsTables } from "../kernel/fixture.ts";
import {
  DATAPLANE,
  execute,
  Lab,
  LAB_API,
  type LabNode,
  type LabPod,
  list,
  MEMORY,
  namespace,
  serverPod,
  until,
} from "./fixture.ts";
import { countDropped } from "./rules.ts";

const lab = new Lab();
beforeAll(() => lab.up("--dual-stack"), 180_000);
afterAll(() => lab.down(), 60_000);

const NS = "conformance";

function pod(name: string, node: string, labels: Record<string, string>): object {
  return serverPod(NS, name, labels, 80, { nodeName: node });
}

/** An HTTP get from one pod to an address of another, retried until the answer is as expected: policy takes effect at once, but tests run beside it. */
function becomes(from: LabPod, address: string, port: number, wanted: boolean): Promise<true> {
  return until(
    `${from.name} → ${address}:${port} to be ${wanted ? "allowed" : "denied"}`,
    async () => (await lab.connects(from, address, port)) === wanted,
  ) as Promise<true>;
}

async function both(from: LabPod, to: LabPod, port: number, wanted: boolean): Promise<void> {
  for (const address of to.addresses) await becomes(from, address, port, wanted);
}

let client: LabPod;
let neighbor: LabPod;
let server: LabPod;
let near: LabPod;

beforeAll(async () => {
  await lab.apply(
    list(
      namespace(NS, { team: "blue" }),
      pod("client", "n1", { app: "client" }),
      pod("neighbor", "n1", { app: "neighbor" }),
      pod("server", "n2", { app: "server" }),
      pod("near", "n1", { app: "server" }),
    ),
  );
  [client, neighbor, server, near] = (await lab.pods(NS, "client", "neighbor", "server", "near")) as [
    LabPod,
    LabPod,
    LabPod,
    LabPod,
  ];
}, 120_000);

describe("pods", () => {
  test("have one address of each pool, and upstream's interface names", () => {
    for (const one of [client, neighbor, server, near]) {
      expect(one.addresses.map((address) => (address.includes(":") ? 6 : 4))).toEqual([4, 6]);
      expect(one.addresses[0]).toStartWith("10.65.");
      expect(one.addresses[1]).toStartWith("fd00:65:");
      expect(one.interface).toMatch(/^cali[0-9a-f]{11}$/);
    }
    expect(new Set([client, neighbor, server, near].flatMap((one) => one.addresses)).size).toBe(8);
  });

  test("reach pods of their node and of other nodes, both families", async () => {
    await both(client, near, 80, true);
    await both(client, server, 80, true);
    await both(server, client, 80, true);
  });

  test("reach their own node, and it reaches them", async () => {
    const node = await lab.node("n1");
    for (const address of node.addresses)
      expect((await lab.inPod(client, "ping", "-c1", "-W2", address)).exitCode).toBe(0);
    for (const address of client.addresses)
      expect((await lab.inNode(node, "ping", "-c1", "-W2", address)).exitCode).toBe(0);
  });

  test("cross the fabric unencapsulated, over routes of protocol bird", async () => {
    const node = await lab.node("n1");
    const [four = "", six = ""] = server.addresses;
    const routes =
      (await lab.inNode(node, "ip", "route", "get", four)).stdout +
      (await lab.inNode(node, "ip", "-6", "route", "get", six)).stdout;
    expect(routes).toContain("via 172.30.0.12");
    expect((await lab.inNode(node, "ip", "route", "show", "proto", "bird")).stdout).toMatch(
      /10\.65\.\d+\.\d+\/26 via 172\.30\.0\.12/,
    );
    expect((await lab.inNode(node, "ip", "-6", "route", "show", "proto", "bird")).stdout).toMatch(
      /fd00:65:[0-9a-f:]+\/122 via fd00:30::12/,
    );
    const { fabric } = await lab.status();
    for (const address of server.addresses) {
      const dump = Bun.spawn(
        [
          "nsenter",
          `--net=${fabric.netns}`,
          "--",
          "tcpdump",
          "-nn",
          "-l",
          "-c1",
          "-i",
          fabric.bridge,
          "icmp or icmp6[icmp6type]==128",
          "and",
          "dst",
          address,
        ],
        { stdout: "pipe", stderr: "pipe" },
      );
      await until("tcpdump to see the packet", async () => {
        await lab.inPod(client, "ping", "-c1", "-W1", address);
        return dump.exitCode !== null;
      });
      expect(await new Response(dump.stdout).text()).toContain(`> ${address}: ICMP`);
    }
  });
});

describe("policy", () => {
  const onlyNeighbor = {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name: "only-neighbor", namespace: NS },
    spec: {
      podSelector: { matchLabels: { app: "server" } },
      policyTypes: ["Ingress"],
      ingress: [{ from: [{ podSelector: { matchLabels: { app: "neighbor" } } }], ports: [{ port: "http" }] }],
    },
  };

  test("isolates what it selects, on both nodes and in both families, and opens again when it goes", async () => {
    await lab.apply(list(onlyNeighbor));
    for (const to of [server, near]) {
      await both(client, to, 80, false);
      await both(neighbor, to, 80, true);
    }
    const node = await lab.node("n2");
    for (const address of server.addresses)
      expect((await lab.inNode(node, "ping", "-c1", "-W2", address)).exitCode).toBe(0);
    await lab.must("delete", "networkpolicy", "-n", NS, "only-neighbor");
    for (const to of [server, near]) await both(client, to, 80, true);
  });

  test("follows labels of pods and of namespaces at once", async () => {
    await lab.apply(list(onlyNeighbor));
    await both(client, server, 80, false);
    await lab.must("label", "pod", "-n", NS, "client", "app=neighbor", "--overwrite");
    await both(client, server, 80, true);
    await lab.must("label", "pod", "-n", NS, "client", "app=client", "--overwrite");
    await both(client, server, 80, false);
    await lab.apply(
      list({
        ...onlyNeighbor,
        spec: { ...onlyNeighbor.spec, ingress: [{ from: [{ namespaceSelector: { matchLabels: { team: "red" } } }] }] },
      }),
    );
    await both(neighbor, server, 80, false);
    await lab.must("label", "namespace", NS, "team=red", "--overwrite");
    await both(neighbor, server, 80, true);
    await lab.must("label", "namespace", NS, "team=blue", "--overwrite");
    await both(neighbor, server, 80, false);
    await lab.must("delete", "networkpolicy", "-n", NS, "only-neighbor");
    await both(client, server, 80, true);
  });

  test("egress: a pod may be kept from speaking, also to its neighbour", async () => {
    await lab.apply(
      list({
        apiVersion: "networking.k8s.io/v1",
        kind: "NetworkPolicy",
        metadata: { name: "silent", namespace: NS },
        spec: { podSelector: { matchLabels: { app: "client" } }, policyTypes: ["Egress"] },
      }),
    );
    await both(client, server, 80, false);
    await both(client, near, 80, false);
    await both(neighbor, client, 80, true);
    await lab.must("delete", "networkpolicy", "-n", NS, "silent");
    await both(client, server, 80, true);
  });
});

describe("closed from birth, unspoofable always", () => {
  /** Sends one UDP datagram with a source address that the kernel would not give: the address is put on the interface first. */
  async function spoof(from: LabPod, source: string, to: string, sourcePort: number, port: number): Promise<void> {
    const bits = source.includes(":") ? "128" : "32";
    await lab.inPod(
      from,
      "ip",
      "addr",
      "add",
      `${source}/${bits}`,
      "dev",
      "eth0",
      ...(bits === "128" ? ["nodad"] : []),
    );
    const host = source.includes(":") ? `[${source}]` : source;
    const target = to.includes(":") ? `UDP6-DATAGRAM:[${to}]:${port}` : `UDP4-DATAGRAM:${to}:${port}`;
    await execute(
      ["nsenter", `--net=${from.netns}`, "--", "socat", "-u", "-", `${target},bind=${host}:${sourcePort},reuseaddr`],
      { input: "spoofed\n" },
    );
    await lab.inPod(from, "ip", "addr", "del", `${source}/${bits}`, "dev", "eth0");
  }

  for (const family of [0, 1]) {
    test(`a pod cannot send from its neighbour's address, even inside the neighbour's established flow (IPv${family === 0 ? 4 : 6})`, async () => {
      const victim = neighbor.addresses[family] ?? "";
      const target = server.addresses[family] ?? "";
      const log = `${MEMORY}/${lab.name}-heard-${family}`;
      const kind = family === 0 ? "UDP4" : "UDP6";
      // Answers each datagram, so that the flow is established, and keeps what it heard.
      const listener = Bun.spawn(
        ["nsenter", `--net=${server.netns}`, "--", "socat", `${kind}-RECVFROM:5000,fork`, `EXEC:tee -a ${log}`],
        { stdout: "ignore", stderr: "ignore" },
      );
      const heard = (): Promise<string> =>
        Bun.file(log)
          .text()
          .catch(() => "");
      try {
        const host = family === 0 ? victim : `[${victim}]`;
        const to = family === 0 ? target : `[${target}]`;
        // It waits so long for the answer, whether or not it has come: longer each time, for a machine that is busy.
        let patienceSeconds = 0.1;
        const say = (text: string): Promise<{ stdout: string }> => {
          patienceSeconds = Math.min(2 * patienceSeconds, 5);
          return execute(
            [
              "nsenter",
              `--net=${neighbor.netns}`,
              "--",
              "socat",
              "-t",
              `${patienceSeconds}`,
              "-",
              `${kind}-SENDTO:${to}:5000,bind=${host}:4000,reuseaddr`,
            ],
            { input: `${text}\n` },
          );
        };
        await until("the genuine flow to be answered", async () => (await say("genuine")).stdout.includes("genuine"));
        const before = await dropped();
        await spoof(client, victim, target, 4000, 5000);
        await until("the drop to be counted", async () => (await dropped()) > before, 10);
        await until("the flow to go on", async () => (await say("last")).stdout.includes("last"));
        expect(await heard()).toContain("last");
        expect(await heard()).not.toContain("spoofed");
      } finally {
        listener.kill();
        rmSync(log, { force: true });
      }
    });
  }

  test("a pod sends from its source prefixes once workloadSourceSpoofing is Any", async () => {
    const prefixes = ["198.51.100.0/24", "2001:db8:77::/48"];
    const annotation = "cni.projectcalico.org/allowedSourcePrefixes";
    await lab.must("annotate", "pod", "-n", NS, client.name, `${annotation}=${JSON.stringify(prefixes)}`);
    const about = await until("the Event that they have no effect yet", async () =>
      (await lab.must("get", "events", "-n", NS, "-o", "jsonpath={.items[*].message}"))
        .split(". ")
        .find((text) => text.includes("source prefixes 198.51.100.0/24, 2001:db8:77::/48: they have an effect where")),
    );
    expect(about).toContain("workloadSourceSpoofing of the FelixConfiguration is Any, it is Disabled");
    // The nodes' own ones say which dataplane they run.
    const felix = { apiVersion: "projectcalico.org/v3", kind: "FelixConfiguration", metadata: { name: "default" } };
    await lab.apply(list({ ...felix, spec: { workloadSourceSpoofing: "Any" } }));
    for (const [family, source] of ["198.51.100.7", "2001:db8:77::7"].entries()) {
      const log = `${MEMORY}/${lab.name}-prefix-${family}`;
      const listener = Bun.spawn(
        [
          "nsenter",
          `--net=${near.netns}`,
          "--",
          "socat",
          "-u",
          `${family === 0 ? "UDP4" : "UDP6"}-RECVFROM:5001,fork`,
          `OPEN:${log},creat,append`,
        ],
        { stdout: "ignore", stderr: "ignore" },
      );
      try {
        await until(`a datagram from ${source}`, async () => {
          await spoof(client, source, near.addresses[family] ?? "", 4001, 5001);
          return (await Bun.file(log).exists()) && (await Bun.file(log).text()).includes("spoofed");
        });
      } finally {
        listener.kill();
        rmSync(log, { force: true });
      }
    }
    await lab.must("annotate", "pod", "-n", NS, client.name, `${annotation}-`);
    await lab.must("delete", "felixconfiguration", "default");
    expect((await lab.daemon(await lab.node("n1"))).drivers.map(({ name }) => name)).toContain(DATAPLANE);
  });

  /** Packets that the node dropped for their source: by its reverse path filter (IPv4 only), or by our first check. */
  async function dropped(): Promise<number> {
    const node = await lab.node("n1");
    const counted = await countDropped(lab, node, "unknown interface or spoofed source");
    const lines = (await lab.inNode(node, "cat", "/proc/net/netstat")).stdout
      .split("\n")
      .filter((line) => line.startsWith("TcpExt:"))
      .map((line) => line.split(" "));
    return counted + Number(lines[1]?.[lines[0]?.indexOf("IPReversePathFilter") ?? -1] ?? "0");
  }

  test("an interface that no ADD made may neither send nor receive", async () => {
    const node = await lab.node("n1");
    const stranger = `${lab.name}-x`;
    await execute(["ip", "netns", "add", stranger]);
    try {
      await lab.inNode(
        node,
        "ip",
        "link",
        "add",
        "calideadbeef000",
        "address",
        "ee:ee:ee:ee:ee:ee",
        "type",
        "veth",
        "peer",
        "name",
        "eth0",
        "netns",
        `/run/netns/${stranger}`,
      );
      await lab.inNode(node, "ip", "link", "set", "calideadbeef000", "up");
      await lab.inNode(node, "ip", "route", "add", "10.99.0.1/32", "dev", "calideadbeef000");
      for (const args of [
        ["addr", "add", "10.99.0.1/32", "dev", "eth0"],
        ["link", "set", "eth0", "up"],
        ["neigh", "add", "169.254.1.1", "lladdr", "ee:ee:ee:ee:ee:ee", "dev", "eth0"],
        ["route", "add", "169.254.1.1", "dev", "eth0"],
        ["route", "add", "default", "via", "169.254.1.1", "dev", "eth0"],
      ])
        await execute(["ip", "-n", stranger, ...args]);
      const before = await dropped();
      const sent = await execute([
        "ip",
        "netns",
        "exec",
        stranger,
        "ping",
        "-c2",
        "-i0.2",
        "-W1",
        client.addresses[0] ?? "",
      ]);
      expect(sent.exitCode).not.toBe(0);
      expect(await dropped()).toBeGreaterThan(before);
      expect((await lab.inPod(client, "ping", "-c1", "-W1", "10.99.0.1")).exitCode).not.toBe(0);
    } finally {
      await lab.inNode(node, "ip", "link", "del", "calideadbeef000");
      await execute(["ip", "netns", "del", stranger]);
    }
  });
});

describe("restarts", () => {
  async function killDaemon(name: string): Promise<LabNode> {
    const before = await lab.node(name);
    process.kill(before.pid, "SIGKILL");
    return until(`the daemon of ${name} to be back`, async () => {
      const now = await lab.node(name);
      if (now.pid === before.pid || now.restarts === before.restarts) return undefined;
      const status = await lab.daemon(now).catch(() => undefined);
      return status?.inSync === true ? now : undefined;
    });
  }

  test("kill -9 of the daemon under traffic: nothing lost, nothing let through, nothing written but that the table has an owner again", async () => {
    await lab.apply(
      list({
        apiVersion: "networking.k8s.io/v1",
        kind: "NetworkPolicy",
        metadata: { name: "closed", namespace: NS },
        spec: { podSelector: { matchLabels: { app: "neighbor" } }, policyTypes: ["Ingress"] },
      }),
    );
    await both(client, neighbor, 80, false);
    const [four = "", six = ""] = server.addresses;
    const [denied = ""] = neighbor.addresses;
    const pings = [four, six].map((address) =>
      execute(["nsenter", `--net=${client.netns}`, "--", "ping", "-q", "-i0.02", "-c150", "-W2", address]),
    );
    const blocked = execute(["nsenter", `--net=${client.netns}`, "--", "ping", "-q", "-i0.02", "-c150", "-W1", denied]);
    const node = await killDaemon("n1");
    for (const ping of pings) expect((await ping).stdout).toContain("150 received, 0% packet loss");
    expect((await blocked).stdout).toContain(" 0 received");
    const status = await lab.daemon(node);
    const tables = DATAPLANE === "nftables" ? 1 : DATAPLANE === "ebpf" ? 2 : 0;
    const ownerships = kernelOwnsTables() ? tables : 0;
    expect(status.drivers.map(({ name, writes, pending }) => ({ name, writes, pending }))).toEqual([
      { name: "links", writes: 0, pending: 0 },
      { name: "routes", writes: 0, pending: 0 },
      { name: DATAPLANE, writes: ownerships, pending: 0 },
    ]);
    await lab.must("delete", "networkpolicy", "-n", NS, "closed");
    await both(client, neighbor, 80, true);
  }, 120_000);

  test("a policy changed while the daemon was dead is enforced when it is back", async () => {
    const node = await lab.node("n2");
    process.kill(node.pid, "SIGSTOP");
    await lab.apply(
      list({
        apiVersion: "networking.k8s.io/v1",
        kind: "NetworkPolicy",
        metadata: { name: "late", namespace: NS },
        spec: { podSelector: { matchLabels: { app: "server" } }, policyTypes: ["Ingress"] },
      }),
    );
    await both(client, near, 80, false);
    await both(client, server, 80, true);
    await killDaemon("n2");
    await both(client, server, 80, false);
    await lab.must("delete", "networkpolicy", "-n", NS, "late");
    await both(client, server, 80, true);
  }, 120_000);

  test("kill -9 of the API, of BIRD and of the supervisor: forwarding and enforcement stay, then all converges", async () => {
    await lab.apply(
      list({
        apiVersion: "networking.k8s.io/v1",
        kind: "NetworkPolicy",
        metadata: { name: "stays", namespace: NS },
        spec: { podSelector: { matchLabels: { app: "neighbor" } }, policyTypes: ["Ingress"] },
      }),
    );
    await both(client, neighbor, 80, false);
    const status = await lab.status();
    const bird = status.nodes.find((node) => node.name === "n2")?.birdPid ?? 0;
    process.kill(status.supervisor.pid, "SIGKILL");
    process.kill(status.apiPid, "SIGKILL");
    process.kill(bird, "SIGKILL");
    for (const address of server.addresses)
      expect((await lab.inPod(client, "ping", "-q", "-c20", "-i0.02", "-W2", address)).stdout).toContain(
        "20 received, 0% packet loss",
      );
    for (const address of neighbor.addresses)
      expect((await lab.inPod(client, "ping", "-c2", "-i0.2", "-W1", address)).exitCode).not.toBe(0);
    await lab.up("--dual-stack");
    await lab.must("delete", "networkpolicy", "-n", NS, "stays");
    await both(client, neighbor, 80, true);
    await lab.apply(list(pod("afterwards", "n3", { app: "server" })));
    const [afterwards] = (await lab.pods(NS, "afterwards")) as [LabPod];
    await both(client, afterwards, 80, true);
  }, 180_000);
});

describe("lives of pods", () => {
  test("many at once: no address twice, all given back, and an address used again does not inherit a flow", async () => {
    const names = Array.from({ length: 24 }, (_, i) => `many-${i}`);
    await lab.apply(
      list(
        ...names.map((name, i) => ({
          apiVersion: "v1",
          kind: "Pod",
          metadata: { name, namespace: NS, labels: { app: "many" } },
          spec: { nodeName: `n${(i % 3) + 1}`, containers: [{ name: "main", image: "none" }] },
        })),
      ),
    );
    const pods = await lab.pods(NS, ...names);
    const addresses = pods.flatMap((one) => one.addresses);
    expect(addresses.length).toBe(48);
    expect(new Set(addresses).size).toBe(48);
    await lab.must("delete", "pod", "-n", NS, "--wait=true", ...names);
    await until("all addresses to be given back", async () => {
      const blocks = JSON.parse(await lab.must("get", "ipamblocks", "-o", "json")) as {
        items: { spec: { attributes: { handle_id?: string; secondary?: Record<string, string> }[] } }[];
      };
      return !blocks.items.some((block) =>
        block.spec.attributes.some((attribute) => attribute.secondary?.["pod"]?.startsWith("many-")),
      );
    });
    for (const name of ["n1", "n2", "n3"])
      expect((await lab.inNode(await lab.node(name), "ip", "-o", "route", "show", "proto", "80")).stdout).not.toContain(
        addresses[0] ?? "none",
      );
  }, 180_000);
});

describe("bad input", () => {
  test("an invalid NetworkPolicy is refused, naming object, field, value and what is allowed", async () => {
    const { exitCode, stderr } = await execute(["kubectl", "create", "--validate=false", "-f", "-"], {
      input: JSON.stringify({
        apiVersion: "networking.k8s.io/v1",
        kind: "NetworkPolicy",
        metadata: { name: "broken", namespace: NS },
        spec: { podSelector: {}, ingress: [{ ports: [{ port: 70000 }] }] },
      }),
      env: { KUBECONFIG: lab.kubeconfig },
    });
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain(
      '"broken" is invalid: spec.ingress[0].ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive',
    );
  });

  test("an unusable CNI configuration is refused by name and leaves nothing", async () => {
    const node = await lab.node("n1");
    const config = {
      cniVersion: "1.0.0",
      name: "k8s-pod-network",
      type: "calico",
      mtu: 20,
      daemon_socket: `${node.root}/var/run/calico/cni.sock`,
      ipam: { type: "calico-ipam" },
    };
    const answer = await execute([`${node.cniBinDir}/calico`], {
      input: JSON.stringify(config),
      env: {
        CNI_COMMAND: "ADD",
        CNI_CONTAINERID: "bad",
        CNI_NETNS: "/run/netns/none",
        CNI_IFNAME: "eth0",
        CNI_ARGS: `K8S_POD_NAMESPACE=${NS};K8S_POD_NAME=client`,
      },
    });
    expect(answer.exitCode).toBe(1);
    expect(JSON.parse(answer.stdout)).toMatchObject({
      cniVersion: "1.0.0",
      code: 7,
      msg: "network configuration field mtu is 20, must be 0 (automatic) or an integer from 68 to 65535",
    });
  });
});

describe("the daemon's status", () => {
  test("health, readiness and metrics by HTTP", async () => {
    const node = await lab.node("n1");
    const get = (path: string): Promise<string> =>
      lab.inNode(node, "wget", "-qO-", "-t", "1", `http://127.0.0.1:9099${path}`).then(({ stdout }) => stdout);
    expect(JSON.parse(await get("/liveness"))).toEqual({ live: true });
    // The API was away in a test before: a watch that it no longer serves is begun anew.
    await until(
      "the datastore to be in sync again",
      async () => (JSON.parse(await get("/readiness")) as { datastore: string }).datastore === "in-sync",
    );
    expect(JSON.parse(await get("/readiness"))).toMatchObject({ ready: true, datastore: "in-sync", inSync: true });
    const metrics = await get("/metrics");
    expect(metrics).toMatch(/^felix_active_local_endpoints [1-9]/m);
    expect(metrics).toContain(`\ncalico_dataplane_pending{driver="${DATAPLANE}"} 0\n`);
    expect(metrics).toMatch(/^process_resident_memory_bytes \d/m);
  });

  // It is written into the embedded API's own file.
  test.skipIf(LAB_API !== "embedded")(
    "an invalid policy that got in all the same closes what it selects, an Event says so, and the daemon goes on",
    async () => {
      const policy = {
        apiVersion: "networking.k8s.io/v1",
        kind: "NetworkPolicy",
        metadata: { name: "got-in", namespace: NS },
        spec: {
          podSelector: { matchLabels: { app: "neighbor" } },
          policyTypes: ["Ingress"],
          ingress: [{ from: [{ ipBlock: { cidr: "10.0.0.0/8" } }, { ipBlock: { cidr: "fd00::/8" } }] }],
        },
      };
      await lab.apply(list(policy));
      await both(client, neighbor, 80, true);
      const status = await lab.status();
      // Past admission: written into the API's own store while it is away.
      process.kill(status.supervisor.pid, "SIGSTOP");
      process.kill(status.apiPid, "SIGKILL");
      await until("the API to be gone", async () => (await lab.kubectl("get", "--raw", "/readyz")).exitCode !== 0);
      const directory = status.kubeconfig.replace(/kubeconfig$/, "api");
      const file = readdirSync(directory).find((name) => /\.(db|sqlite)$/.test(name)) ?? "";
      const database = new Database(`${directory}/${file}`);
      database.run("UPDATE objects SET json = replace(json, '10.0.0.0/8', '10.0.0.0/33') WHERE name = 'got-in'");
      database.close();
      process.kill(status.nodes[0]?.pid ?? 0, "SIGKILL");
      process.kill(status.supervisor.pid, "SIGCONT");
      await until("the API to be back", async () => (await lab.kubectl("get", "--raw", "/readyz")).exitCode === 0);
      await both(client, neighbor, 80, false);
      await both(client, near, 80, true);
      const events = await until("the Event", async () => {
        const { stdout } = await lab.kubectl(
          "get",
          "events",
          "-n",
          NS,
          "--field-selector",
          "involvedObject.name=got-in",
          "-o",
          "json",
        );
        const { items } = JSON.parse(stdout) as { items: { reason: string; message: string }[] };
        return items.length > 0 ? items : undefined;
      });
      expect(events).toMatchObject([
        {
          reason: "InvalidPolicy",
          message: expect.stringContaining('spec.ingress[0].from[0].ipBlock.cidr: Invalid value: "10.0.0.0/33"'),
        },
      ]);
      await lab.must("delete", "networkpolicy", "-n", NS, "got-in");
      await both(client, neighbor, 80, true);
    },
    180_000,
  );
});

describe("the end of a node", () => {
  test("its routes are withdrawn from the others", async () => {
    const routes = async (): Promise<string> => {
      const node = await lab.node("n1");
      return (
        (await lab.inNode(node, "ip", "route", "show", "proto", "bird")).stdout +
        (await lab.inNode(node, "ip", "-6", "route", "show", "proto", "bird")).stdout
      );
    };
    expect(await routes()).toContain("via 172.30.0.13");
    const { fabric } = await lab.status();
    // The cable is pulled: no process of the node can say goodbye.
    await execute(["nsenter", `--net=${fabric.netns}`, "--", "ip", "link", "set", "port-n3", "down"]);
    await until("the routes to n3 to be withdrawn", async () => !/172\.30\.0\.13|fd00:30::13/.test(await routes()), 60);
    expect(await routes()).toContain("via 172.30.0.12");
    await execute(["nsenter", `--net=${fabric.netns}`, "--", "ip", "link", "set", "port-n3", "up"]);
    await until("the routes to n3 to be back", async () => /172\.30\.0\.13/.test(await routes()), 60);
  }, 180_000);
});
