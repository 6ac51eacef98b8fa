/**
 * Host ports: the chain that `cni install` writes, executed as a container runtime does, with the reference plugin portmap after ours;
 * reached from outside the node, and denied by policy there, in both families.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { BareNode } from "./bare-node.ts";
import { CALICO, execute, Lab, type LabNode, list, namespace, type Output, serverPod, until } from "./fixture.ts";
import { addressesIn, type Answer, Runtime } from "./runtime.ts";

const lab = new Lab();
const NS = "ports";
const bare = new BareNode(lab);
const runtime = new Runtime(lab, bare, NS);

beforeAll(async () => {
  await lab.up("--dual-stack", "--nodes", "2");
  await bare.up();
  await lab.apply(list(namespace(NS), runtime.pod("chain")));
}, 180_000);

afterAll(async () => {
  await runtime.down();
  await bare.down();
  await lab.down();
}, 60_000);

interface Plugin {
  readonly type: string;
  readonly capabilities?: Readonly<Record<string, boolean>>;
}

function conflist(directory: string): {
  readonly name: string;
  readonly cniVersion: string;
  readonly plugins: readonly Plugin[];
} {
  return JSON.parse(readFileSync(`${directory}/10-calico.conflist`, "utf8")) as ReturnType<typeof conflist>;
}

/** True when a TCP connection from the node to the address and port is accepted. */
async function reached(from: LabNode, address: string, port: number): Promise<boolean> {
  const host = address.includes(":") ? `[${address}]` : address;
  return (
    (await lab.inNode(from, "wget", "-q", "-T", "1", "-t", "1", "-O", "/dev/null", `http://${host}:${port}/Apache-2.0`))
      .exitCode === 0
  );
}

const allowFrom = (pod: string, ...blocks: readonly string[]): object => ({
  apiVersion: "networking.k8s.io/v1",
  kind: "NetworkPolicy",
  metadata: { name: pod, namespace: NS },
  spec: {
    podSelector: { matchLabels: { app: pod } },
    policyTypes: ["Ingress"],
    ingress: blocks.length === 0 ? [] : [{ from: blocks.map((cidr) => ({ ipBlock: { cidr } })) }],
  },
});

/** Policy decides by the source that the client has outside. */
async function expectPolicyDecides(
  pod: string,
  nodeAddresses: readonly string[],
  port: number,
  client: LabNode,
  other: LabNode,
): Promise<void> {
  for (const [i, address] of nodeAddresses.entries()) {
    await until(`${address}:${port} to be reached`, () => reached(client, address, port));
    await lab.apply(list(allowFrom(pod)));
    await until(`${address}:${port} to be denied`, async () => !(await reached(client, address, port)));
    const own = client.addresses[i] ?? "";
    await lab.apply(list(allowFrom(pod, `${own}/${own.includes(":") ? 128 : 32}`)));
    await until(`${address}:${port} to be allowed`, () => reached(client, address, port));
    expect(await reached(other, address, port)).toBe(false);
    await lab.must("delete", "networkpolicy", "-n", NS, pod);
  }
}

describe("the chain of plugins", () => {
  const mappings = { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }] };
  const netnsOf = (version: string): string => `/run/netns/${lab.name}-chain-${version}`;

  /** One plugin of the chain in the node's network namespace, as a runtime on the node executes it. */
  async function one(command: string, plugin: Plugin, version: string, previous: object | undefined): Promise<Answer> {
    const { name } = conflist(`${bare.root}/etc/cni/net.d`);
    const capabilities = plugin.capabilities ?? {};
    const runtimeConfig = Object.fromEntries(
      Object.entries(mappings).filter(([capability]) => capabilities[capability] === true),
    );
    const { exitCode, stdout, stderr }: Output = await execute(
      ["nsenter", `--net=${bare.path}`, "--", `${bare.cniBinDir}/${plugin.type}`],
      {
        input: JSON.stringify({
          ...plugin,
          name,
          cniVersion: version,
          runtimeConfig,
          ...(previous === undefined ? {} : { prevResult: previous }),
        }),
        env: {
          CNI_COMMAND: command,
          CNI_CONTAINERID: `chain-${version}`,
          CNI_NETNS: netnsOf(version),
          CNI_IFNAME: "eth0",
          CNI_PATH: bare.cniBinDir,
          CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${NS};K8S_POD_NAME=chain`,
        },
      },
    );
    expect([exitCode, stderr, exitCode === 0 ? "" : stdout]).toEqual([0, "", ""]);
    return { exitCode, answer: stdout.trim() === "" ? {} : (JSON.parse(stdout) as Answer["answer"]) };
  }

  test("is upstream's: ours, then portmap with snat, then bandwidth", () => {
    const { plugins, cniVersion } = conflist(`${bare.root}/etc/cni/net.d`);
    expect(cniVersion).toBe("1.0.0");
    expect(plugins.map(({ type }) => type)).toEqual(["calico", "portmap", "bandwidth"]);
    expect(plugins[0]?.capabilities).toBeUndefined();
    expect(plugins.slice(1)).toEqual([
      { type: "portmap", snat: true, capabilities: { portMappings: true } },
      { type: "bandwidth", capabilities: { bandwidth: true } },
    ] as Plugin[]);
  });

  for (const version of ["0.3.1", "0.4.0", "1.0.0"]) {
    test(`ADD, CHECK and DEL in version ${version}: the port is reached from outside, policy decides, and all goes again`, async () => {
      const path = await runtime.netns(`chain-${version}`);
      const { plugins } = conflist(`${bare.root}/etc/cni/net.d`);
      let result: object | undefined;
      for (const plugin of plugins) result = (await one("ADD", plugin, version, result)).answer;
      expect(result).toMatchObject({
        cniVersion: version,
        interfaces: [{ mac: "ee:ee:ee:ee:ee:ee" }, { name: "eth0", sandbox: path }],
      });
      expect(addressesIn({ exitCode: 0, answer: result as Answer["answer"] }).length).toBe(2);
      const server = Bun.spawn(
        [
          "nsenter",
          `--net=${path}`,
          "--",
          "busybox",
          "httpd",
          "-f",
          "-p",
          "[::]:80",
          "-h",
          "/usr/share/common-licenses",
        ],
        { stdout: "ignore", stderr: "ignore" },
      );
      try {
        const client = await lab.node("n1");
        await expectPolicyDecides("chain", bare.asNode.addresses, 8080, client, await lab.node("n2"));
        // Not the others: of version 1.1.1 portmap looks for IPv4 rules among those of IPv6, and bandwidth panics where no limit is set.
        const [ours] = plugins;
        if (ours !== undefined) await one("CHECK", ours, version, result);
        for (const plugin of [...plugins].reverse()) await one("DEL", plugin, version, result);
        for (const address of bare.asNode.addresses) expect(await reached(client, address, 8080)).toBe(false);
        for (const tool of ["iptables-save", "ip6tables-save"])
          expect((await lab.inNode(bare.asNode, tool, "-t", "nat")).stdout).not.toContain("dport 8080");
      } finally {
        server.kill("SIGKILL");
        await server.exited;
      }
    }, 90_000);
  }
});

describe("the lab", () => {
  test("serves the host ports of its pods", async () => {
    const pod = serverPod(NS, "web", { app: "web" }, 80, { nodeName: "n1" }) as {
      spec: { containers: { ports: object[] }[] };
    };
    pod.spec.containers[0]?.ports.push({ name: "host", containerPort: 80, hostPort: 8081 });
    await lab.apply(list(pod));
    await lab.pods(NS, "web");
    const { addresses } = await lab.node("n1");
    const client = await lab.node("n2");
    await expectPolicyDecides("web", addresses, 8081, client, bare.asNode);
    await lab.must("delete", "pod", "-n", NS, "web");
    for (const address of addresses) expect(await reached(client, address, 8081)).toBe(false);
  }, 60_000);
});

describe("where the other plugins are missing", () => {
  const place = (name: string): string => `${bare.root}/${name}`;

  async function install(name: string, ...flags: readonly string[]): Promise<Output> {
    return execute([
      CALICO,
      "cni",
      "install",
      "--root",
      place(name),
      "--bin-dir",
      `${place(name)}/bin`,
      "--conf-dir",
      `${place(name)}/conf`,
      ...flags,
    ]);
  }

  test("they are left out by name, and a Pod with a host port gets an Event that it has no effect", async () => {
    const { exitCode, stdout } = await install("none", "--plugins-from", "/nonexistent");
    expect(exitCode).toBe(0);
    expect(stdout).toContain("left out portmap (host ports): it is neither in ");
    expect(stdout).toContain("left out bandwidth (bandwidth limits): it is neither in ");
    const { plugins } = conflist(`${place("none")}/conf`);
    expect(plugins.map(({ type, capabilities }) => [type, capabilities])).toEqual([
      ["calico", { portMappings: true, bandwidth: true }],
    ]);
    const path = await runtime.netns("unserved");
    const runtimeConfig = {
      portMappings: [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }],
      bandwidth: { ingressRate: 1000 },
    };
    expect((await runtime.cni("ADD", "unserved", path, "chain", { config: { runtimeConfig } })).exitCode).toBe(0);
    await until("the Event", async () =>
      (await lab.must("get", "events", "-n", NS, "-o", "jsonpath={.items[*].message}")).includes(
        "Without effect: host port 8080/tcp: the CNI plugin portmap is not installed on this node; bandwidth limits: the CNI plugin bandwidth is not installed on this node",
      ),
    );
    await runtime.cni("DEL", "unserved", path, "chain");
  });

  test("one that does not speak the configuration's version is left out", async () => {
    const { stdout } = await install("new", "--cni-version", "1.1.0");
    expect(stdout).toContain(
      "left out portmap (host ports): it speaks 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, not 1.1.0",
    );
    expect(conflist(`${place("new")}/conf`).plugins.map(({ type }) => type)).toEqual(["calico"]);
  });

  test("one that is installed already is kept, and one that does not answer is left out", async () => {
    mkdirSync(`${place("own")}/bin`, { recursive: true });
    writeFileSync(
      `${place("own")}/bin/portmap`,
      '#!/bin/sh\necho \'{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}\'\n',
    );
    writeFileSync(`${place("own")}/bin/bandwidth`, "#!/bin/sh\nexit 1\n");
    for (const name of ["portmap", "bandwidth"]) chmodSync(`${place("own")}/bin/${name}`, 0o755);
    const { stdout } = await install("own", "--cni-version", "1.1.0");
    expect(stdout).toContain("left out bandwidth (bandwidth limits): it does not answer VERSION");
    expect(conflist(`${place("own")}/conf`).plugins.map(({ type }) => type)).toEqual(["calico", "portmap"]);
    expect(readFileSync(`${place("own")}/bin/portmap`, "utf8")).toStartWith("#!/bin/sh");
    for (const name of ["none", "new", "own"]) rmSync(place(name), { recursive: true });
    expect(existsSync(place("own"))).toBe(false);
  });
});
