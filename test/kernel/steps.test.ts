/** The nftables driver step by step on a real kernel: large sets filled in slices, reads between commits, rules edited in place, plans. */
import { expect, test } from "bun:test";
import { NftablesDriver } from "../../src/dataplane/nftables/driver.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { StepReader } from "../../src/kernel/nftables/step-reader.ts";
import { unwrap } from "../../src/lib/result.ts";
import type { Addr, Family } from "../../src/net/addr.ts";
import { type AddrRange, mergeRanges, parseNet, type Prefix, prefixFamily, prefixRange } from "../../src/net/prefix.ts";
import type { Policy, PolicyId, SetId, SetMembers } from "../../src/program/policy.ts";
import type { Endpoint, EndpointId, Program, ProgramDelta } from "../../src/program/program.ts";
import { DEFAULT_SETTINGS } from "../../src/program/settings.ts";
import { Random } from "../property/random.ts";
import { type Namespace, sys, withNamespaces } from "./fixture.ts";

const SET = "s-large" as SetId;

/** A program whose tables are changed in place, as the graph does, and the deltas that tell of it. */
class Node {
  readonly namespace: Namespace;
  readonly driver: NftablesDriver;
  readonly program = {
    settings: DEFAULT_SETTINGS,
    sets: new Map<SetId, SetMembers>(),
    policies: new Map<PolicyId, Policy>(),
    endpoints: new Map<EndpointId, Endpoint>(),
    routes: new Map(),
  } satisfies Program;
  readonly members = new Set<Addr>();
  readonly nets = new Set<Prefix>();

  constructor(namespace: Namespace) {
    this.namespace = namespace;
    this.driver = namespace.enter(() => new NftablesDriver(sys, { ownsTable: false, clock: openClock() }));
  }

  tell(delta: Partial<ProgramDelta>): void {
    const nothing = {
      sets: new Map(),
      policies: new Map(),
      endpoints: new Map(),
      routes: new Map(),
      members: new Map(),
    };
    this.driver.lower(this.program, { ...nothing, ...delta });
  }

  addSet(members: Iterable<Addr>): void {
    for (const member of members) this.members.add(member);
    this.program.sets.set(SET, { type: "address", hosts: this.members, nets: this.nets });
    this.tell({ sets: new Map(this.program.sets) });
  }

  change(added: readonly Addr[], removed: readonly Addr[]): void {
    for (const member of removed) this.members.delete(member);
    for (const member of added) this.members.add(member);
    this.tell({ sets: new Map(this.program.sets), members: new Map([[SET, { added, removed }]]) });
  }

  changeNets(added: readonly Prefix[], removed: readonly Prefix[]): void {
    for (const net of removed) this.nets.delete(net);
    for (const net of added) this.nets.add(net);
    this.tell({ sets: new Map(this.program.sets), members: new Map([[SET, { added, removed }]]) });
  }

  /** The intervals that the kernel should have, and those that it has. */
  intervals(family: Family): { readonly wanted: string[]; readonly had: string[] } {
    const own = [...this.nets].filter((net) => prefixFamily(net) === family);
    const wanted = mergeRanges(own.map(prefixRange)).map(({ first, last }) => `${first}-${last}`);
    const had = this.#intervalsOf(`${SET}-${family}-nets`);
    return { wanted, had: had.map(({ first, last }) => `${first}-${last}`) };
  }

  #intervalsOf(set: string): readonly AddrRange[] {
    if (!this.table().includes(`set ${set} {`)) return [];
    const ranges = [...this.elements(set)].map((element): AddrRange => {
      if (!element.includes("-")) return prefixRange(unwrap(parseNet(element)));
      const [first, last] = element.split("-").map((addr) => prefixRange(unwrap(parseNet(addr))));
      if (first === undefined || last === undefined) throw new Error(`element ${element}`);
      return { ...first, last: last.last };
    });
    return ranges.sort((a, b) => (a.first < b.first ? -1 : 1));
  }

  policy(name: string, sets: readonly SetId[] = []): PolicyId {
    const id = `KubernetesNetworkPolicy/a/${name}` as PolicyId;
    const source = { kind: "KubernetesNetworkPolicy", namespace: "a", name } as const;
    const ingress = [
      {
        id: { source, direction: "ingress", index: 0 },
        when: sets.map((set) => ({ not: false, any: [{ on: "set", side: "source", set }] }) as const),
        action: "allow",
      } as const,
    ];
    const policy: Policy = { source, tier: "default", ingress, egress: undefined, error: undefined };
    this.program.policies.set(id, policy);
    this.tell({ policies: new Map([[id, policy]]) });
    return id;
  }

  endpoint(name: string, policies: readonly PolicyId[]): void {
    const endpoint: Endpoint = {
      kind: "workload",
      source: { kind: "Pod", namespace: "a", name },
      addresses: ["10.65.0.1" as Addr],
      stages: {
        normal: {
          ingress: { tiers: [{ tier: "default", policies, otherwise: "deny" }], profiles: [], otherwise: "allow" },
          egress: { tiers: [], profiles: [], otherwise: "allow" },
        },
      },
    };
    this.program.endpoints.set(name as EndpointId, endpoint);
    this.tell({ endpoints: new Map([[name as EndpointId, endpoint]]) });
  }

  table(): string {
    return this.namespace.run(["nft", "-s", "list", "table", "inet", "calico"]);
  }

  elements(set: string): Set<string> {
    const text = this.namespace.run(["nft", "list", "set", "inet", "calico", set]);
    const list = /elements = \{([^}]*)\}/.exec(text)?.[1] ?? "";
    return new Set(list.split(",").flatMap((element) => element.trim() || []));
  }
}

function withNode(run: (node: Node) => void): void {
  withNamespaces(["steps"], (namespace) => {
    const node = new Node(namespace);
    try {
      run(node);
    } finally {
      node.driver.close();
    }
  });
}

function addresses(count: number, second = 70): Addr[] {
  return Array.from({ length: count }, (_, i) => `10.${second}.${i >> 8}.${i & 255}` as Addr);
}

test("one commit after a start finds the one thing to do behind many units with nothing to do", () => {
  withNamespaces(["steps"], (namespace) => {
    const fill = (node: Node): readonly PolicyId[] => {
      const policies = Array.from({ length: 900 }, (_, i) => node.policy(`p${i}`));
      node.endpoint("cali1", policies);
      return policies;
    };
    const before = new Node(namespace);
    fill(before);
    before.driver.read();
    before.driver.commit();
    before.driver.close();
    const now = new Node(namespace);
    try {
      now.endpoint("cali2", fill(now).slice(0, 1));
      now.driver.read();
      expect(now.driver.pending).toBeGreaterThan(0);
      now.driver.commit();
      expect(now.driver.pending).toBe(0);
      expect(now.table()).toContain("cali2");
    } finally {
      now.driver.close();
    }
  });
});

test("a large set is filled in slices before a rule names it, whatever comes and goes meanwhile", () => {
  withNode((node) => {
    const { driver } = node;
    driver.read();
    driver.commit();
    node.addSet([...addresses(12_000), "fd00:70::1" as Addr]);
    node.endpoint("cali1", [node.policy("p", [SET])]);
    let steps = 0;
    let wasNamedEarly = false;
    for (const work = driver.committing(); work.next().done !== true; steps++) {
      const size = node.elements(`${SET}-4`).size;
      wasNamedEarly ||= size < 11_900 && node.table().includes(`@${SET}-4`);
      // Some that are in the kernel already, some that are to come; one comes back.
      if (steps === 1)
        node.change(
          addresses(50, 71),
          addresses(12_000).filter((_, i) => i % 200 === 0),
        );
      if (steps === 2) node.change(["10.70.0.0" as Addr], addresses(10, 71));
    }
    expect([wasNamedEarly, driver.pending]).toEqual([false, 0]);
    expect(steps).toBeGreaterThan(3);
    const wanted = new Set([...node.members].filter((member) => !member.includes(":")) as string[]);
    expect(node.elements(`${SET}-4`)).toEqual(wanted);
    expect(driver.isProgrammed("cali1" as EndpointId)).toBe(true);
    driver.read();
    expect(driver.pending).toBe(0);
  });
});

/** Of one length. */
function nets(count: number, length: number): Prefix[] {
  return Array.from({ length: count }, (_, i) => `10.${i >> 8}.${i & 255}.0/${length}` as Prefix);
}

/** Of fifteen lengths, so that none has many: 18 to 32, or wider by one bit. At most 3,600; none touch. */
function scattered(count: number, wider = 0): Prefix[] {
  return Array.from({ length: count }, (_, i) => `${11 + (i >> 8)}.${i & 255}.0.0/${18 + (i % 15) - wider}` as Prefix);
}

test("nets come and go, in each other and beside each other, the first and the last address among them; a restart writes nothing", () => {
  withNode((node) => {
    const { driver } = node;
    driver.read();
    node.addSet(addresses(2));
    node.endpoint("cali1", [node.policy("p", [SET])]);
    driver.commit();
    const random = new Random(7);
    const edges =
      "0.0.0.0/0 0.0.0.0/32 0.0.0.0/8 255.255.255.255/32 255.0.0.0/8 128.0.0.0/1 ::/0 ::/128 ::/16 ff00::/8 8000::/1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128";
    const blocks = "10.0.0.0/29 10.0.0.8/29 10.0.0.0/28 fd00::/127 fd00::2/127 fd00::/126 fd00::1/128";
    const some = [
      ...`${edges} ${blocks}`.split(" "),
      ...Array.from({ length: 16 }, (_, i) => `10.0.0.${i}/32`),
      ...Array.from({ length: 8 }, (_, i) => `10.0.0.${2 * i}/31`),
    ] as string[] as Prefix[];
    for (let i = 0; i < 150; i++) {
      const toggled = new Set(random.some(1, 6, () => random.pick(some)));
      const removed = [...toggled].filter((net) => node.nets.has(net));
      node.changeNets(
        [...toggled].filter((net) => !removed.includes(net)),
        removed,
      );
      driver.commit();
      for (const family of [4, 6] as const) {
        const { wanted, had } = node.intervals(family);
        expect(had).toEqual(wanted);
      }
      expect(driver.pending).toBe(0);
    }
    const next = node.namespace.enter(() => new NftablesDriver(sys, { ownsTable: false, clock: openClock() }));
    next.lower(node.program, { ...node.program, members: new Map() });
    next.read();
    next.commit();
    expect([next.writes, next.pending]).toEqual([0, 0]);
    next.close();
  });
});

test("nets that change while their set is filled in slices: rules name it once it is whole, and it ends as wanted", () => {
  withNode((node) => {
    const { driver } = node;
    driver.read();
    driver.commit();
    for (const net of scattered(3_600)) node.nets.add(net);
    node.addSet([]);
    node.endpoint("cali1", [node.policy("p", [SET])]);
    let steps = 0;
    let wasNamedEarly = false;
    for (const work = driver.committing(); work.next().done !== true; steps++) {
      const size = node.elements(`${SET}-4-nets`).size;
      wasNamedEarly ||= size < 3_300 && node.table().includes(`@${SET}-4-nets`);
      // Wider ones than the kernel got, and than are to come; some go, one for good.
      if (steps === 1)
        node.changeNets(
          scattered(3_600, 1).filter((_, i) => i % 100 === 0),
          scattered(1),
        );
      if (steps === 2)
        node.changeNets(
          ["12.0.0.0/9" as Prefix],
          scattered(3_600).filter((_, i) => i % 70 === 1),
        );
    }
    driver.commit();
    const { wanted, had } = node.intervals(4);
    expect([wasNamedEarly, driver.pending]).toEqual([false, 0]);
    expect(steps).toBeGreaterThan(3);
    expect(had).toEqual(wanted);
    expect(driver.isProgrammed("cali1" as EndpointId)).toBe(true);
  });
});

test("thousands of nets that grow at once are never without what they held", () => {
  withNode((node) => {
    const { driver } = node;
    driver.read();
    for (const net of scattered(1_900)) node.nets.add(net);
    node.addSet([]);
    node.endpoint("cali1", [node.policy("p", [SET])]);
    driver.commit();
    node.changeNets(scattered(1_900, 1), []);
    const work = driver.committing();
    do expect(node.elements(`${SET}-4-nets`).size).toBe(1_900);
    while (work.next().done !== true);
    const { wanted, had } = node.intervals(4);
    expect(had).toEqual(wanted);
  });
});

test("nets of a length of which there become many, and few again, are never in no set that a rule names", () => {
  withNode((node) => {
    const { driver } = node;
    driver.read();
    const kept = nets(200, 30);
    for (const net of [...kept, ...scattered(16)]) node.nets.add(net);
    node.addSet([]);
    node.endpoint("cali1", [node.policy("p", [SET])]);
    driver.commit();
    const more = nets(6_000, 30).slice(200);
    for (const [added, removed, named] of [
      [more, [], `${SET}-4-nets-len30`],
      [[], more, `${SET}-4-nets`],
    ] as const) {
      node.changeNets(added, removed);
      let steps = 0;
      for (const work = driver.committing(); ; steps++) {
        const lookedUp = [...node.table().matchAll(/@(s-large-4-nets\S*)/g)].flatMap(([, set = ""]) => [
          ...node.elements(set),
        ]);
        // A hash set has the first addresses of nets.
        const held = new Set(lookedUp.map((element) => element.split("/")[0]));
        expect(kept.filter((net) => !held.has(net.split("/")[0]))).toEqual([]);
        if (work.next().done === true) break;
      }
      expect(steps).toBeGreaterThan(added.length > 0 ? 3 : 0);
      expect(node.table()).toContain(`@${named} `);
      driver.read();
      expect(driver.pending).toBe(0);
    }
    expect(node.intervals(4).had).toEqual(node.intervals(4).wanted);
    expect(node.table()).not.toContain("-len30");
  });
});

test("one that changes while a large set is being filled does not wait for it", () => {
  withNode((node) => {
    const { driver } = node;
    driver.read();
    driver.commit();
    node.endpoint(
      "cali0",
      Array.from({ length: 150 }, (_, i) => node.policy(`other${i}`)),
    );
    node.addSet(addresses(20_000));
    node.endpoint("cali1", [node.policy("p", [SET])]);
    const work = driver.committing();
    work.next();
    work.next();
    expect(driver.isProgrammed("cali1" as EndpointId)).toBe(false);
    node.endpoint("cali2", [node.policy("small")]);
    driver.committing().next();
    expect(driver.isProgrammed("cali2" as EndpointId)).toBe(true);
    while (work.next().done !== true);
    expect([driver.pending, driver.isProgrammed("cali1" as EndpointId)]).toEqual([0, true]);
  });
});

test("what others did to members is found by a read in steps, between which members change and are committed", () => {
  withNode((node) => {
    const { driver } = node;
    driver.read();
    node.addSet(addresses(5_000));
    node.policy("p", [SET]);
    driver.commit();
    node.namespace.run(["nft", "delete", "element", "inet", "calico", `${SET}-4`, "{ 10.70.0.7, 10.70.0.8 }"]);
    node.namespace.run(["nft", "add", "element", "inet", "calico", `${SET}-4`, "{ 1.2.3.4 }"]);
    let steps = 0;
    for (const work = driver.reading(); work.next().done !== true; steps++) {
      node.change([`10.72.0.${steps % 250}` as Addr], [`10.70.10.${steps % 250}` as Addr]);
      if (steps % 2 === 0) driver.commit();
    }
    expect(steps).toBeGreaterThan(2);
    driver.commit();
    driver.read();
    driver.commit();
    expect(driver.pending).toBe(0);
    expect(node.elements(`${SET}-4`)).toEqual(new Set([...node.members] as string[]));
  });
});

test("members that go while a set is compared with the kernel in steps are not forgotten", () => {
  withNode((node) => {
    const { driver } = node;
    driver.read();
    node.addSet(addresses(8_000));
    node.policy("p", [SET]);
    driver.commit();
    let steps = 0;
    for (const work = driver.reading(); work.next().done !== true; steps++)
      node.change([`10.72.${steps >> 8}.${steps & 255}` as Addr], [`10.70.${steps >> 8}.${steps & 255}` as Addr]);
    expect(steps).toBeGreaterThan(10);
    driver.commit();
    expect(node.elements(`${SET}-4`)).toEqual(new Set([...node.members] as string[]));
  });
});

test("a chain whose rules change keeps those that it has in common, handles and all", () => {
  withNode((node) => {
    const { driver } = node;
    driver.read();
    const policies = ["a", "b", "c", "d"].map((name) => node.policy(name));
    const [a, b, c, d] = policies as [PolicyId, PolicyId, PolicyId, PolicyId];
    const rules = (): string[] =>
      [
        ...node.namespace
          .run(["nft", "-a", "list", "chain", "inet", "calico", "cali-tw-1"])
          .matchAll(/a\/(\w) # handle (\d+)/g),
      ].map(([, name, handle]) => `${name} ${handle}`);
    node.endpoint("cali1", [a, b, d]);
    driver.commit();
    const before = rules();
    expect(before.map((rule) => rule[0])).toEqual(["a", "b", "d"]);
    node.endpoint("cali1", [a, b, c, d]);
    driver.commit();
    const after = rules();
    expect(after.map((rule) => rule[0])).toEqual(["a", "b", "c", "d"]);
    expect(after.filter((rule) => !rule.startsWith("c"))).toEqual(before);
    node.endpoint("cali1", [a, b, d]);
    driver.commit();
    expect(rules()).toEqual(before);
    driver.read();
    expect(driver.pending).toBe(0);
  });
});

test("what changes, goes and comes again before it is committed is written once", () => {
  withNode((node) => {
    const { driver } = node;
    driver.read();
    const id = node.policy("p");
    node.endpoint("cali1", [id]);
    node.policy("p");
    node.program.policies.delete(id);
    node.program.endpoints.delete("cali1" as EndpointId);
    node.tell({
      policies: new Map([[id, undefined]]),
      endpoints: new Map([["cali1" as EndpointId, undefined]]),
    });
    node.endpoint("cali1", [node.policy("p")]);
    driver.commit();
    expect(node.table().match(/allow a\/p ingress rule 1/g)).toHaveLength(1);
    expect(node.table().match(/jump cali-pi/g)).toHaveLength(1);
    driver.read();
    expect(driver.pending).toBe(0);
  });
});

test("a plan says in lines what a commit would write, and writes nothing", () => {
  withNamespaces(["plan"], (namespace) => {
    const node = new Node(namespace);
    const watcher = namespace.enter(() => new NftablesDriver(sys, { ownsTable: undefined, clock: openClock() }));
    const nothing = {
      sets: new Map(),
      policies: new Map(),
      endpoints: new Map(),
      routes: new Map(),
      members: new Map(),
    };
    const planned = (): string[] => {
      watcher.lower(node.program, { ...node.program, members: new Map() });
      watcher.read();
      return watcher
        .plan()
        .flatMap(({ sign, what, lines }) => [`${sign} ${what}`, ...lines.map((line) => `    ${line}`)]);
    };
    try {
      node.driver.read();
      node.endpoint("cali1", [node.policy("p")]);
      const before = planned();
      expect(before).toContain("+ chain cali-tw-1 (2 rules)");
      expect(before).toContain("    + jump cali-pi-KubernetesNetworkPolicy/a/p");
      expect(before).toContain('+ element to-endpoint { "cali1" : goto cali-tw-1 }');
      expect([watcher.writes, namespace.run(["nft", "list", "ruleset"])]).toEqual([0, ""]);
      node.driver.commit();
      expect(planned()).toEqual([]);
      node.endpoint("cali1", [node.policy("p"), node.policy("q")]);
      expect(planned()).toEqual([
        "+ chain cali-pi-KubernetesNetworkPolicy/a/q (1 rule)",
        '    + counter accept comment "allow a/q ingress rule 1"',
        "~ chain cali-tw-1 (3 rules)",
        "    + jump cali-pi-KubernetesNetworkPolicy/a/q",
      ]);
      node.driver.commit();
      node.program.endpoints.clear();
      watcher.lower(node.program, { ...nothing, endpoints: new Map([["cali1" as EndpointId, undefined]]) });
      watcher.read();
      expect(watcher.plan().map(({ sign, what }) => `${sign} ${what}`)).toContain(
        '- element to-endpoint { "cali1" : goto cali-tw-1 }',
      );
      expect(watcher.writes).toBe(0);
    } finally {
      node.driver.close();
      watcher.close();
    }
  });
});

test("a set that holds what it should is adopted without looking at its elements; one that does not is mended", () => {
  withNamespaces(["steps"], (namespace) => {
    const fill = (node: Node): void => node.addSet(["10.0.0.1", "10.0.0.2", "fd00::1"] as Addr[]);
    const before = new Node(namespace);
    fill(before);
    before.driver.read();
    before.driver.commit();
    before.driver.close();
    const looked: string[] = [];
    const { elements } = StepReader.prototype;
    StepReader.prototype.elements = function (declared) {
      looked.push(declared.set);
      return elements.call(this, declared);
    };
    try {
      const after = new Node(namespace);
      fill(after);
      after.driver.read();
      expect(after.driver.pending).toBe(0);
      expect(looked.filter((set) => set.startsWith(SET))).toEqual([]);
      namespace.run(["nft", "delete", "element", "inet", "calico", `${SET}-4`, "{", "10.0.0.2", "}"]);
      after.driver.read();
      expect(looked.filter((set) => set.startsWith(SET))).toEqual([`${SET}-4`]);
      expect(after.driver.pending).toBe(1);
      after.driver.commit();
      expect(after.elements(`${SET}-4`)).toEqual(new Set(["10.0.0.1", "10.0.0.2"]));
      after.driver.close();
    } finally {
      StepReader.prototype.elements = elements;
    }
  });
});
