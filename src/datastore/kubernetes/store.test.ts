import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Files } from "../../host/files.ts";
import type { Sockets } from "../../host/sockets.ts";
import { VirtualClock } from "../../lib/virtual-clock.ts";
import type { Resource } from "../../model/resource.ts";
import { type Store, StoreError, type WatchEvent } from "../store.ts";
import type { KubernetesAccess } from "./kubeconfig.ts";
import { openKubernetesStore } from "./store.ts";
import { UNSERVED_MS } from "./unserved.ts";
import { IDLE_LIMIT_MS } from "./watch.ts";

/** A server that answers as the test says, and records the requests. */
type Answer = (request: Request, body: string) => Response | Promise<Response>;
let answer: Answer = () => new Response("no answer was given", { status: 500 });
const asked: { method: string; url: string; body: string; headers: Headers }[] = [];
let server: ReturnType<typeof Bun.serve>;
const files = new Map<string, string>();

beforeAll(() => {
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    async fetch(request) {
      const body = await request.text();
      const url = new URL(request.url);
      asked.push({ method: request.method, url: url.pathname + url.search, body, headers: request.headers });
      return answer(request, body);
    },
  });
});
afterAll(() => server.stop(true));

function unused(): never {
  throw new Error("not used here");
}

function open(access: Partial<KubernetesAccess> = {}, clock = new VirtualClock()): Store {
  const sockets: Sockets = {
    connect: unused,
    listen: unused,
    serve: unused,
    fetch: (url, options) => fetch(url, { ...options, timeout: false } as RequestInit),
  };
  const reads: Files = {
    readText: async (path) => files.get(path),
    writeText: unused,
    writeVolatile: unused,
    rename: unused,
    list: unused,
    remove: unused,
    makeDirectory: unused,
    exists: unused,
    copy: unused,
  };
  asked.length = 0;
  return openKubernetesStore(
    { server: `http://127.0.0.1:${server.port}`, ...access },
    { sockets, files: reads, clock, random: { fraction: () => 0.5, uuid: unused } },
  );
}

const POOL: Resource<"IPPool"> = {
  apiVersion: "projectcalico.org/v3",
  kind: "IPPool",
  metadata: { name: "p", resourceVersion: "5" },
  spec: { cidr: "fd00::/48" },
};
const POOL_KEY = { kind: "IPPool", namespace: undefined, name: "p" } as const;
const WEB = { kind: "Pod", namespace: "ns", name: "web" } as const;

function status(code: number, reason: string, message: string, headers: Record<string, string> = {}): Response {
  return Response.json(
    { kind: "Status", apiVersion: "v1", status: "Failure", code, reason, message },
    { status: code, headers },
  );
}

test.each([
  [400, "BadRequest", "invalid"],
  [401, "Unauthorized", "forbidden"],
  [403, "Forbidden", "forbidden"],
  [404, "NotFound", "not-found"],
  [409, "AlreadyExists", "exists"],
  [409, "Conflict", "conflict"],
  [410, "Expired", "gone"],
  [422, "Invalid", "invalid"],
  [429, "TooManyRequests", "unavailable"],
  [500, "InternalError", "unavailable"],
  [503, "ServiceUnavailable", "unavailable"],
])("%d %s means %s, with the server's message", async (code, reason, wanted) => {
  answer = () => status(code, reason, "spec.cidr: no good", { "retry-after": "7" });
  const error = await open()
    .create("IPPool", POOL)
    .catch((caught: unknown) => caught);
  if (!(error instanceof StoreError)) throw error;
  expect([error.reason as string, error.retryAfterMs]).toEqual([wanted, 7000]);
  expect(error.message).toBe(`Cannot create IPPool/p: the server answered ${code}: spec.cidr: no good`);
});

test("an answer that is not a Status, not JSON, or not an object of the kind is unavailable", async () => {
  answer = () => new Response("<html>bad gateway</html>", { status: 502 });
  await expect(open().get(POOL_KEY)).rejects.toThrow("502: <html>bad gateway");
  answer = () => new Response("{", { status: 200 });
  await expect(open().get(POOL_KEY)).rejects.toMatchObject({ reason: "unavailable" });
  answer = () => Response.json({ kind: "IPPoolList", items: [] });
  await expect(open().get(POOL_KEY)).rejects.toThrow("must be a IPPool");
  answer = () => Response.json({ kind: "IPPool", metadata: { name: "p" } });
  await expect(open().list("IPPool")).rejects.toThrow("must be a list");
});

test("a 404 that is not the API server's own does not mean that the object is missing", async () => {
  for (const body of ["404 page not found\n", "<html>no such site</html>", "{}"]) {
    answer = () => new Response(body, { status: 404 });
    await expect(open().get(POOL_KEY)).rejects.toMatchObject({
      reason: "unavailable",
      message: expect.stringContaining("404"),
    });
    await expect(open().delete(POOL_KEY)).rejects.toMatchObject({ reason: "unavailable" });
  }
  answer = () => status(404, "NotFound", 'ippools.projectcalico.org "p" not found');
  expect(await open().get(POOL_KEY)).toBeUndefined();
});

test("after too many requests nothing is sent until Retry-After is over, for a minute at most", async () => {
  for (const [seconds, obeyedMs] of [
    ["7", 7_000],
    ["86400", 60_000],
  ] as const) {
    const clock = new VirtualClock();
    const store = open({}, clock);
    answer = () => status(429, "TooManyRequests", "slow down", { "retry-after": seconds });
    await expect(store.list("Pod")).rejects.toThrow("429: slow down");
    answer = () => Response.json(POOL);
    await clock.advance(obeyedMs - 1);
    const message = `Cannot get IPPool/p: http://127.0.0.1:${server.port} answered 429 to an earlier request and accepts none for another 1 ms`;
    await expect(store.get(POOL_KEY)).rejects.toMatchObject({ reason: "unavailable", retryAfterMs: 1, message });
    await expect(
      store.watch("IPPool", "5", { signal: new AbortController().signal })[Symbol.asyncIterator]().next(),
    ).rejects.toMatchObject({ reason: "unavailable" });
    expect(asked.length).toBe(1);
    await clock.advance(1);
    expect((await store.get(POOL_KEY))?.metadata.name).toBe("p");
  }
});

test("no listener: unavailable, naming the server", async () => {
  await expect(open({ server: "http://127.0.0.1:1" }).get(POOL_KEY)).rejects.toMatchObject({
    reason: "unavailable",
    message: expect.stringContaining("http://127.0.0.1:1"),
  });
});

test("a list is read page by page", async () => {
  answer = (request) => {
    const next = new URL(request.url).searchParams.get("continue");
    const items = [{ metadata: { name: next === null ? "a" : "b", namespace: "ns" } }];
    return Response.json({
      kind: "PodList",
      metadata: { resourceVersion: "77", ...(next === null ? { continue: "x/y=" } : {}) },
      items,
    });
  };
  const { items, revision } = await open().list("Pod", {
    namespace: "ns",
    labels: { app: "web", "example.org/x": "y" },
  });
  expect(items.map((item) => [item.apiVersion, item.kind, item.metadata.name])).toEqual([
    ["v1", "Pod", "a"],
    ["v1", "Pod", "b"],
  ]);
  expect(revision).toBe("77");
  const selector = "labelSelector=app%3Dweb%2Cexample.org%2Fx%3Dy";
  expect(asked.map(({ url }) => url)).toEqual([
    `/api/v1/namespaces/ns/pods?limit=50&${selector}`,
    `/api/v1/namespaces/ns/pods?limit=50&${selector}&continue=x%2Fy%3D`,
  ]);
});

test("after a full page of small objects the next ones are larger, and are asked for before the page is read", async () => {
  answer = (request) => {
    const { searchParams } = new URL(request.url);
    const from = Number(searchParams.get("continue") ?? "0");
    const to = Math.min(from + Number(searchParams.get("limit")), 1_000);
    const items = Array.from({ length: to - from }, (_, i) => ({ metadata: { name: `p${from + i}` } }));
    return Response.json({
      metadata: { resourceVersion: "7", ...(to < 1_000 ? { continue: String(to) } : {}) },
      items,
    });
  };
  const names: string[] = [];
  for await (const { items } of open().pages("IPPool")) {
    names.push(...items.map(({ metadata }) => metadata.name));
    // It would wait forever if the next page were asked for only now.
    while (names.length === 50 && asked.length < 2) await Bun.sleep(1);
  }
  expect(names).toEqual(Array.from({ length: 1_000 }, (_, i) => `p${i}`));
  expect(asked.map(({ url }) => new URL(url, "http://x").searchParams.get("limit"))).toEqual(["50", "500", "500"]);
});

test("a list whose next page is gone is read whole, from the start", async () => {
  answer = (request) => {
    const { searchParams } = new URL(request.url);
    if (searchParams.has("continue")) return status(410, "Expired", "The provided continue parameter is too old");
    const names = searchParams.has("limit") ? ["a"] : ["b", "c"];
    return Response.json({
      kind: "PodList",
      metadata: { resourceVersion: "77", ...(searchParams.has("limit") ? { continue: "x" } : {}) },
      items: names.map((name) => ({ metadata: { name, namespace: "ns" } })),
    });
  };
  const { items } = await open().list("Pod", { labels: { app: "web" } });
  expect(items.map((item) => item.metadata.name)).toEqual(["b", "c"]);
  expect(asked.map(({ url }) => url)).toEqual([
    "/api/v1/pods?limit=50&labelSelector=app%3Dweb",
    "/api/v1/pods?limit=50&labelSelector=app%3Dweb&continue=x",
    "/api/v1/pods?labelSelector=app%3Dweb",
  ]);
});

test("a list that is gone at its first page is gone", async () => {
  answer = () => status(410, "Expired", "The provided continue parameter is too old");
  await expect(open().list("Pod")).rejects.toMatchObject({ reason: "gone" });
});

test("writes: method, path, type and body", async () => {
  answer = () => Response.json(POOL);
  const store = open({ token: "secret\n" });
  await store.create("IPPool", POOL);
  await store.update("IPPool", POOL);
  await store.delete(POOL_KEY, { revision: "5", uid: "u" });
  await store.annotate(WEB, { a: "1", b: null });
  await store.annotate({ kind: "ServiceAccount", namespace: "ns", name: "a" }, { a: "1" });
  expect(asked.map(({ method, url }) => `${method} ${url}`)).toEqual([
    "POST /apis/projectcalico.org/v3/ippools",
    "PUT /apis/projectcalico.org/v3/ippools/p",
    "DELETE /apis/projectcalico.org/v3/ippools/p",
    "PATCH /api/v1/namespaces/ns/pods/web/status",
    "PATCH /api/v1/namespaces/ns/serviceaccounts/a",
  ]);
  expect(asked.map(({ headers }) => headers.get("content-type"))).toEqual([
    "application/json",
    "application/json",
    "application/json",
    "application/merge-patch+json",
    "application/merge-patch+json",
  ]);
  expect(asked[0]?.headers.get("authorization")).toBe("Bearer secret");
  expect(JSON.parse(asked[0]?.body ?? "").metadata).toEqual({ name: "p" });
  expect(JSON.parse(asked[2]?.body ?? "").preconditions).toEqual({ resourceVersion: "5", uid: "u" });
  expect(JSON.parse(asked[3]?.body ?? "")).toEqual({ metadata: { annotations: { a: "1", b: null } } });
});

test("the token file is read again for each request; a missing one is an error", async () => {
  answer = () => Response.json(POOL);
  const store = open({ tokenFile: "/token" });
  files.set("/token", "one");
  await store.get(POOL_KEY);
  files.set("/token", "two");
  await store.get(POOL_KEY);
  expect(asked.map(({ headers }) => headers.get("authorization"))).toEqual(["Bearer one", "Bearer two"]);
  files.delete("/token");
  await expect(store.get(POOL_KEY)).rejects.toMatchObject({
    reason: "forbidden",
    message: expect.stringContaining('"/token" does not exist'),
  });
});

test("an update without a version never reaches the server", async () => {
  await expect(open().update("IPPool", { ...POOL, metadata: { name: "p" } })).rejects.toMatchObject({
    reason: "invalid",
  });
  expect(asked.length).toBe(0);
});

test("a request without an answer ends after 30 s", async () => {
  const clock = new VirtualClock();
  const hanging = Promise.withResolvers<Response>();
  const reached = Promise.withResolvers<void>();
  answer = () => (reached.resolve(), hanging.promise);
  const got = open({}, clock)
    .get(POOL_KEY)
    .catch((error: unknown) => error);
  await reached.promise;
  await clock.advance(30_000);
  expect(await got).toMatchObject({ reason: "unavailable", message: expect.stringContaining("within 30000 ms") });
  hanging.resolve(Response.json(POOL));
});

test("close ends pending requests, and later ones", async () => {
  const reached = Promise.withResolvers<void>();
  answer = () => (reached.resolve(), new Promise(() => undefined));
  const store = open();
  const got = store.get(POOL_KEY).catch((error: unknown) => error);
  await reached.promise;
  await store.close();
  expect(await got).toMatchObject({
    reason: "unavailable",
    message: "Cannot get IPPool/p: the client was closed before an answer came",
  });
  await expect(store.list("Pod")).rejects.toMatchObject({ reason: "unavailable" });
});

/** A streamed answer that the test writes. */
function stream(): { response: Response; send: (text: string) => void; end: () => void; cancelled: Promise<void> } {
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  const cancelled = Promise.withResolvers<void>();
  const body = new ReadableStream<Uint8Array>({
    start: (given) => void (controller = given),
    cancel: () => cancelled.resolve(),
  });
  const send = (text: string): void => controller?.enqueue(new TextEncoder().encode(text));
  return { response: new Response(body), send, end: () => controller?.close(), cancelled: cancelled.promise };
}

function event(type: string, name: string, revision: string): string {
  return `${JSON.stringify({ type, object: { kind: "IPPool", apiVersion: "projectcalico.org/v3", metadata: { name, resourceVersion: revision }, spec: {} } })}\n`;
}

async function next(iterator: AsyncIterator<readonly WatchEvent<"IPPool">[]>): Promise<string[]> {
  const { value, done } = await iterator.next();
  if (done === true) return ["done"];
  return (value as readonly WatchEvent<"IPPool">[]).map(
    (item) => `${item.type} ${item.type === "bookmark" ? "" : item.object.metadata.name} ${item.revision}`,
  );
}

test("watch: asks for bookmarks and a timeout, yields batches, ends when the server ends", async () => {
  const { response, send, end } = stream();
  answer = () => response;
  const iterator = open().watch("IPPool", "5", { signal: new AbortController().signal })[Symbol.asyncIterator]();
  send(event("ADDED", "a", "6"));
  expect(await next(iterator)).toEqual([]);
  expect(await next(iterator)).toEqual(["added a 6"]);
  expect(asked[0]?.url).toBe(
    "/apis/projectcalico.org/v3/ippools?watch=1&resourceVersion=5&allowWatchBookmarks=true&timeoutSeconds=450",
  );
  const second =
    event("MODIFIED", "ä", "7") +
    event("DELETED", "a", "8") +
    `${JSON.stringify({ type: "BOOKMARK", object: { metadata: { resourceVersion: "9" } } })}\n`;
  send(second);
  expect(await next(iterator)).toEqual(["modified ä 7", "deleted a 8", "bookmark  9"]);
  end();
  expect(await next(iterator)).toEqual(["done"]);
});

test.each(["NetworkSet", "GlobalNetworkSet"] as const)(
  "watch: of a %s that changes, only nets that changed are new texts",
  async (kind) => {
    const { response, send } = stream();
    answer = () => response;
    const iterator = open().watch(kind, "5", { signal: new AbortController().signal })[Symbol.asyncIterator]();
    const nets = Array.from({ length: 2_000 }, (_, i) => `10.${i >> 8}.${i & 255}.0/24`);
    const changed = nets.with(1_000, "192.0.2.0/24");
    const read: number[] = [];
    const { parse } = JSON;
    JSON.parse = (text: string): unknown => {
      read.push(text.length);
      return parse(text) as unknown;
    };
    try {
      const got: unknown[] = [];
      for (const [i, list] of [nets, changed].entries()) {
        const metadata = { name: "s", resourceVersion: String(6 + i) };
        send(`${JSON.stringify({ type: "MODIFIED", object: { metadata, spec: { nets: list } } })}\n`);
        while (got.length === i)
          for (const each of (await iterator.next()).value ?? [])
            if (each.type === "modified") got.push((each.object as { spec?: { nets?: unknown } }).spec?.nets);
      }
      expect(got).toEqual([nets, changed]);
    } finally {
      JSON.parse = parse;
    }
    // The list and what is around it; then what changed of it and, again, that.
    expect(read.length).toBe(4);
    expect(Math.max(...read.slice(2))).toBeLessThan(200);
  },
);

test("watch: too old is gone, as an answer and inside the stream, after the events before it", async () => {
  answer = () => status(410, "Expired", "too old resource version");
  const refused = open().watch("IPPool", "5", { signal: new AbortController().signal })[Symbol.asyncIterator]();
  await expect(refused.next()).rejects.toMatchObject({ reason: "gone" });
  const { response, send } = stream();
  answer = () => response;
  send(
    event("ADDED", "a", "6") +
      `${JSON.stringify({ type: "ERROR", object: { kind: "Status", code: 410, reason: "Expired", message: "too old" } })}\n`,
  );
  const iterator = open().watch("IPPool", "5", { signal: new AbortController().signal })[Symbol.asyncIterator]();
  await next(iterator);
  expect(await next(iterator)).toEqual(["added a 6"]);
  await expect(iterator.next()).rejects.toMatchObject({
    reason: "gone",
    message: "Cannot watch IPPool: the server answered 410: too old",
  });
});

test("watch: a stream cut inside an event, and a malformed event, are unavailable", async () => {
  for (const text of [
    event("ADDED", "a", "6").slice(0, 30),
    "nonsense\n",
    '{"type":"ODD","object":{"metadata":{"resourceVersion":"1"}}}\n',
  ]) {
    const { response, send, end } = stream();
    answer = () => response;
    send(text);
    end();
    const iterator = open().watch("IPPool", "5", { signal: new AbortController().signal })[Symbol.asyncIterator]();
    await next(iterator);
    await expect(iterator.next()).rejects.toMatchObject({ reason: "unavailable" });
  }
});

test("watch: silence longer than the limit ends it, any data keeps it alive", async () => {
  const clock = new VirtualClock();
  const { response, send } = stream();
  answer = () => response;
  send(event("ADDED", "a", "6"));
  const iterator = open({}, clock)
    .watch("IPPool", "5", { signal: new AbortController().signal })
    [Symbol.asyncIterator]();
  await next(iterator);
  await next(iterator);
  await clock.advance(IDLE_LIMIT_MS - 1000);
  send(event("ADDED", "b", "7"));
  expect(await next(iterator)).toEqual(["added b 7"]);
  await clock.advance(IDLE_LIMIT_MS - 1000);
  send(event("ADDED", "c", "8"));
  expect(await next(iterator)).toEqual(["added c 8"]);
  const ended = next(iterator);
  await clock.advance(IDLE_LIMIT_MS);
  expect(await ended).toEqual(["done"]);
});

test("watch: without an answer in 30 s it is unavailable", async () => {
  const clock = new VirtualClock();
  const reached = Promise.withResolvers<void>();
  answer = () => (reached.resolve(), new Promise(() => undefined));
  const iterator = open({}, clock)
    .watch("IPPool", "5", { signal: new AbortController().signal })
    [Symbol.asyncIterator]();
  const lost = iterator.next().then(
    () => "went on",
    (error: unknown) => error,
  );
  await reached.promise;
  await clock.advance(30_000);
  expect(await lost).toMatchObject({
    reason: "unavailable",
    message: "Cannot watch IPPool: no answer within 30000 ms",
  });
});

test("watch: breaking out of the loop and close() both end the connection", async () => {
  for (const how of ["break", "close"]) {
    const { response, send, cancelled } = stream();
    answer = () => response;
    send(event("ADDED", "a", "6"));
    const store = open();
    for await (const batch of store.watch("IPPool", "5", { signal: new AbortController().signal })) {
      if (batch.length === 0) continue;
      if (how === "break") break;
      await store.close();
    }
    await cancelled;
  }
});

describe("a kind that a cluster may lack", () => {
  const V3 = "projectcalico.org/v3";
  const MISSING = (): Response => new Response("404 page not found\n", { status: 404 });
  const DENIED = (): Response => status(403, "Forbidden", "profiles is forbidden");
  /** `served`: the kinds of the group, undefined: it has not even the group. */
  const serve = (kindAnswer: () => Response, served: readonly string[] | undefined): void => {
    answer = (request) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/apis")
        return Response.json({
          groups: [
            { name: "apps", versions: [{ groupVersion: "apps/v1" }] },
            ...(served === undefined ? [] : [{ name: "projectcalico.org", versions: [{ groupVersion: V3 }] }]),
          ],
        });
      if (pathname === `/apis/${V3}`) return Response.json({ resources: (served ?? []).map((name) => ({ name })) });
      return kindAnswer();
    };
  };

  test.each([
    ["404", MISSING],
    ["403, as for what one has no right to", DENIED],
  ])("is empty where discovery says that it is not there, whether the list is answered %s", async (_, kindAnswer) => {
    serve(kindAnswer, ["tiers"]);
    expect((await open().list("Profile")).items).toEqual([]);
    serve(kindAnswer, undefined);
    expect((await open().list("AdminNetworkPolicy")).items).toEqual([]);
  });

  test("is an error where it is there, where all of Calico's are not, and where nobody knows", async () => {
    serve(DENIED, ["profiles"]);
    await expect(open().list("Profile")).rejects.toMatchObject({ reason: "forbidden" });
    serve(MISSING, ["profiles"]);
    await expect(open().list("Profile")).rejects.toMatchObject({ reason: "unavailable" });
    serve(MISSING, undefined);
    await expect(open().list("Profile")).rejects.toMatchObject({ reason: "unavailable" });
    answer = MISSING;
    await expect(open().list("Profile")).rejects.toMatchObject({ reason: "unavailable" });
  });

  test("that every cluster has is never empty", async () => {
    serve(MISSING, ["tiers"]);
    await expect(open().list("GlobalNetworkPolicy")).rejects.toMatchObject({ reason: "unavailable" });
    serve(DENIED, ["globalnetworkpolicies"]);
    await expect(open().list("GlobalNetworkPolicy")).rejects.toMatchObject({ reason: "forbidden" });
  });

  test("is looked for again with one request, until the cluster has it", async () => {
    serve(MISSING, ["tiers"]);
    const clock = new VirtualClock();
    const store = open({}, clock);
    const { revision } = await store.list("Profile");
    const watch = store.watch("Profile", revision, { signal: new AbortController().signal })[Symbol.asyncIterator]();
    expect((await watch.next()).value).toEqual([]);
    asked.length = 0;
    const next = watch.next().catch((error: unknown) => error);
    await clock.advance(UNSERVED_MS);
    while (asked.length === 0) await Bun.sleep(1);
    expect(asked.map(({ url }) => url)).toEqual([`/apis/${V3}/profiles?limit=1`]);
    answer = () => Response.json({ metadata: { resourceVersion: "7" }, items: [] });
    // The answer to the first one may still be under way.
    let isOver = false;
    void next.then(() => (isOver = true));
    // In steps, or a request under way would be late.
    while (!isOver) await Promise.all([clock.advance(UNSERVED_MS / 20), Bun.sleep(5)]);
    expect(await next).toMatchObject({ reason: "gone" });
    await store.close();
  });
});
