/** Invariants: what must hold when a world has come to rest: every pod on the network, no address lost, kernels as the program from scratch says. */
import { programOf, type State } from "../../src/calc/from-scratch.ts";
import { NftablesLowering } from "../../src/dataplane/nftables/lower.ts";
import { TABLE } from "../../src/dataplane/nftables/names.ts";
import { type NftRow, rowsOfTable, sameRow, TABLE_ROW } from "../../src/dataplane/nftables/rows.ts";
import { type Attachment, isWired } from "../../src/felix/journal.ts";
import { NftablesClient } from "../../src/kernel/nftables/client.ts";
import { MAIN_TABLE, RouteClient } from "../../src/kernel/route/client.ts";
import { blockModelOf, type BlockModel } from "../../src/model/kinds/block-model.ts";
import { reserveNode } from "../../src/model/kinds/reserved.ts";
import { prefixAddr } from "../../src/net/prefix.ts";
import { diffPrograms } from "../../src/program/diff.ts";
import type { Program } from "../../src/program/program.ts";
import { PROTOCOL } from "./bird.ts";
import type { SimNode } from "./machine.ts";
import { NETWORK } from "./runtime.ts";
import type { World } from "./world.ts";

const EMPTY: Program = { sets: new Map(), policies: new Map(), endpoints: new Map(), routes: new Map() };

/** Every invariant of a world at rest that does not hold. */
export async function checkRest(world: World): Promise<string[]> {
  const blocks = (await world.store.list("IPAMBlock")).items.flatMap((block) => {
    const model = blockModelOf(block);
    return model.ok ? [model.value] : [];
  });
  const wrong = checkBlocks(world, blocks);
  for (const runtime of world.runtimes)
    for (const sandbox of runtime.live()) {
      const answer = await runtime.check(sandbox);
      if (answer?.ok !== true)
        wrong.push(`CHECK of ${sandbox.containerId} on ${runtime.node.name}: ${JSON.stringify(answer)}`);
    }
  for (const node of world.nodes) {
    const program = await programFromScratch(world, node);
    wrong.push(
      ...checkTable(node, program),
      ...checkRoutes(node, program),
      ...checkLearned(node, blocks),
      ...checkLinks(world, node),
    );
  }
  return wrong;
}

/** Addresses are recorded for those who hold them, and for nobody else. */
function checkBlocks(world: World, blocks: readonly BlockModel[]): string[] {
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

function attachmentsOf(node: SimNode): Attachment[] {
  return node.disk
    .below(node.paths.journal)
    .filter((path) => path.endsWith(".json"))
    .map((path) => JSON.parse(node.disk.read(path) ?? "") as Attachment);
}

async function programFromScratch({ store }: World, node: SimNode): Promise<Program> {
  const state: State = {
    node: node.name,
    pods: (await store.list("Pod")).items,
    namespaces: (await store.list("Namespace")).items,
    serviceAccounts: (await store.list("ServiceAccount")).items,
    networkPolicies: (await store.list("KubernetesNetworkPolicy")).items,
    blocks: (await store.list("IPAMBlock")).items,
    records: attachmentsOf(node)
      .filter(isWired)
      .map(({ record }) => record),
  };
  return programOf(state);
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

function checkTable(node: SimNode, program: Program): string[] {
  const want = new Map<string, NftRow>();
  const lowering = new NftablesLowering((id, row) => (row === undefined ? want.delete(id) : want.set(id, row)));
  lowering.step(program, diffPrograms(EMPTY, program));
  const have = looking(node, (sys) => {
    const client = new NftablesClient(sys, TABLE);
    const table = client.read();
    client.close();
    return table === undefined ? new Map<string, NftRow>() : rowsOfTable(table, undefined);
  });
  have.delete(TABLE_ROW);
  return [...new Set([...want.keys(), ...have.keys()])].flatMap((id) => {
    const [wanted, found] = [want.get(id), have.get(id)];
    if (wanted !== undefined && found !== undefined && sameRow(wanted, found)) return [];
    const how = wanted === undefined ? "is not wanted" : found === undefined ? "is missing" : "differs";
    return [`${node.name}: ${id} of the table ${how}`];
  });
}

function checkRoutes(node: SimNode, program: Program): string[] {
  const have = looking(node, (sys) => {
    const client = new RouteClient(sys);
    const names = new Map(client.links().map((link) => [link.index, link.name]));
    const routes = client.routes({ table: MAIN_TABLE }).filter(({ protocol }) => protocol === 80);
    client.close();
    return routes.map(
      ({ destination, type, interfaceIndex, metric }) =>
        `${destination} ${type === "unicast" ? `local ${names.get(interfaceIndex ?? 0)}` : type}${metric === undefined ? "" : ` metric ${metric}`}`,
    );
  });
  const want = [...program.routes].map(([destination, route]) =>
    route.type === "local" ? `${destination} local ${route.interface}` : `${destination} ${route.type}`,
  );
  return [
    ...want.filter((route) => !have.includes(route)).map((route) => `${node.name}: route ${route} is missing`),
    ...have.filter((route) => !want.includes(route)).map((route) => `${node.name}: route ${route} is not wanted`),
  ];
}

/** Each block of another node is reached by that node. */
function checkLearned(node: SimNode, blocks: readonly BlockModel[]): string[] {
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
