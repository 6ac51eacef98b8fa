/** The API of the scale bench: pages, watches, what a node writes, and the changes that are measured. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { BenchServer, placeOf } from "./server.ts";
import { wallMs } from "./clock.ts";
import { type Size, SIZES } from "./scenario.ts";
import { ApiStore } from "./store.ts";
import type { MemberChange } from "./world.ts";

interface Item {
  readonly metadata: {
    readonly namespace?: string;
    readonly name: string;
    readonly uid?: string;
    readonly resourceVersion: string;
  };
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly status?: { readonly podIP?: string };
}
interface Event {
  readonly type: string;
  readonly object: Item;
}

const SIZE = SIZES[0] as Size;
let server: Awaited<ReturnType<BenchServer["listen"]>>;
const url = (path: string): string => `http://127.0.0.1:${server.port}${path}`;

beforeAll(async () => {
  server = await new BenchServer(SIZE, "lean", "kubernetes").listen("127.0.0.1", 0);
});
afterAll(() => server.close());

async function ask(method: string, path: string, body?: object): Promise<{ status: number; object: Item }> {
  const response = await fetch(url(path), { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  return { status: response.status, object: (await response.json()) as Item };
}

async function list(path: string): Promise<{ pages: number; items: Item[]; revision: string }> {
  const items: Item[] = [];
  let [pages, next, revision] = [0, "", ""];
  do {
    const response = await fetch(url(`${path}?limit=500${next === "" ? "" : `&continue=${next}`}`));
    const page = (await response.json()) as { metadata: { continue?: string; resourceVersion: string }; items: Item[] };
    items.push(...page.items);
    pages++;
    revision = page.metadata.resourceVersion;
    next = page.metadata.continue ?? "";
  } while (next !== "");
  return { pages, items, revision };
}

/** The first events of a watch from the revision; `change` is made once it is established. */
async function watch(path: string, revision: string, count: number, change: () => Promise<unknown>): Promise<Event[]> {
  const controller = new AbortController();
  const response = await fetch(url(`${path}?watch=1&resourceVersion=${revision}`), { signal: controller.signal });
  await change();
  const events: Event[] = [];
  let rest = "";
  for await (const chunk of response.body ?? []) {
    const lines = (rest + new TextDecoder().decode(chunk)).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) events.push(JSON.parse(line) as Event);
    if (events.length >= count) break;
  }
  controller.abort();
  return events;
}

test("a list comes in pages that hold every object once", async () => {
  const { pages, items } = await list("/api/v1/pods");
  expect(pages).toBe(3);
  expect(items.length).toBe(1_200);
  expect(new Set(items.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`)).size).toBe(1_200);
});

test("a change of a pod is told to the watches, and is on its page", async () => {
  const { revision } = await list("/api/v1/pods");
  let changes: MemberChange[] = [];
  const events = await watch("/api/v1/pods", revision, 3, async () => {
    changes = (await (await fetch(url("/bench/addresses?rate=1000&count=3&blocks=yes"))).json()) as MemberChange[];
  });
  expect(events.map(({ type }) => type)).toEqual(["MODIFIED", "MODIFIED", "MODIFIED"]);
  const { items } = await list("/api/v1/pods");
  for (const [i, { object }] of events.entries()) {
    expect(hexOf(object.status?.podIP)).toBe(changes[i]?.key ?? "");
    expect(items.find(({ metadata }) => metadata.uid === object.metadata.uid)).toEqual(object);
  }
});

test("the block of a pod that moved holds its new address and not the one before", async () => {
  const before = new Map(
    (await list("/api/v1/pods")).items.map(({ metadata, status }) => [metadata.name, status?.podIP]),
  );
  await fetch(url("/bench/addresses?rate=1000&count=1&blocks=yes"));
  const moved = (await list("/api/v1/pods")).items.find(
    ({ metadata, status }) => before.get(metadata.name) !== status?.podIP,
  );
  const { items: blocks } = await list("/apis/projectcalico.org/v3/ipamblocks");
  const held = blocks.flatMap(({ spec }) => {
    const first = String(spec?.["cidr"]).split("/")[0] ?? "";
    return ((spec?.["allocations"] ?? []) as (number | null)[]).flatMap((index, ordinal) =>
      index === null ? [] : [Number.parseInt(hexOf(first), 16) + ordinal],
    );
  });
  expect(held.length).toBe(SIZE.pods);
  expect(held).toContain(Number.parseInt(hexOf(moved?.status?.podIP), 16));
  expect(held).not.toContain(Number.parseInt(hexOf(before.get(moved?.metadata.name ?? "")), 16));
});

test("a watch tells what came since its revision, and one that begins too early is refused", async () => {
  const { revision } = await list("/api/v1/nodes");
  await fetch(url("/bench/nodes?rate=1000&count=2"));
  const events = await watch("/api/v1/nodes", revision, 2, async () => undefined);
  expect(events.length).toBe(2);
  const early = await fetch(url("/api/v1/nodes?watch=1&resourceVersion=1"));
  expect(early.status).toBe(410);
});

test("a node's writes are taken as the API does: conflicts, patches, deletions", async () => {
  const path = "/apis/projectcalico.org/v3/ipamblocks";
  const made = await ask("POST", path, { metadata: { name: "b" }, spec: { cidr: "10.64.0.0/26" } });
  expect(made.status).toBe(201);
  expect(made.object.metadata.uid).toBeString();
  expect((await ask("POST", path, { metadata: { name: "b" } })).status).toBe(409);
  const next = { ...made.object, spec: { cidr: "10.64.0.0/26", deleted: true } };
  expect((await ask("PUT", `${path}/b`, next)).status).toBe(200);
  expect((await ask("PUT", `${path}/b`, next)).status).toBe(409);
  const stale = { preconditions: { resourceVersion: made.object.metadata.resourceVersion } };
  expect((await ask("DELETE", `${path}/b`, stale)).status).toBe(409);
  expect((await ask("DELETE", `${path}/b`, {})).status).toBe(200);
  expect((await ask("GET", `${path}/b`)).status).toBe(404);
  const pod = "/api/v1/namespaces/scale/pods/local-0/status";
  const patched = await ask("PATCH", pod, { metadata: { annotations: { a: "b" } } });
  expect(patched.object.metadata).toMatchObject({ annotations: { a: "b" }, name: "local-0", namespace: "scale" });
  const writes = (await (await fetch(url("/bench/writes"))).json()) as object;
  expect(writes).toMatchObject({ "POST ipamblocks": 2, "PUT ipamblocks": 2, "DELETE ipamblocks": 2, "PATCH pods": 1 });
});

test("a selector of labels chooses", async () => {
  const path = "/apis/projectcalico.org/v3/blockaffinities";
  for (const node of ["x", "y"]) await ask("POST", path, { metadata: { name: node, labels: { node } } });
  const response = await fetch(url(`${path}?labelSelector=node%3Dy`));
  expect(((await response.json()) as { items: Item[] }).items.map(({ metadata }) => metadata.name)).toEqual(["y"]);
});

test.each([
  ["/api/v1/pods", { plural: "pods", namespace: undefined, name: undefined }],
  ["/api/v1/namespaces/a/pods/b", { plural: "pods", namespace: "a", name: "b" }],
  ["/api/v1/namespaces/a/pods/b/status", { plural: "pods", namespace: "a", name: "b" }],
  ["/api/v1/namespaces/a", { plural: "namespaces", namespace: undefined, name: "a" }],
  ["/api/v1/nodes/n/status", { plural: "nodes", namespace: undefined, name: "n" }],
  [
    "/apis/projectcalico.org/v3/networkpolicies",
    { plural: "networkpolicies.projectcalico.org", namespace: undefined, name: undefined },
  ],
  [
    "/apis/networking.k8s.io/v1/namespaces/a/networkpolicies/b",
    { plural: "networkpolicies", namespace: "a", name: "b" },
  ],
  ["/apis/projectcalico.org/v3/ipamblocks", { plural: "ipamblocks", namespace: undefined, name: undefined }],
])("the path %s", (path, place) => expect(placeOf(path)).toEqual(place));

function hexOf(address: string | undefined): string {
  return (address ?? "")
    .split(".")
    .map((part) => Number(part).toString(16).padStart(2, "0"))
    .join("");
}

test("a change is as of when the watches were told, not of when the server began to write it down", () => {
  const store = new ApiStore();
  store.define("tiers", "projectcalico.org/v3", "Tier");
  let writtenMs = 0;
  let heardMs = 0;
  store.watch("tiers", store.revision, () => (heardMs = wallMs()));
  const slow = { toJSON: () => ((writtenMs = wallMs()), "spec") };
  store.put("tiers", { metadata: { name: "a" }, spec: slow });
  expect(writtenMs).toBeLessThanOrEqual(store.toldAtMs);
  expect(store.toldAtMs).toBeLessThanOrEqual(heardMs);
  const { toldAtMs } = store;
  store.remove({ plural: "tiers", namespace: undefined, name: "a" });
  expect(store.toldAtMs).toBeGreaterThanOrEqual(toldAtMs);
});
