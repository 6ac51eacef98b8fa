import { expect, test } from "bun:test";
import { Graph } from "../calc/graph.ts";
import { NftablesLowering } from "../dataplane/nftables/lower.ts";
import { rowsFor } from "../model/convert/rows.ts";
import type { CniRecord } from "../model/endpoint.ts";
import type { Resource } from "../model/resource.ts";
import { type Addr } from "../net/addr.ts";
import { hostInterfaceName } from "../podnet/names.ts";
import { Expected } from "./expected.ts";

interface PodOptions {
  readonly node?: string;
  readonly ip?: string;
  readonly phase?: string;
  readonly uid?: string;
  readonly hostNetwork?: boolean;
}

function pod(name: string, { node = "n1", ip, phase, uid = "u1", hostNetwork = false }: PodOptions): Resource<"Pod"> {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "a", uid },
    spec: { nodeName: node, hostNetwork, containers: [] },
    status: { ...(phase === undefined ? {} : { phase }), ...(ip === undefined ? {} : { podIP: ip, podIPs: [{ ip }] }) },
  };
}

const KEY = { kind: "Pod", namespace: "a", name: "web" } as const;
const USUAL = hostInterfaceName("a", "web");

function record(name: string, options: Partial<CniRecord> = {}): CniRecord {
  return {
    containerId: "c",
    pod: KEY,
    uid: "u1",
    interface: name,
    addresses: ["10.0.0.1" as Addr],
    mac: "",
    netns: "",
    podInterface: "eth0",
    ...options,
  };
}

class World {
  readonly graph = new Graph({ node: "n1" });
  readonly expected = new Expected(this.graph, "n1");
  readonly #rows = rowsFor("n1");

  see(name: string, options: PodOptions | undefined): void {
    const value = options && pod(name, options);
    const update = this.#rows({
      kind: "Pod",
      key: { ...KEY, name },
      value,
      origin: { revision: "1", generation: undefined, seenAt: 0 },
    });
    this.graph.update([update]);
    this.expected.observe([update]);
  }

  /** Interfaces of endpoints with their addresses. */
  endpoints(): Record<string, readonly string[]> {
    this.graph.flush();
    return Object.fromEntries(
      [...this.graph.program.endpoints].map(([id, { addresses }]): [string, readonly string[]] => [id, addresses]),
    );
  }
}

test("a pod that is bound to the node is an endpoint without addresses until ADD", () => {
  const world = new World();
  world.see("web", {});
  expect(world.endpoints()).toEqual({ [USUAL]: [] });
  world.expected.attach(record(USUAL));
  expect(world.endpoints()).toEqual({ [USUAL]: ["10.0.0.1"] });
});

test("after DEL a pod is an endpoint without addresses until it has finished, whatever addresses its Pod still names", () => {
  const world = new World();
  world.see("web", {});
  world.expected.attach(record(USUAL));
  world.see("web", { ip: "10.0.0.1" });
  world.expected.detach(USUAL);
  expect(world.endpoints()).toEqual({ [USUAL]: [] });
  world.see("web", { ip: "10.0.0.1" });
  expect(world.endpoints()).toEqual({ [USUAL]: [] });
  world.see("web", { ip: "10.0.0.1", phase: "Succeeded" });
  expect(world.endpoints()).toEqual({});
});

test("ADD and DEL of a pod that is expected touch no chain and no dispatch", () => {
  const world = new World();
  const lowering = new NftablesLowering();
  const before = new Map<string, string>();
  const changed = (): string[] => {
    const delta = world.graph.flush();
    return [...lowering.lower(world.graph.program, delta).rows].flatMap(([id, owned]) => {
      const text = JSON.stringify(owned?.row);
      if (before.get(id) === text) return [];
      before.set(id, text);
      return [id.split(" ").slice(0, 2).join(" ")];
    });
  };
  world.see("web", {});
  expect(changed()).toContain(`chain cali-tw-${USUAL.slice(4)}`);
  world.expected.attach(record(USUAL));
  expect(changed()).toEqual(["element sources-4"]);
  world.expected.detach(USUAL);
  expect(changed()).toEqual(["element sources-4"]);
});

test("pods of other nodes, of the host's network, that have finished or have gone are not expected", () => {
  const world = new World();
  for (const [name, options] of Object.entries({
    elsewhere: { node: "n2" },
    host: { hostNetwork: true },
    finished: { phase: "Failed" },
    gone: {},
  }))
    world.see(name, options);
  world.see("gone", undefined);
  expect(world.endpoints()).toEqual({});
});

test("a pod whose interface has another name is not expected under its usual one", () => {
  const world = new World();
  world.see("web", {});
  world.expected.attach(record(USUAL, { pod: { ...KEY, name: "twin" } }));
  expect(world.endpoints()).toEqual({});
  world.expected.attach(record("cali-other"));
  world.expected.detach(USUAL);
  expect(world.endpoints()).toEqual({ "cali-other": ["10.0.0.1"] });
  world.expected.detach("cali-other");
  expect(world.endpoints()).toEqual({ [USUAL]: [] });
});

test("the next Pod of the same name is expected once the last one's interface is detached", () => {
  const world = new World();
  world.see("web", {});
  world.expected.attach(record(USUAL));
  world.see("web", { uid: "u2" });
  expect(world.endpoints()).toEqual({});
  world.expected.detach(USUAL);
  expect(world.endpoints()).toEqual({ [USUAL]: [] });
});
