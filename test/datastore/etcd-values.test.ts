/**
 * Keys and values as upstream writes them into etcd, read and written back: nothing is lost, and what is new is as upstream reads it.
 * Upstream: libcalico-go/lib/backend/model/*.go, lib/backend/etcdv3/etcdv3.go; Go writes an object's fields in the order of its types.
 */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { EtcdClient } from "../../src/datastore/etcd/client.ts";
import { encodeKey } from "../../src/datastore/etcd/values.ts";
import { type EtcdStore, openEtcdStore } from "../../src/datastore/etcd/store.ts";
import type { WatchEvent } from "../../src/datastore/store.ts";
import { affinityLabels } from "../../src/model/affinity.ts";
import type { Key } from "../../src/model/key.ts";
import type { Kind } from "../../src/model/kind.ts";
import type { Resource } from "../../src/model/resource.ts";
import { dependencies, serveEtcd } from "./servers.ts";

const V3 = "/calico/resources/v3/projectcalico.org";
const IPAM = "/calico/ipam/v2";

let store: EtcdStore;
let raw: EtcdClient;
let endpoint: string;

beforeAll(async () => {
  const served = await serveEtcd();
  store = served.store;
  endpoint = served.etcd.endpoint;
  raw = new EtcdClient({ endpoints: [endpoint] }, dependencies.clock);
}, 60_000);
afterAll(async () => {
  raw.close();
  await store.close();
});

const PURPOSE = { operation: "test", kind: "Node", key: undefined } as const;

async function put(key: string, value: string): Promise<void> {
  await raw.txn(PURPOSE, { compare: [], success: [{ requestPut: { key: encodeKey(key), value: encodeKey(value) } }] });
}

async function valueOf(key: string): Promise<string | undefined> {
  const { kvs } = await raw.range(PURPOSE, { key: encodeKey(key) });
  const [kv] = kvs;
  return kv === undefined ? undefined : new TextDecoder().decode(kv.value);
}

async function jsonOf(key: string): Promise<unknown> {
  return JSON.parse((await valueOf(key)) ?? "null") as unknown;
}

function named<K extends Kind>(kind: K, name: string, namespace?: string): Key<K> {
  return { kind, namespace, name };
}

const META = '"uid":"6ba7b810-9dad-41d1-80b4-00c04fd430c8","creationTimestamp":"2024-05-06T07:08:09Z"';

interface Case {
  readonly key: Key;
  readonly path: string;
  readonly value: string;
  /** What is read. */
  readonly read: object;
}

const CASES: readonly Case[] = [
  {
    key: named("IPPool", "default-ipv4-ippool"),
    path: `${V3}/ippools/default-ipv4-ippool`,
    value: `{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"default-ipv4-ippool",${META}},"spec":{"cidr":"192.168.0.0/16","vxlanMode":"Never","ipipMode":"Always","natOutgoing":true,"blockSize":26,"nodeSelector":"all()","allowedUses":["Workload","Tunnel"],"assignmentMode":"Automatic"}}`,
    read: { metadata: { name: "default-ipv4-ippool" }, spec: { cidr: "192.168.0.0/16", blockSize: 26 } },
  },
  {
    key: named("NetworkPolicy", "web", "shop"),
    path: `${V3}/networkpolicies/shop/web`,
    value: `{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"web","namespace":"shop",${META},"labels":{"projectcalico.org/tier":"default"},"annotations":{"note":"x","projectcalico.org/metadata":"{\\"name\\":\\"web\\"}"}},"spec":{"tier":"default","ingress":[{"action":"Allow","source":{},"destination":{}}],"selector":"all()","types":["Ingress"],"notYetKnown":{"a":[1]}}}`,
    read: { metadata: { name: "web", namespace: "shop", annotations: { note: "x" } }, spec: { selector: "all()" } },
  },
  {
    // Of a release that puts the tier before the name.
    key: named("GlobalNetworkPolicy", "old"),
    path: `${V3}/globalnetworkpolicies/default.old`,
    value: `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"default.old",${META},"annotations":{"projectcalico.org/metadata":"{\\"name\\":\\"old\\"}"}},"spec":{"tier":"default","order":10,"selector":"all()","types":["Ingress"]}}`,
    read: { metadata: { name: "old" }, spec: { order: 10 } },
  },
  {
    // A name in another tier stays whole.
    key: named("GlobalNetworkPolicy", "security.deny"),
    path: `${V3}/globalnetworkpolicies/security.deny`,
    value: `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"security.deny",${META},"annotations":{"projectcalico.org/metadata":"{\\"name\\":\\"security.deny\\"}"}},"spec":{"tier":"security","types":["Ingress"]}}`,
    read: { metadata: { name: "security.deny" }, spec: { tier: "security" } },
  },
  {
    key: named("HostEndpoint", "n1-eth0"),
    path: `${V3}/hostendpoints/n1-eth0`,
    value: `{"kind":"HostEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":"n1-eth0",${META},"labels":{"role":"db"}},"spec":{"node":"n1","interfaceName":"eth0","expectedIPs":["192.0.2.1"]}}`,
    read: { metadata: { labels: { role: "db" } }, spec: { node: "n1" } },
  },
  {
    key: named("Profile", "kns.default"),
    path: `${V3}/profiles/kns.default`,
    value: `{"kind":"Profile","apiVersion":"projectcalico.org/v3","metadata":{"name":"kns.default",${META}},"spec":{"ingress":[{"action":"Allow","source":{},"destination":{}}],"egress":[{"action":"Allow","source":{},"destination":{}}],"labelsToApply":{"pcns.projectcalico.org/name":"default"}}}`,
    read: { spec: { labelsToApply: { "pcns.projectcalico.org/name": "default" } } },
  },
  {
    key: named("WorkloadEndpoint", "n1-openstack-vm-eth0", "shop"),
    path: `${V3}/workloadendpoints/shop/n1-openstack-vm-eth0`,
    value: `{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":"n1-openstack-vm-eth0","namespace":"shop",${META}},"spec":{"orchestrator":"openstack","workload":"vm","node":"n1","endpoint":"eth0","ipNetworks":["10.65.0.1/32"],"interfaceName":"tap1","mac":"fa:16:3e:00:00:01"}}`,
    read: { spec: { interfaceName: "tap1" } },
  },
  {
    key: named("Node", "n1"),
    path: `${V3}/nodes/n1`,
    value: `{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"n1",${META},"labels":{"rack":"7"}},"spec":{"bgp":{"asNumber":64513,"ipv4Address":"10.0.0.1/24"},"ipv4VXLANTunnelAddr":"10.65.0.9","addresses":[{"address":"10.0.0.1/24","type":"CalicoNodeIP"},{"address":"192.0.2.1","type":"InternalIP"}],"orchRefs":[{"nodeName":"n1","orchestrator":"k8s"}]},"status":{"podCIDRs":["10.65.1.0/24"]}}`,
    read: {
      apiVersion: "v1",
      kind: "Node",
      metadata: { labels: { rack: "7" }, annotations: { "projectcalico.org/IPv4Address": "10.0.0.1/24" } },
      spec: { podCIDRs: ["10.65.1.0/24"] },
      status: { addresses: [{ type: "InternalIP", address: "192.0.2.1" }] },
    },
  },
  {
    key: named("IPAMBlock", "192-168-0-0-30"),
    path: `${IPAM}/assignment/ipv4/block/192.168.0.0-30`,
    value:
      '{"cidr":"192.168.0.0/30","affinity":"host:n1","affinity_claim_time":"2024-05-06T07:08:09Z","allocations":[0,null,null,1],"unallocated":[1,2],"attributes":[{"handle_id":"k8s-pod-network.abc","secondary":{"namespace":"shop","node":"n1","pod":"web"}},{"handle_id":null,"secondary":null}],"sequenceNumber":17,"sequenceNumberForAllocation":{"0":16},"deleted":false}',
    read: {
      kind: "IPAMBlock",
      spec: { cidr: "192.168.0.0/30", affinity: "host:n1", affinityClaimTime: "2024-05-06T07:08:09Z" },
    },
  },
  {
    key: named("IPAMBlock", "fd00--40-122"),
    path: `${IPAM}/assignment/ipv6/block/fd00::40-122`,
    value:
      '{"cidr":"fd00::40/122","affinity":null,"allocations":[],"unallocated":[],"attributes":[],"sequenceNumber":18446744073709,"sequenceNumberForAllocation":{},"deleted":false}',
    read: { metadata: { name: "fd00--40-122" }, spec: { cidr: "fd00::40/122" } },
  },
  {
    key: named("BlockAffinity", "n1-192-168-0-0-30"),
    path: `${IPAM}/host/n1/ipv4/block/192.168.0.0-30`,
    value: '{"state":"confirmed","deleted":false}',
    read: {
      metadata: { labels: affinityLabels("n1", 4) },
      spec: { node: "n1", type: "host", cidr: "192.168.0.0/30", state: "confirmed" },
    },
  },
  {
    key: named("BlockAffinity", "load-balancer-10-0-0-0-26"),
    path: `${IPAM}/virtual/load-balancer/ipv4/block/10.0.0.0-26`,
    value: '{"state":"pending","deleted":false}',
    read: { spec: { node: "load-balancer", type: "virtual", cidr: "10.0.0.0/26", state: "pending" } },
  },
  {
    key: named("IPAMHandle", "k8s-pod-network.abc"),
    path: `${IPAM}/handle/k8s-pod-network.abc`,
    value: '{"block":{"192.168.0.0/30":1},"deleted":false}',
    read: { spec: { handleID: "k8s-pod-network.abc", block: { "192.168.0.0/30": 1 } } },
  },
  {
    // The text of a handle is its key, and may be no name.
    key: named("IPAMHandle", "vm-1-net-a"),
    path: `${IPAM}/handle/VM_1:Net-A`,
    value: '{"block":{"192.168.0.0/30":2},"deleted":false}',
    read: { spec: { handleID: "VM_1:Net-A" } },
  },
];

/** A write that changes nothing: `generation` counts from here. */
function comparable(value: string): unknown {
  const object = JSON.parse(value) as { metadata?: { generation?: number } };
  delete object.metadata?.generation;
  return object;
}

test.each(CASES.map((each) => [each.path, each] as const))("%s", async (_, { key, path, value, read }) => {
  await put(path, value);
  // One that was just opened: a store looks for handles with unusual texts only once.
  const fresh = openEtcdStore({ endpoints: [endpoint] }, dependencies);
  const found = await fresh.get(key);
  await fresh.close();
  expect(found).toMatchObject(read);
  expect(found?.metadata.name).toBe(key.name);
  const listed = (await store.list(key.kind)).items.filter(({ metadata }) => metadata.name === key.name);
  expect(listed).toEqual([found as Resource]);
  await store.update(key.kind, found as Resource);
  const after = comparable((await valueOf(path)) ?? "");
  // The name inside a policy is what its annotation says.
  const before = JSON.parse(
    JSON.stringify(comparable(value)).replace('"name":"default.old"', '"name":"old"'),
  ) as unknown;
  expect(after).toEqual(before);
  await store.delete(key);
  expect(await valueOf(path)).toBeUndefined();
});

test("an affinity of an old release has no value", async () => {
  await put(`${IPAM}/host/n2/ipv4/block/10.1.0.0-26`, "");
  expect(await store.get(named("BlockAffinity", "n2-10-1-0-0-26"))).toMatchObject({
    spec: { node: "n2", type: "host" },
  });
});

test("a policy under its old key beside its new one is one policy, the new one; when that goes, the old one is left", async () => {
  const policy = (name: string, order: number): string =>
    `{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"${name}"},"spec":{"order":${order}}}`;
  const { revision } = await store.list("GlobalNetworkPolicy");
  await put(`${V3}/globalnetworkpolicies/default.twice`, policy("default.twice", 1));
  await put(`${V3}/globalnetworkpolicies/twice`, policy("twice", 2));
  expect((await store.list("GlobalNetworkPolicy")).items).toMatchObject([
    { metadata: { name: "twice" }, spec: { order: 2 } },
  ]);
  await put(`${V3}/globalnetworkpolicies/default.twice`, policy("default.twice", 3));
  await store.delete(named("GlobalNetworkPolicy", "twice"));
  expect(await store.get(named("GlobalNetworkPolicy", "twice"))).toMatchObject({ spec: { order: 3 } });
  const abort = new AbortController();
  const last = new Map<string, WatchEvent<"GlobalNetworkPolicy">>();
  let count = 0;
  for await (const batch of store.watch("GlobalNetworkPolicy", revision, { signal: abort.signal })) {
    for (const event of batch)
      if (event.type !== "bookmark") {
        last.set(event.object.metadata.name, event);
        if (++count === 4) abort.abort();
      }
  }
  // A follower ends with what is stored.
  expect([...last]).toMatchObject([["twice", { type: "modified", object: { spec: { order: 3 } } }]]);
  await store.delete(named("GlobalNetworkPolicy", "twice"));
});

test("IPAM's settings are beside the resource, where upstream's IPAM reads them, and are read from there", async () => {
  const key = named("IPAMConfiguration", "default");
  await put(`${IPAM}/config`, '{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":4}');
  expect(await store.get(key)).toMatchObject({
    spec: { strictAffinity: true, autoAllocateBlocks: true, maxBlocksPerHost: 4 },
  });
  const found = (await store.get(key)) as Resource<"IPAMConfiguration">;
  await store.update("IPAMConfiguration", { ...found, spec: { ...found.spec, strictAffinity: false } });
  expect(await valueOf(`${IPAM}/config`)).toBe('{"auto_allocate_blocks":true,"maxBlocksPerHost":4}');
  expect(await jsonOf(`${V3}/ipamconfigurations/default`)).toMatchObject({
    kind: "IPAMConfiguration",
    metadata: { name: "default" },
    spec: { strictAffinity: false, autoAllocateBlocks: true, maxBlocksPerHost: 4 },
  });
  expect((await store.list("IPAMConfiguration")).items).toHaveLength(1);
  await store.delete(key);
  expect(await valueOf(`${IPAM}/config`)).toBeUndefined();
  expect(await store.get(key)).toBeUndefined();
});

test("new objects of IPAM have upstream's bytes", async () => {
  await store.create("IPAMBlock", {
    apiVersion: "projectcalico.org/v3",
    kind: "IPAMBlock",
    metadata: { name: "10-2-0-0-31" },
    spec: {
      cidr: "10.2.0.0/31",
      affinity: "host:n1",
      affinityClaimTime: "2024-05-06T07:08:09Z",
      allocations: [0, null],
      unallocated: [1],
      attributes: [{ handle_id: "h", secondary: { pod: "p" } }],
      sequenceNumber: 1,
      sequenceNumberForAllocation: { "0": 0 },
      deleted: false,
      strictAffinity: false,
    },
  });
  expect(await jsonOf(`${IPAM}/assignment/ipv4/block/10.2.0.0-31`)).toEqual({
    cidr: "10.2.0.0/31",
    affinity: "host:n1",
    affinity_claim_time: "2024-05-06T07:08:09Z",
    allocations: [0, null],
    unallocated: [1],
    attributes: [{ handle_id: "h", secondary: { pod: "p" } }],
    sequenceNumber: 1,
    sequenceNumberForAllocation: { "0": 0 },
    deleted: false,
  });
  await store.create("IPAMHandle", {
    apiVersion: "projectcalico.org/v3",
    kind: "IPAMHandle",
    metadata: { name: "h" },
    spec: { handleID: "H", block: { "10.2.0.0/31": 1 } },
  });
  expect(await valueOf(`${IPAM}/handle/H`)).toBe('{"block":{"10.2.0.0/31":1},"deleted":false}');
  await store.create("BlockAffinity", {
    apiVersion: "projectcalico.org/v3",
    kind: "BlockAffinity",
    metadata: { name: "n1-10-2-0-0-31", labels: affinityLabels("n1", 4) },
    spec: { cidr: "10.2.0.0/31", node: "n1", state: "pending", type: "host", deleted: false },
  });
  expect(await valueOf(`${IPAM}/host/n1/ipv4/block/10.2.0.0-31`)).toBe('{"state":"pending","deleted":false}');
});
