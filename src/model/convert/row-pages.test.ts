import { expect, test } from "bun:test";
import type { JsonObject } from "../schema/json.ts";
import { keyOf, type Resource } from "../resource.ts";
import { revisionOf } from "../revision.ts";
import type { Update } from "../update.ts";
import { type PagedKind, RowPageReader, RowPageWriter } from "./row-pages.ts";
import { type RowUpdate, rowsFor } from "./rows.ts";

/** Rows as node n1 makes them. */
function rows(kind: PagedKind, objects: readonly JsonObject[]): readonly RowUpdate[] {
  const reduce = rowsFor("n1");
  return objects.map((object) => {
    const value = object as unknown as Resource<PagedKind>;
    const { resourceVersion = "", generation } = value.metadata;
    const revision = revisionOf(resourceVersion);
    return reduce({ kind, key: keyOf(kind, value), value, origin: { revision, generation, seenAt: 0 } } as Update);
  });
}

/** After they went as text, page by page. */
function sent(kind: PagedKind, pages: readonly (readonly RowUpdate[])[]): readonly RowUpdate[] {
  const [writer, reader] = [new RowPageWriter(), new RowPageReader()];
  return pages.flatMap((page) => [...reader.read(JSON.parse(JSON.stringify(writer.write(kind, page))), 7)]);
}

/** What is asked of a row: of a pod elsewhere not its uid. */
function asAsked(updates: readonly RowUpdate[]): readonly unknown[] {
  return updates.map((update) => {
    const origin = { ...update.origin, seenAt: 7 };
    if (update.kind !== "Pod" || update.value?.endpoint.ok !== true) return { ...update, origin };
    const { endpoint, here } = update.value;
    const isElsewhere = here === undefined && endpoint.value.state === "live" && endpoint.value.sources === undefined;
    const uid = isElsewhere && endpoint.value.addressesFrom === "status" ? undefined : endpoint.value.uid;
    return { ...update, origin, value: { here, endpoint: { ok: true, value: { ...endpoint.value, uid } } } };
  });
}

function pod(name: string, metadata: JsonObject = {}, spec: JsonObject = {}, status: JsonObject = {}): JsonObject {
  return {
    metadata: { namespace: "shop", name, uid: `uid-${name}`, resourceVersion: "1234", ...metadata },
    spec: { nodeName: "n2", serviceAccountName: "default", containers: [], ...spec },
    status: { phase: "Running", podIPs: [{ ip: "10.0.0.1" }], ...status },
  };
}

const web = { ports: [{ name: "http", containerPort: 80 }] };

test.each([
  ["of another node", pod("a", { labels: { app: "web" } })],
  ["with named ports", pod("a", {}, { containers: [web] })],
  ["of both families", pod("a", {}, {}, { podIPs: [{ ip: "10.0.0.1" }, { ip: "fd00::1" }] })],
  ["without an address", pod("a", {}, {}, { podIPs: [] })],
  ["without a service account", pod("a", {}, { serviceAccountName: "" })],
  ["with a generation", pod("a", { generation: 3 })],
  ["with a revision that is no number", pod("a", { resourceVersion: "0x12" })],
  ["of this node", pod("a", { annotations: { key: "value" } }, { nodeName: "n1" })],
  ["that is not scheduled", pod("a", {}, { nodeName: "" })],
  ["that has finished", pod("a", {}, {}, { phase: "Succeeded" })],
  ["of its host's network", pod("a", {}, { hostNetwork: true })],
  [
    "that claims an address",
    pod("a", { annotations: { "cni.projectcalico.org/podIP": "10.0.0.9/32" } }, {}, { podIPs: [] }),
  ],
  [
    "that asks for source prefixes",
    pod("a", { annotations: { "cni.projectcalico.org/allowedSourcePrefixes": '["10.9.0.0/16"]' } }),
  ],
  ["with labels that are no text", pod("a", { labels: { app: 1 } })],
  ["with an address that is none", pod("a", {}, {}, { podIPs: [{ ip: "10.0.0" }] })],
  ["without a namespace", { ...pod("a"), metadata: { name: "a", resourceVersion: "1" } }],
  ["with a name of two words", pod("a b")],
])("a pod %s is the same row", (_, object) => {
  const updates = rows("Pod", [pod("before"), object, pod("after", { labels: { app: "other" } })]);
  expect(asAsked(sent("Pod", [updates]))).toEqual(asAsked(updates) as never);
});

test("pages of many pods: shapes and nodes of earlier pages are known, and begin anew before they are too many", () => {
  const many = Array.from({ length: 10_000 }, (_, i) =>
    pod(`p${i}`, { labels: { app: `a${Math.floor(i / 2)}`, odd: String(i % 2) } }, { nodeName: `n${2 + (i % 6_000)}` }),
  );
  const updates = rows("Pod", many);
  const pages = Array.from({ length: 20 }, (_, i) => updates.slice(i * 500, (i + 1) * 500));
  expect(sent("Pod", [...pages, [], ...pages])).toEqual([...asAsked(updates), ...asAsked(updates)] as never);
});

test("a page says once what its pods have in common", () => {
  const page = rows(
    "Pod",
    Array.from({ length: 500 }, (_, i) => pod(`web-${i}`, { labels: { app: "web" } })),
  );
  const writer = new RowPageWriter();
  writer.write("Pod", page);
  // The name, the address, and some digits.
  expect(JSON.stringify(writer.write("Pod", page)).length / 500).toBeLessThan(40);
});

test("a page that lacks a pod is a bug, never a pod fewer", () => {
  const written = new RowPageWriter().write("Pod", rows("Pod", [pod("a"), pod("b", {}, { nodeName: "n1" })]));
  if (written.kind !== "Pod") throw new Error(written.kind);
  const { page } = written;
  expect(() => [...new RowPageReader().read({ kind: "Pod", page: { ...page, others: [] } }, 0)]).toThrow(
    "lacks the one at 1 of 2",
  );
  expect(() => [...new RowPageReader().read({ kind: "Pod", page: { ...page, ids: "a" } }, 0)]).toThrow(
    "has 1 keys and 2 revisions of 2",
  );
});

function block(spec: JsonObject): JsonObject {
  return { metadata: { name: "10-0-0-0-26", resourceVersion: "77" }, spec: { cidr: "10.0.0.0/26", ...spec } };
}

function held(...attributes: readonly JsonObject[]): JsonObject {
  return block({ affinity: "host:n2", allocations: [null, ...attributes.keys()], attributes: [...attributes] });
}

test.each([
  ["with nothing in it", block({ affinity: "host:n2", allocations: [], attributes: [] })],
  ["of no node", block({ allocations: [], attributes: [] })],
  ["of IPv6", block({ cidr: "fd00::/122", allocations: [0], attributes: [{ handle_id: "h" }] })],
  [
    "with pods",
    held(
      { handle_id: "k8s.1", secondary: { namespace: "shop", pod: "web", node: "n2" } },
      { handle_id: "k8s.2", secondary: { namespace: "shop", pod: "db", node: "n3" } },
    ),
  ],
  ["with a reserve", held({ handle_id: "windows-reserved-ipam-handle", secondary: { type: "reserve", node: "n2" } })],
  [
    "with attributes of several words",
    held({ handle_id: "a b", secondary: { namespace: "s h", pod: "web", node: "n2" } }),
  ],
  ["with an empty attribute", held({ handle_id: "", secondary: { node: "" } })],
  ["with a pod that has a slash", held({ handle_id: "h", secondary: { namespace: "a/b", pod: "c" } })],
  ["without an owner", held({})],
  ["that cannot be read", block({ cidr: "10.0.0.0" })],
])("a block %s is the same row", (_, object) => {
  const updates = rows("IPAMBlock", [object]);
  expect(sent("IPAMBlock", [updates])).toEqual(asAsked(updates) as never);
});
