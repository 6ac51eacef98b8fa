/**
 * hosts: a lab without Kubernetes (`--datastore etcd`): three members of Debian's etcd on the fabric, and on each host a machine behind an
 * interface `tap0`, as a hypervisor would make it, with a WorkloadEndpoint; host endpoints, and policy between all of them.
 */
import { existsSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { calicoctlConfig, openCalicoctl } from "./calicoctl.ts";
import type { DaemonSpec } from "./daemon.ts";
import { inNetns, type Layout, type Machine, netnsPath, type NodeLayout } from "./layout.ts";
import { CommandError, tryRun, waitFor } from "./run.ts";

const [CLIENT_PORT, PEER_PORT] = [2379, 2380];
/** What every machine serves by HTTP. */
const SERVED = "/usr/share/common-licenses";

/** Throws a CommandError that names what is missing, before anything is created. */
export function checkHostPrograms(): void {
  const missing = ["etcd", "busybox"].filter((program) => Bun.which(program) === null);
  if (missing.length > 0)
    throw new CommandError(
      `--datastore etcd needs ${missing.join(" and ")} on PATH: "apt install etcd-server busybox" installs them`,
    );
}

function url(address: string, port: number): string {
  return `http://${address.includes(":") ? `[${address}]` : address}:${port}`;
}

function endpoints(layout: Layout): string {
  return layout.etcdHosts.map((address) => url(address, CLIENT_PORT)).join(",");
}

export function writeCalicoctlConfig(layout: Layout): void {
  const spec = { datastoreType: "etcdv3", etcdEndpoints: endpoints(layout) };
  const config = { apiVersion: "projectcalico.org/v3", kind: "CalicoAPIConfig", metadata: {}, spec };
  writeFileSync(calicoctlConfig(layout), `${JSON.stringify(config, undefined, 2)}\n`);
}

/** By which a node finds etcd, and how other nodes reach it. */
export function hostEnvironment(layout: Layout): Readonly<Record<string, string>> {
  const { ipv4, ipv6 } = layout.config;
  return {
    DATASTORE_TYPE: "etcdv3",
    ETCD_ENDPOINTS: endpoints(layout),
    FELIX_INTERFACEPREFIX: "cali,tap",
    IP: ipv4 ? "autodetect" : "none",
    IP6: ipv6 ? "autodetect" : "none",
  };
}

export function etcdMembers(layout: Layout): readonly DaemonSpec[] {
  const name = (i: number): string => `etcd${i + 1}`;
  const cluster = layout.etcdHosts.map((address, i) => `${name(i)}=${url(address, PEER_PORT)}`).join(",");
  return layout.etcdHosts.map((address, i) => {
    const [client, peer] = [url(address, CLIENT_PORT), url(address, PEER_PORT)];
    const options = {
      name: name(i),
      "data-dir": `${layout.apiDirectory}/${name(i)}`,
      "listen-client-urls": client,
      "advertise-client-urls": client,
      "listen-peer-urls": peer,
      "initial-advertise-peer-urls": peer,
      "initial-cluster": cluster,
      // A lab's objects need not survive the machine.
      "unsafe-no-fsync": "true",
      "log-level": "warn",
    };
    const flags = Object.entries(options).map(([flag, value]) => `--${flag}=${value}`);
    return {
      name: name(i),
      cgroup: `${layout.cgroup}/${name(i)}`,
      environment: { ETCD_UNSUPPORTED_ARCH: process.arch },
      command: inNetns(netnsPath(layout.fabricNetns), ["etcd", ...flags]),
    };
  });
}

/** The server in each machine. */
export function machineDaemons(layout: Layout, { name, machine }: NodeLayout): readonly DaemonSpec[] {
  if (machine === undefined) return [];
  const serve = ["busybox", "httpd", "-f", "-p", "[::]:80", "-h", SERVED];
  return [
    {
      name: `${machine.name}-web`,
      cgroup: `${layout.cgroup}/${name}/${machine.name}`,
      ready: () => existsSync(machine.netnsPath),
      command: inNetns(machine.netnsPath, serve),
    },
  ];
}

/** Waits until etcd answers, and writes what the lab has. */
export async function createHostObjects(layout: Layout): Promise<void> {
  const ctl = openCalicoctl(layout);
  await waitFor(`etcd to answer; see ${layout.logs}/etcd1.log`, 60, () => ctl(["get", "nodes"]).exitCode === 0);
  // Policy first: a host endpoint without any is closed.
  for (const objects of [[...pools(layout), ...policies()], endpointsOf(layout)]) {
    const { exitCode, stderr } = ctl(["apply", "-f", "-"], JSON.stringify({ kind: "List", items: objects }));
    if (exitCode !== 0) throw new CommandError(`cannot write the objects of the lab: ${stderr.trim()}`);
  }
}

function object(kind: string, metadata: object, spec: object): object {
  return { apiVersion: "projectcalico.org/v3", kind, metadata, spec };
}

function pools(layout: Layout): object[] {
  return layout.config.pools.map((cidr, i) =>
    object("IPPool", { name: `pool-${i + 1}` }, { cidr, nodeSelector: "all()" }),
  );
}

function policies(): object[] {
  const icmp = ["ICMP", "ICMPv6"].map((protocol) => ({ action: "Allow", protocol }));
  const allow = [{ action: "Allow" }];
  return [
    object(
      "GlobalNetworkPolicy",
      { name: "hosts" },
      {
        selector: "has(host)",
        types: ["Ingress", "Egress"],
        ingress: [...icmp, { action: "Allow", source: { selector: "has(host)" } }],
        egress: allow,
      },
    ),
    object(
      "NetworkPolicy",
      { name: "web", namespace: "default" },
      {
        selector: "machine == 'vm1'",
        types: ["Ingress"],
        ingress: [
          ...icmp,
          { action: "Allow", protocol: "TCP", source: { selector: "machine == 'vm2'" }, destination: { ports: [80] } },
        ],
      },
    ),
  ];
}

function endpointsOf(layout: Layout): object[] {
  return layout.nodes.flatMap(({ name, addresses, machine }) => [
    object(
      "HostEndpoint",
      { name: `${name}-eth0`, labels: { host: name } },
      { node: name, interfaceName: "eth0", expectedIPs: addresses },
    ),
    ...(machine === undefined ? [] : [workloadEndpoint(name, machine)]),
  ]);
}

function workloadEndpoint(node: string, { name, interface: device, addresses }: Machine): object {
  return object(
    "WorkloadEndpoint",
    { namespace: "default", labels: { machine: name } },
    {
      node,
      orchestrator: "kvm",
      workload: name,
      endpoint: "eth0",
      interfaceName: device,
      ipNetworks: addresses.map((address) => `${address}/${address.includes(":") ? 128 : 32}`),
      profiles: ["projectcalico-default-allow"],
    },
  );
}

/** Why the lab is not as it should be: nodes that have not registered, machines that the network does not reach. */
export function hostProblems(layout: Layout): readonly string[] {
  const answer = openCalicoctl(layout)(["get", "nodes"]);
  if (answer.exitCode !== 0) return [`etcd does not answer as it should: ${answer.stderr.trim()}`];
  const known = new Set(answer.stdout.split("\n").map((line) => line.trim()));
  return layout.nodes.flatMap((node) => [
    ...(known.has(node.name) ? [] : [`Node ${node.name} is not in etcd`]),
    ...(node.machine === undefined || isServed(node.machine, layout)
      ? []
      : [`machine ${node.machine.name} is not reached from its own host`]),
  ]);
}

/** Its own host may always reach it. */
function isServed({ addresses }: Machine, layout: Layout): boolean {
  const node = layout.nodes.find(({ machine }) => machine?.addresses === addresses);
  return addresses.every((address) => {
    const get = ["wget", "-q", "-T", "2", "-t", "1", "-O", "/dev/null", `${url(address, 80)}/Apache-2.0`];
    return node !== undefined && tryRun(inNetns(node.netnsPath, get)).exitCode === 0;
  });
}

/** What to try next. */
export function hostSteps(layout: Layout, name: string): readonly string[] {
  const bin = dirname(process.execPath);
  const lab = `${bin}/calico-lab`;
  const ctl = `${lab} node-exec${name} n1 -- ${bin}/calicoctl "$@" -c ${calicoctlConfig(layout)}`;
  const [first, second, last] = [layout.nodes[0], layout.nodes[1], layout.nodes.at(-1)].map((node) => node?.machine);
  const address = first?.addresses[0] ?? "";
  const get = `wget -qO- -T 2 -t 1 ${url(address, 80)}/Apache-2.0`;
  return [
    "Try next:",
    `  ctl() { ${ctl}; }`,
    "  ctl get nodes -o wide",
    "  ctl get workloadendpoints -a",
    "  ctl get hostendpoints -o wide",
    `  ${lab} node-exec${name} n1 -- ip route`,
    ...(second === undefined ? [] : [`  ${lab} exec${name} ${second.name} -- ${get}    # policy "web" allows it`]),
    ...(last === undefined || last === second || last === first
      ? []
      : [`  ${lab} exec${name} ${last.name} -- ${get}    # and denies this`]),
    "  ctl why default/vm2 default/vm1:80/tcp",
    "  ctl delete networkpolicy web",
  ];
}
