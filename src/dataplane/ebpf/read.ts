/** read: the program that the maps hold: the inverse of what the driver writes, but for settings and routes. */
import { invariant } from "../../lib/bug.ts";
import { type Key, keyOfText, type KeyText } from "../../model/key.ts";
import { type Kind, KINDS } from "../../model/kind.ts";
import type { Direction, Hook } from "../../model/policy.ts";
import type { Addr } from "../../net/addr.ts";
import type { AddrPort, Policy, PolicyId, SetId, SetMembers, Stage } from "../../program/policy.ts";
import { DIRECTIONS, type Endpoint, type EndpointId, HOOKS, type Program } from "../../program/program.ts";
import { type Block, type Image, type ImageSet, sourcesOf } from "./image.ts";
import { COUNTS_ALONE, decodeRecords } from "./layout.ts";
import { asDeciding, readRules, readStage, stagedBefore } from "./records.ts";

export function readProgram(image: Image): Pick<Program, "sets" | "policies" | "endpoints"> {
  const named = [...image.sets.values()].filter(({ type }) => type !== "sources");
  const sets = new Map(named.map((set) => [set.id as SetId, membersOf(set)]));
  const setOf = (number: number): SetId => {
    const set = image.sets.get(number);
    invariant(set !== undefined, `the maps have no set ${number}`);
    return set.id as SetId;
  };
  const policies = new Map<PolicyId, Policy>();
  const policyOf = new Map<number, PolicyId>();
  const stages = new Map<number, Block>();
  for (const block of image.blocks.values()) {
    if (!block.kind.includes("policy-")) {
      stages.set(block.start, block);
      continue;
    }
    const [id = "", tier = "", error] = block.text.split("\0");
    const source = keyOf(id);
    const direction: Direction = block.kind.endsWith("policy-ingress") ? "ingress" : "egress";
    const rules = readRules(asDeciding(decodeRecords(block.records)), source, direction, setOf);
    const before = policies.get(id as PolicyId) ?? { source, tier, ingress: undefined, egress: undefined, error };
    policies.set(id as PolicyId, { ...before, [direction]: rules });
    policyOf.set(block.start, id as PolicyId);
  }
  const blockAt = (at: number): Block => {
    const block = stages.get(at);
    invariant(block !== undefined, `the maps have no stage at record ${at}`);
    return block;
  };
  const stageOf = (block: Block): Stage => {
    return readStage(asDeciding(decodeRecords(block.records)), block.text.split("\0"), (start) => {
      const id = policyOf.get(start);
      invariant(id !== undefined, `the maps have no policy at record ${start}`);
      return id;
    });
  };
  const endpoints = new Map<EndpointId, Endpoint>();
  for (const { text, stages: found, addresses } of image.endpoints.values()) {
    const [id = "", source = "", ...own] = (text ?? "").split("\0");
    const read: { [H in Hook]?: { [D in Direction]?: Stage } } = {};
    const staged: { [H in Hook]?: { [D in Direction]?: Stage } } = {};
    for (const [i, hook] of HOOKS.entries())
      for (const [k, direction] of DIRECTIONS.entries()) {
        const first = found.first[i * DIRECTIONS.length + k] ?? 0;
        if (first === 0) continue;
        const block = blockAt(first & ~COUNTS_ALONE);
        if ((first & COUNTS_ALONE) === 0) read[hook] = { ...read[hook], [direction]: stageOf(block) };
        const before = stagedBefore(decodeRecords(block.records));
        if (before !== undefined) staged[hook] = { ...staged[hook], [direction]: stageOf(blockAt(before)) };
      }
    const kind = found.kind === "host" ? "host" : "workload";
    const sources = sourcesOf(image, found);
    endpoints.set(id as EndpointId, {
      kind,
      source: keyOf(source),
      addresses: kind === "host" ? (own as Addr[]) : [...addresses],
      ...(sources.length === 0 ? {} : { sources }),
      stages: read,
      ...(Object.keys(staged).length === 0 ? {} : { staged }),
    });
  }
  return { sets, policies, endpoints };
}

function keyOf(text: string): Key {
  const kind = text.slice(0, text.indexOf("/"));
  invariant(kind in KINDS, `the maps name an object of no kind: ${text}`);
  return keyOfText(kind as Kind, text as KeyText);
}

function membersOf({ type, members, nets }: ImageSet): SetMembers {
  if (type === "nets" || type === "sources") return { type: "nets", nets };
  if (type === "address-port") return { type, members: members as ReadonlySet<AddrPort> };
  return { type, hosts: members as ReadonlySet<Addr>, nets };
}
