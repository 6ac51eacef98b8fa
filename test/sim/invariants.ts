/** Invariants: what must hold when a world has come to rest: every pod on the network, no address lost, kernels as the program from scratch says. */
import { programOf, type State } from "../../src/calc/from-scratch.ts";
import { HOST_END_IPV4 } from "../../src/dataplane/links/settings.ts";
import { NftablesLowering } from "../../src/dataplane/nftables/lower.ts";
import { TABLE } from "../../src/dataplane/nftables/names.ts";
import { chainId, elementId, setId } from "../../src/dataplane/nftables/rows.ts";
import { wantedElements } from "../../src/dataplane/nftables/sets.ts";
import { type Attachment, isWired } from "../../src/felix/journal.ts";
import { NftablesClient } from "../../src/kernel/nftables/client.ts";
import type { NftTableState } from "../../src/kernel/nftables/objects.ts";
import { MAIN_TABLE, RouteClient } from "../../src/kernel/route/client.ts";
import { readSysctl } from "../../src/kernel/sysctl.ts";
import { equal } from "../../src/lib/equal.ts";
import { unwrap } from "../../src/lib/result.ts";
import { wholeBlockOf, type WholeBlock } from "../../src/model/convert/block.ts";
import type { CniRecord } from "../../src/model/endpoint.ts";
import { reserveNode } from "../../src/model/kinds/reserved.ts";
import type { Resource } from "../../src/model/resource.ts";
import type { Family } from "../../src/net/addr.ts";
import { parsePrefix, prefixAddr, prefixCovers, prefixFamily, prefixRange } from "../../src/net/prefix.ts";
import { hostInterfaceName } from "../../src/podnet/names.ts";
import type { Program } from "../../src/program/program.ts";
import { formatRoute } from "../../src/program/route.ts";
import { PROTOCOL } from "./bird.ts";
import type { SimNode } from "./machine.ts";
import { NETWORK } from "./runtime.ts";
import type { World } from "./world.ts";

/** Every invariant of a world at rest that does not hold. */
export async function checkRest(world: World): Promise<string[]> {
  const blocks = await blocksOf(world);
  const wrong = [...checkBlocks(world, blocks), ...(await checkReserves(world, blocks))];
  for (const runtime of world.runtimes)
    for (const sandbox of runtime.live()) {
      const answer = await runtime.check(sandbox);
      if (answer?.ok !== true)
        wrong.push(`CHECK of ${sandbox.containerId} on ${runtime.node.name}: ${JSON.stringify(answer)}`);
    }
  for (const node of world.nodes) {
    const program = await programFromScratch(world, node);
    wrong.push(...checkNode(node, program), ...checkLearned(node, blocks), ...checkLinks(world, node));
  }
  return wrong;
}

/** What of the node's kernel is not as the program says. */
export function checkNode(node: SimNode, program: Program): string[] {
  const names = attachmentsOf(node).flatMap((one) => (isWired(one) ? [one.record.interface] : []));
  return [
    ...checkTable(node, program).map(({ text }) => text),
    ...checkRoutes(node, program),
    ...checkSettings(node, names),
  ];
}

export async function tableDifferences(world: World, node: SimNode): Promise<Difference[]> {
  return checkTable(node, await programFromScratch(world, node));
}

/** Addresses are recorded for those who hold them, and for nobody else. */
function checkBlocks(world: World, blocks: readonly WholeBlock[]): string[] {
  const wrong: string[] = [];
  const live = new Map(
    world.runtimes.flatMap((runtime) =>
      runtime.live().map((sandbox) => [`${NETWORK}.${sandbox.containerId}`, sandbox]),
    ),
  );
  const recorded = new Map<string, string>();
  for (const { addr, handle } of blocks.flatMap(({ allocations }) => allocations)) {
    if (handle === undefined || reserveNode(handle) === undefined) {
      if (live.get(handle ?? "")?.addresses?.includes(addr) !== true)
        wrong.push(`${addr} is lost: recorded for ${handle ?? "nobody"}, which does not have it`);
    }
    if (recorded.has(addr)) wrong.push(`${addr} is recorded twice`);
    recorded.set(addr, handle ?? "");
  }
  for (const [handle, { addresses }] of live)
    for (const addr of addresses ?? [])
      if (recorded.get(addr) !== handle)
        wrong.push(`${addr} of ${handle} is recorded for ${recorded.get(addr) ?? "nobody"}`);
  return wrong;
}

interface PoolUse {
  readonly name: string;
  readonly isDisabled: boolean;
  readonly family: Family;
  /** Addresses that no pod has. */
  readonly unused: number;
  /** Of each node that has some in its reserve: how many. */
  readonly reserves: ReadonlyMap<string, number>;
}

async function poolsInUse(world: World, blocks: readonly WholeBlock[]): Promise<PoolUse[]> {
  return (await world.store.list("IPPool")).items.map(({ metadata, spec }) => {
    const pool = unwrap(parsePrefix(spec.cidr));
    const { first, last } = prefixRange(pool);
    const allocations = blocks.flatMap((block) => (prefixCovers(pool, block.prefix) ? block.allocations : []));
    let unused = Number(last - first) + 1;
    const reserves = new Map<string, number>();
    for (const { handle } of allocations) {
      const node = handle === undefined ? undefined : reserveNode(handle);
      if (node === undefined) unused--;
      else reserves.set(node, (reserves.get(node) ?? 0) + 1);
    }
    return {
      name: metadata.name,
      isDisabled: spec.disabled === true,
      family: prefixFamily(pool),
      unused,
      reserves,
    };
  });
}

/** Of the addresses of a pool that no pod has, a node's reserve holds at most its share of the half; and none of a pool that gives none. */
async function checkReserves(world: World, blocks: readonly WholeBlock[]): Promise<string[]> {
  return (await poolsInUse(world, blocks)).flatMap(({ name, isDisabled, unused, reserves }) => {
    const most = isDisabled ? 0 : Math.floor(unused / (2 * world.nodes.length));
    return [...reserves].flatMap(([node, count]) =>
      count > most ? [`the reserve of ${node} holds ${count} addresses of ${name}, may hold ${most}`] : [],
    );
  });
}

/** How many pods of both families the pools have addresses for. */
export async function unusedAddresses(world: World): Promise<number> {
  const pools = (await poolsInUse(world, await blocksOf(world))).filter(({ isDisabled }) => !isDisabled);
  const of = (wanted: Family): number =>
    pools.reduce((sum, { family, unused }) => (family === wanted ? sum + unused : sum), 0);
  return Math.min(of(4), of(6));
}

async function blocksOf({ store }: World): Promise<WholeBlock[]> {
  return (await store.list("IPAMBlock")).items.flatMap((block) => {
    const model = wholeBlockOf(block);
    return model.ok ? [model.value] : [];
  });
}

function attachmentsOf(node: SimNode): Attachment[] {
  return node.disk
    .below(node.paths.journal)
    .filter((path) => path.endsWith(".json"))
    .map((path) => JSON.parse(node.disk.read(path) ?? "") as Attachment);
}

export async function programFromScratch({ store }: World, node: SimNode): Promise<Program> {
  const pods = (await store.list("Pod")).items;
  const wired = attachmentsOf(node)
    .filter(isWired)
    .map(({ record }) => record);
  const state: State = {
    node: node.name,
    pods,
    namespaces: (await store.list("Namespace")).items,
    serviceAccounts: (await store.list("ServiceAccount")).items,
    networkPolicies: (await store.list("KubernetesNetworkPolicy")).items,
    blocks: (await store.list("IPAMBlock")).items,
    pools: (await store.list("IPPool")).items,
    nodes: (await store.list("Node")).items,
    records: [...wired, ...pods.flatMap((pod) => expectedOf(pod, wired))],
  };
  return programOf(state);
}

/** A pod without a network is an endpoint without addresses, if it is of the node. */
function expectedOf({ metadata }: Resource<"Pod">, wired: readonly CniRecord[]): CniRecord[] {
  const { namespace = "", name, uid } = metadata;
  const usual = hostInterfaceName(namespace, name);
  const isWiredAs = ({ pod, interface: own }: CniRecord): boolean =>
    own === usual || (pod.namespace === namespace && pod.name === name);
  if (wired.some(isWiredAs)) return [];
  const pod = { kind: "Pod", namespace, name } as const;
  return [{ containerId: "", pod, uid, interface: usual, addresses: [], mac: "", netns: "", podInterface: "" }];
}

/** Of a process of its own on the node. */
function looking<T>(node: SimNode, look: (sys: ReturnType<SimNode["kernel"]["startProcess"]>["sys"]) => T): T {
  const process = node.kernel.startProcess("look");
  try {
    return look(process.sys);
  } finally {
    process.end();
  }
}

/** Chains, declarations of sets and elements by their ids, as the lowering makes them of the program. */
function wantedTable(program: Program): Map<string, unknown> {
  const want = new Map<string, unknown>();
  const delta = { ...program, members: new Map() };
  const lowering = new NftablesLowering();
  for (const [id, owned] of lowering.lower(program, delta).rows) {
    if (owned === undefined) continue;
    const { row } = owned;
    if (row.type === "chain") want.set(id, { base: row.base, rules: row.rules });
    else if (row.type === "element") want.set(id, row.element);
    else if (row.type === "set") {
      want.set(id, row.is);
      for (const element of wantedElements(program, row.set, lowering.netsOf)?.elements() ?? [])
        want.set(elementId(row.set, element), element);
    }
  }
  return want;
}

/** The same of what a kernel has. */
function tableOf(table: NftTableState | undefined): Map<string, unknown> {
  const have = new Map<string, unknown>();
  for (const [chain, { base, rules }] of table?.chains ?? [])
    have.set(chainId(chain), { base, rules: rules.map(({ rule }) => rule) });
  for (const [set, { is, elements }] of table?.sets ?? []) {
    have.set(setId(set), is);
    for (const element of elements) have.set(elementId(set, element), element);
  }
  return have;
}

interface Difference {
  /** Of a chain, set or element. */
  readonly id: string;
  readonly text: string;
}

function checkTable(node: SimNode, program: Program): Difference[] {
  const want = wantedTable(program);
  const have = looking(node, (sys) => {
    const client = new NftablesClient(sys, TABLE);
    const table = client.read();
    client.close();
    return tableOf(table);
  });
  return [...new Set([...want.keys(), ...have.keys()])].flatMap((id) => {
    const [wanted, found] = [want.get(id), have.get(id)];
    if (wanted !== undefined && found !== undefined && equal(wanted, found)) return [];
    const how = wanted === undefined ? "is not wanted" : found === undefined ? "is missing" : "differs";
    return [{ id, text: `${node.name}: ${id} of the table ${how}` }];
  });
}

function checkRoutes(node: SimNode, program: Program): string[] {
  const have = looking(node, (sys) => {
    const client = new RouteClient(sys);
    const names = new Map(client.links().map((link) => [link.index, link.name]));
    const routes = client.routes({ table: MAIN_TABLE }).filter(({ protocol }) => protocol === 80);
    client.close();
    return routes.map(({ destination, table, type, interfaceIndex, metric, gateway }) => {
      if (type !== "unicast" && type !== "blackhole") return `${type} ${destination}`;
      const device = type === "blackhole" ? undefined : names.get(interfaceIndex ?? 0);
      return formatRoute({ destination, table, type, metric, device, via: gateway });
    });
  });
  const want = [...program.routes.values()].map(formatRoute);
  return [
    ...want.filter((route) => !have.includes(route)).map((route) => `${node.name}: route ${route} is missing`),
    ...have.filter((route) => !want.includes(route)).map((route) => `${node.name}: route ${route} is not wanted`),
  ];
}

/** Each block of another node is reached by that node. */
function checkLearned(node: SimNode, blocks: readonly WholeBlock[]): string[] {
  const routes = looking(node, (sys) => {
    const client = new RouteClient(sys);
    const found = client.routes({ table: MAIN_TABLE }).filter(({ protocol }) => protocol === PROTOCOL);
    client.close();
    return found;
  });
  return blocks.flatMap(({ prefix, node: owner }) => {
    if (owner === undefined || owner === node.name) return [];
    const ordinal = Number(owner.slice(1));
    const via = prefixAddr(prefix).includes(":") ? `fd00:168::${ordinal}` : `192.168.0.${ordinal}`;
    const found = routes.filter(({ destination }) => destination === prefix);
    return found.length === 1 && found[0]?.gateway === via
      ? []
      : [
          `${node.name}: block ${prefix} of ${owner} is routed by ${found.map(({ gateway }) => gateway).join(", ") || "nobody"}`,
        ];
  });
}

/** An interface, and a record on disk, for each live pod and for nothing else. */
function checkLinks(world: World, node: SimNode): string[] {
  const live = world.runtimes.find((runtime) => runtime.node === node)?.live() ?? [];
  const attachments = attachmentsOf(node);
  const names = attachments.map(({ record }) => record.interface).sort();
  const links = node.kernel.root.route.links
    .all()
    .map(({ name }) => name)
    .filter((name) => name.startsWith("cali") && !name.startsWith("caligateway"))
    .sort();
  const wrong: string[] = [];
  if (JSON.stringify(links) !== JSON.stringify(names))
    wrong.push(`${node.name}: interfaces are ${links.join(" ")}, records speak of ${names.join(" ")}`);
  const containers = attachments.map(({ record }) => record.containerId).sort();
  const wanted = live.map(({ containerId }) => containerId).sort();
  if (JSON.stringify(containers) !== JSON.stringify(wanted))
    wrong.push(`${node.name}: records are of ${containers.join(" ")}, live are ${wanted.join(" ")}`);
  const left = node.disk.below(node.paths.journal).filter((path) => !path.endsWith(".json"));
  if (left.length > 0) wrong.push(`${node.name}: files are left: ${left.join(" ")}`);
  return wrong;
}

/** Host ends are up and have their settings, and the node forwards. */
function checkSettings(node: SimNode, names: readonly string[]): string[] {
  const wrong: string[] = [];
  looking(node, (sys) => {
    const client = new RouteClient(sys);
    for (const name of names) {
      const link = client.linkByName(name);
      const six = { forwarding: true, proxyNdp: true, acceptRa: false, disabled: false };
      if (link?.up !== true || !equal(link.ipv4, HOST_END_IPV4) || !equal(link.ipv6, six))
        wrong.push(`${node.name}: interface ${name} is ${JSON.stringify(link)}`);
    }
    client.close();
    for (const name of ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"])
      if (readSysctl(sys, name) !== "1") wrong.push(`${node.name}: ${name} is not 1`);
  });
  return wrong;
}
