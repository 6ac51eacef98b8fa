/** objects: the Kubernetes objects that the tests create, what they ask of a running Pod, and what address management records. */
import { type Allocation, wholeBlockOf } from "../../src/model/convert/block.ts";
import type { Resource } from "../../src/model/resource.ts";
import { BOX_IMAGE } from "./cluster/image.ts";
import type { Cluster } from "./cluster/cluster.ts";
import { type Output, tryRun, waitFor } from "./cluster/run.ts";

export interface PodOptions {
  readonly namespace: string;
  readonly name: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Exactly these addresses, one of each family, instead of what address management would choose. */
  readonly addresses?: readonly string[];
  readonly finalizers?: readonly string[];
  readonly node?: string;
  readonly command?: readonly string[];
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly container?: Readonly<Record<string, unknown>>;
}

export interface Pod {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly uid: string;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly deletionTimestamp?: string;
  };
  readonly spec: { readonly nodeName?: string; readonly hostNetwork?: boolean };
  readonly status: {
    readonly phase: string;
    readonly podIP?: string;
    readonly podIPs?: readonly { readonly ip: string }[];
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly containerStatuses?: readonly { readonly restartCount: number }[];
  };
}

export function namespace(name: string, labels: Readonly<Record<string, string>> = {}): object {
  return { apiVersion: "v1", kind: "Namespace", metadata: { name, labels } };
}

/** Listens with HTTP on port 8080 unless told otherwise; ends at once when deleted. */
export function podTemplate(options: Omit<PodOptions, "namespace" | "name">): object {
  return {
    ...(options.node === undefined ? {} : { nodeName: options.node }),
    terminationGracePeriodSeconds: 0,
    automountServiceAccountToken: false,
    dnsPolicy: "Default",
    containers: [
      {
        name: "box",
        image: BOX_IMAGE,
        imagePullPolicy: "Never",
        ...(options.command === undefined ? {} : { command: options.command }),
        ports: [{ name: "http", containerPort: 8080 }],
        ...options.container,
      },
    ],
    ...options.spec,
  };
}

export function pod(options: PodOptions): object {
  const { namespace: inNamespace, name, labels = {}, addresses, finalizers } = options;
  const annotations = addresses === undefined ? {} : { "cni.projectcalico.org/ipAddrs": JSON.stringify(addresses) };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      namespace: inNamespace,
      name,
      labels,
      annotations,
      ...(finalizers === undefined ? {} : { finalizers }),
    },
    spec: podTemplate(options),
  };
}

export interface PolicyOptions {
  readonly namespace: string;
  readonly name: string;
  /** Labels of the pods that it selects. */
  readonly selects: Readonly<Record<string, string>>;
  /** Absent: the policy does not concern the direction. Empty: it allows nothing. */
  readonly ingress?: readonly object[];
  readonly egress?: readonly object[];
}

export function networkPolicy({ namespace: inNamespace, name, selects, ingress, egress }: PolicyOptions): object {
  const policyTypes = [...(ingress === undefined ? [] : ["Ingress"]), ...(egress === undefined ? [] : ["Egress"])];
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { namespace: inNamespace, name },
    spec: { podSelector: { matchLabels: selects }, policyTypes, ingress, egress },
  };
}

/** A peer: the pods of the policy's namespace with the labels. */
export function podsWith(labels: Readonly<Record<string, string>>): object {
  return { podSelector: { matchLabels: labels } };
}

export function isReady(found: Pod): boolean {
  return found.status.conditions?.some(({ type, status }) => type === "Ready" && status === "True") === true;
}

export function pods(cluster: Cluster, inNamespace: string, selector = ""): Promise<readonly Pod[]> {
  return cluster.get<{ items: readonly Pod[] }>(["pods", "-n", inNamespace, "-l", selector]).then(({ items }) => items);
}

/** Waits until every named Pod is Ready; the Pods. */
export async function awaitReady(
  cluster: Cluster,
  inNamespace: string,
  names: readonly string[],
  seconds = 60,
): Promise<readonly Pod[]> {
  let found: readonly Pod[] = [];
  await waitFor(
    `pods ${names.join(", ")} of ${inNamespace} to be Ready`,
    seconds,
    async () => {
      found = (await pods(cluster, inNamespace)).filter((item) => names.includes(item.metadata.name));
      return found.length === names.length && found.every(isReady);
    },
    () => describeFailures(cluster, inNamespace),
  );
  return names.map((name) => found.find((item) => item.metadata.name === name)).filter((item) => item !== undefined);
}

/** Pods and warnings of a namespace, for an error message. */
export async function describeFailures(cluster: Cluster, inNamespace: string): Promise<string> {
  const listed = await cluster.tryKubectl(["get", "pods", "-n", inNamespace, "-o", "wide"]);
  const events = await cluster.tryKubectl([
    "get",
    "events",
    "-n",
    inNamespace,
    "--field-selector=type=Warning",
    "-o",
    'jsonpath={range .items[*]}{.reason}{": "}{.message}{"\\n"}{end}',
  ]);
  return `\n${listed.stdout}${events.stdout.split("\n").slice(-8).join("\n")}`;
}

/** The addresses of a Pod, IPv4 then IPv6. */
export function addressesOf(found: Pod): readonly [string, string] {
  const ips = found.status.podIPs?.map(({ ip }) => ip) ?? [];
  const ipv4 = ips.find((ip) => !ip.includes(":"));
  const ipv6 = ips.find((ip) => ip.includes(":"));
  if (ipv4 === undefined || ipv6 === undefined)
    throw new Error(`pod ${found.metadata.name} has addresses ${JSON.stringify(ips)}, must have one of each family`);
  return [ipv4, ipv6];
}

export function urlOf(address: string, port = 8080): string {
  return `http://${address.includes(":") ? `[${address}]` : address}:${port}/index.html`;
}

/** One HTTP request from a Pod, one second at most (`timeout`, because Debian's busybox crashes at `wget -T`). */
export function fetchFrom(cluster: Cluster, inNamespace: string, from: string, url: string): Promise<Output> {
  return cluster.exec(inNamespace, from, ["timeout", "1", "wget", "-q", "-O", "-", url]);
}

export async function answers(cluster: Cluster, inNamespace: string, from: string, url: string): Promise<boolean> {
  return (await fetchFrom(cluster, inNamespace, from, url)).stdout === "hello\n";
}

/** Waits until a Pod reaches, or no longer reaches, the port of every address. */
export async function awaitAnswers(
  cluster: Cluster,
  expected: boolean,
  inNamespace: string,
  from: string,
  addresses: readonly string[],
  port = 8080,
): Promise<void> {
  for (const address of addresses) {
    await waitFor(
      `${from} to ${expected ? "reach" : "be kept from"} ${address}`,
      20,
      async () => (await answers(cluster, inNamespace, from, urlOf(address, port))) === expected,
      async () => {
        const { exitCode, stdout, stderr } = await fetchFrom(cluster, inNamespace, from, urlOf(address, port));
        return `exit code ${exitCode}, ${JSON.stringify((stdout + stderr).slice(-200))}\n${await waysTo(cluster, address)}`;
      },
    );
  }
}

/** By which route each node sends to the address, and its BGP sessions. */
async function waysTo(cluster: Cluster, address: string): Promise<string> {
  const ways = cluster.layout.nodes.map(async ({ name, netns, birdSocket }) => {
    const route = await tryRun(["ip", "-n", netns, "route", "get", address]);
    const { stdout } = await tryRun(["birdc", "-s", birdSocket, "show", "protocols"]);
    const sessions = stdout.split("\n").filter((line) => /\bBGP\b/.test(line));
    return `${name}: ${(route.stdout + route.stderr).trim()}\n${sessions.join("\n")}`;
  });
  return (await Promise.all(ways)).join("\n");
}

/** Writes a Pod's status by hand, as a kubelet would; the kubelet of its node, if there is one, may write it back. */
export async function writeStatus(cluster: Cluster, inNamespace: string, name: string, status: object): Promise<void> {
  await cluster.kubectl([
    "patch",
    "pod",
    "-n",
    inNamespace,
    name,
    "--subresource=status",
    "--type=merge",
    "-p",
    JSON.stringify({ status }),
  ]);
}

/** The part of a Pod's status that tells its addresses. */
export function reporting(addresses: readonly string[]): object {
  return { podIP: addresses[0], podIPs: addresses.map((ip) => ({ ip })) };
}

/** Every address that a block records for somebody. */
export async function allocations(cluster: Cluster): Promise<readonly Allocation[]> {
  const { items } = await cluster.get<{ items: readonly Resource<"IPAMBlock">[] }>(["ipamblocks"]);
  return items.flatMap((item) => {
    const block = wholeBlockOf(item);
    if (!block.ok) throw new Error(`block ${item.metadata.name} is malformed: ${JSON.stringify(block.error)}`);
    return block.value.allocations;
  });
}

/**
 * What address management and the Pods of the API say differently, in words: an address without its Pod, a Pod's address that is
 * recorded for another one or not at all, a handle of a pod without an address. Empty when all agree.
 */
export async function addressErrors(cluster: Cluster): Promise<readonly string[]> {
  const held = (await allocations(cluster)).filter(({ pod: holder }) => holder !== undefined);
  const { items } = await cluster.get<{ items: readonly Pod[] }>(["pods", "-A"]);
  const reported = items.flatMap(({ metadata, spec, status }) => {
    const isOurs = spec.hostNetwork !== true && status.phase === "Running" && metadata.deletionTimestamp === undefined;
    return isOurs ? (status.podIPs ?? []).map(({ ip }) => `${ip} ${metadata.namespace}/${metadata.name}`) : [];
  });
  const recorded = held.map(({ addr, pod: holder }) => `${addr} ${holder?.namespace}/${holder?.name}`);
  const named = new Set(held.map(({ handle }) => handle));
  const handles = (await cluster.get<{ items: readonly Resource<"IPAMHandle">[] }>(["ipamhandles"])).items.map(
    ({ spec }) => spec.handleID,
  );
  return [
    ...recorded.filter((line) => !reported.includes(line)).map((line) => `recorded, not used: ${line}`),
    ...reported.filter((line) => !recorded.includes(line)).map((line) => `used, not recorded: ${line}`),
    ...handles.filter((handle) => !named.has(handle)).map((handle) => `handle without an address: ${handle}`),
  ];
}

/** Waits until address management and the Pods of the API agree. */
export async function awaitAddressesAgree(cluster: Cluster, seconds: number): Promise<void> {
  await waitFor(
    "blocks, handles and pods to agree",
    seconds,
    async () => (await addressErrors(cluster)).length === 0,
    async () => (await addressErrors(cluster)).join("\n"),
  );
}

/** Deletes a namespace and goes on: what comes after does not depend on its end. */
export async function removeNamespace(cluster: Cluster, name: string): Promise<void> {
  await cluster.kubectl(["delete", "namespace", name, "--ignore-not-found", "--wait=false"]);
}

/** For each address that a pod holds the name of the pod, as address management has it. */
export async function holders(cluster: Cluster): Promise<readonly string[]> {
  return (await allocations(cluster)).flatMap(({ pod: holder }) => holder?.name ?? []);
}
