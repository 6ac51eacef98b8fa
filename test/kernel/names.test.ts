/** Names of kernel objects as an attack: whoever may write policies in one namespace tries to give two of them one chain. */
import { expect, test } from "bun:test";
import { Graph } from "../../src/calc/graph.ts";
import { openClock } from "../../src/host/bun/clock.ts";
import { NftablesDriver } from "../../src/dataplane/nftables/driver.ts";
import { policyChain, setName, stageChain } from "../../src/dataplane/nftables/names.ts";
import type { CniRecord } from "../../src/model/endpoint.ts";
import type { Resource } from "../../src/model/resource.ts";
import type { Addr } from "../../src/net/addr.ts";
import type { PolicyId, SetId } from "../../src/program/policy.ts";
import type { Direction } from "../../src/model/policy.ts";
import type { EndpointId } from "../../src/program/program.ts";
import { deletionOf, updateOf } from "../property/updates.ts";
import { keyOf } from "../../src/model/resource.ts";
import { COLLIDING } from "./colliding-names.ts";
import { type Namespace, sys, withNamespaces } from "./fixture.ts";

function denyAll(namespace: string, name: string): Resource<"KubernetesNetworkPolicy"> {
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name, namespace },
    spec: { podSelector: {} },
  };
}

function pod(namespace: string, addr: string): { readonly resource: Resource<"Pod">; readonly record: CniRecord } {
  const resource: Resource<"Pod"> = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "p", namespace },
    spec: { nodeName: "n1", containers: [] },
    status: { podIPs: [{ ip: addr }] },
  };
  return {
    resource,
    record: {
      containerId: namespace,
      pod: keyOf("Pod", resource),
      interface: `cali-${namespace}`,
      addresses: [addr as Addr],
      mac: "",
      netns: "",
      podInterface: "eth0",
    },
  };
}

class Node {
  readonly graph = new Graph({ node: "n1" });
  readonly driver: NftablesDriver;
  readonly #namespace: Namespace;

  constructor(namespace: Namespace) {
    this.#namespace = namespace;
    this.driver = namespace.enter(() => new NftablesDriver(sys, { ownsTable: false, clock: openClock() }));
    this.driver.read();
  }

  commit(): void {
    this.driver.lower(this.graph.program, this.graph.flush());
    this.driver.commit();
  }

  chain(name: string): string {
    return this.#namespace.run(["nft", "list", "chain", "inet", "calico", name]);
  }
}

test("two policies whose names are made to collide: each has its chain, one goes, and another namespace's deny-all lands", () => {
  withNamespaces(["names"], (namespace) => {
    const node = new Node(namespace);
    try {
      for (const { resource, record } of [pod("mallory", "10.65.0.1"), pod("victim", "10.65.0.2")]) {
        node.graph.update([updateOf("Pod", resource)]);
        node.graph.setCniRecord(record);
      }
      const policies = COLLIDING.map((name) => denyAll("mallory", name));
      node.graph.update(policies.map((policy) => updateOf("KubernetesNetworkPolicy", policy)));
      node.commit();
      const [first] = policies;
      if (first === undefined) throw new Error("no policy");
      node.graph.update([deletionOf(keyOf("KubernetesNetworkPolicy", first))]);
      node.commit();
      node.graph.update([updateOf("KubernetesNetworkPolicy", denyAll("victim", "deny-all"))]);
      node.commit();
      node.driver.read();
      expect(node.driver.pending).toBe(0);
      expect(node.chain("cali-tw--victim")).toContain("jump cali-pi-KubernetesNetworkPolicy/victim/deny-all");
      expect(node.chain("cali-tw--mallory").match(/jump /g)?.length).toBe(1);
    } finally {
      node.driver.close();
    }
  });
});

test("no two ids share a name, whatever they consist of, and every name is short enough for the kernel", () => {
  const long = "x".repeat(253);
  const ids = [
    ...COLLIDING.map((name) => `KubernetesNetworkPolicy/mallory/${name}`),
    `KubernetesNetworkPolicy/${"n".repeat(63)}/${long}`,
    `KubernetesNetworkPolicy/${"n".repeat(63)}/${long.slice(1)}y`,
    "K/a/b c",
    "K/a/b_c",
    "K/a/b:c",
    "K/a/b/c",
    "K/a/b-c",
    "K/a/b.c",
    "K/a/ü",
    "K/a/",
  ];
  const names = ids.map((id) => policyChain(id as PolicyId, "ingress", "accept"));
  // The name of one id, taken as another's.
  const crafted = names.map((name) => policyChain(name.slice("cali-pi-".length) as PolicyId, "ingress", "accept"));
  const literal = ids.flatMap((id, i) => (names[i] === `cali-pi-${id}` ? [`cali-pi-${id}`] : []));
  expect(new Set([...names, ...crafted]).size).toBe(2 * ids.length - literal.length);
  for (const name of [...names, ...crafted]) {
    expect(name).toMatch(/^[A-Za-z0-9_./-]+$/);
    expect(name.length).toBeLessThan(256);
  }
  expect(policyChain("KubernetesNetworkPolicy/shop/web" as PolicyId, "egress", "continue")).toBe(
    "cali-po-KubernetesNetworkPolicy/shop/web",
  );
});

test("the chain of a tier is no endpoint's, and sets are called by their ids", () => {
  const chain = (id: string, kind: "workload" | "host", direction: Direction, tier?: string): string =>
    stageChain(id as EndpointId, { kind }, "normal", direction, tier);
  expect(chain("cali1", "workload", "egress", "a")).toBe("cali-fw-1/t-a");
  const long = chain("*", "host", "egress", "a".repeat(253));
  expect(long).not.toBe(chain("*", "host", "egress", `${"a".repeat(252)}b`));
  expect(long.length).toBeLessThan(256);
  expect(chain("cali0123456789a", "workload", "ingress")).toBe("cali-tw-0123456789a");
  expect(chain("eth0", "host", "ingress")).toBe("cali-fh-eth0");
  expect(chain("*", "host", "egress")).toBe("cali-th-any-interface-at-all");
  expect(setName("s-00" as SetId, 6)).toBe("s-00-6");
});
