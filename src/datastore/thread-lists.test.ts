import { expect, test } from "bun:test";
import { openClock } from "../host/bun/clock.ts";
import type { Files } from "../host/files.ts";
import type { Sockets } from "../host/sockets.ts";
import type { Thread, ThreadEvents } from "../host/threads.ts";
import { PAGES_AHEAD } from "./list-messages.ts";
import { serveLists } from "./list-thread.ts";
import { StoreError } from "./store.ts";
import { ThreadLists } from "./thread-lists.ts";

/** A server with so many pods, and a thread that is none: it runs in the same one, and hears and says the same texts. */
class Bench {
  readonly clock = openClock();
  readonly reports: string[] = [];
  readonly asked: string[] = [];
  /** Texts of the thread. */
  readonly sent: string[] = [];
  started = 0;
  closed = 0;
  answer: (url: URL) => Response = (url) => pageOf(url, 120);
  /** What becomes of a text of the thread: it may be lost, or another. */
  distort: (text: string) => string | undefined = (text) => text;
  #events: ThreadEvents | undefined;

  readonly lists = new ThreadLists({
    start: (events) => this.#start(events),
    access: { server: "http://api" },
    group: "projectcalico.org/v3",
    kinds: ["Pod"],
    node: "n1",
    clock: this.clock,
    report: (message, { error }) => this.reports.push(`${message}: ${String(error)}`),
  });

  #start(events: ThreadEvents): Thread {
    this.started++;
    this.#events = events;
    let received: (text: string) => void = () => {};
    let isOpen = true;
    const owner = {
      send: (text: string) => {
        this.sent.push(text);
        const distorted = this.distort(text);
        if (distorted !== undefined && isOpen) queueMicrotask(() => isOpen && events.received(distorted));
      },
      receive: (receive: (text: string) => void) => void (received = receive),
    };
    serveLists(owner, {
      clock: this.clock,
      files: unusedFiles,
      random: { fraction: () => 0.5, uuid: () => "" },
      sockets: { ...unusedSockets, fetch: async (url) => this.#answer(new URL(url)) },
    });
    return {
      send: (text) => queueMicrotask(() => isOpen && received(text)),
      close: () => {
        isOpen = false;
        this.closed++;
      },
    };
  }

  #answer(url: URL): Response {
    this.asked.push(url.pathname + url.search);
    return this.answer(url);
  }

  die(cause: string): void {
    this.#events?.ended(cause);
  }

  pages(signal = new AbortController().signal): NonNullable<ReturnType<ThreadLists["pages"]>> {
    const pages = this.lists.pages("Pod", signal);
    if (pages === undefined) throw new Error("the list is not read by a thread");
    return pages;
  }
}

const unused = (): never => {
  throw new Error("not used here");
};
const unusedFiles: Files = {
  readText: unused,
  writeText: unused,
  writeVolatile: unused,
  rename: unused,
  list: unused,
  remove: unused,
  makeDirectory: unused,
  exists: unused,
  copy: unused,
};
const unusedSockets: Omit<Sockets, "fetch"> = { connect: unused, listen: unused, serve: unused };

/** Pods p0, p1, … as the limit and the token ask; the token is the number of the next. */
function pageOf(url: URL, count: number, names = "p"): Response {
  const from = Number(url.searchParams.get("continue") ?? "0");
  const to = Math.min(count, from + Number(url.searchParams.get("limit") ?? count));
  const items = Array.from({ length: to - from }, (_, i) => ({
    metadata: {
      namespace: "shop",
      name: `${names}${from + i}`,
      uid: `u${from + i}`,
      resourceVersion: `${100 + from + i}`,
    },
    spec: { nodeName: "n2", containers: [] },
    status: { podIPs: [{ ip: "10.0.0.1" }] },
  }));
  return Response.json({
    metadata: { resourceVersion: "900", ...(to < count ? { continue: String(to) } : {}) },
    items,
  });
}

function refusal(code: number, reason: string, message: string): Response {
  return Response.json({ kind: "Status", status: "Failure", code, reason, message }, { status: code });
}

async function namesOf(pages: ReturnType<Bench["pages"]>): Promise<readonly string[]> {
  let names: string[] = [];
  for await (const { items, isFirst, revision } of pages) {
    expect(revision).toBe("900");
    if (isFirst) names = [];
    for (const { id } of items) names.push(id);
  }
  return names;
}

function range(count: number, names = "p"): string[] {
  return Array.from({ length: count }, (_, i) => `Pod/shop/${names}${i}`);
}

async function failureOf(pages: ReturnType<Bench["pages"]>): Promise<StoreError> {
  try {
    await namesOf(pages);
  } catch (error) {
    if (error instanceof StoreError) return error;
    throw error;
  }
  throw new Error("the list did not fail");
}

test("a list comes whole, page by page, and the thread ends with it", async () => {
  const bench = new Bench();
  const first: unknown[] = [];
  for await (const page of bench.pages()) {
    first.push([...page.items][0]?.value, page.isFirst);
    break;
  }
  expect(first).toMatchObject([{ endpoint: { ok: true, value: { node: "n2", addresses: ["10.0.0.1"] } } }, true]);
  expect(await namesOf(bench.pages())).toEqual(range(120));
  expect([bench.started, bench.closed]).toEqual([2, 2]);
  expect(bench.reports).toEqual([]);
});

test("lists at the same time share a thread", async () => {
  const bench = new Bench();
  const [a, b] = await Promise.all([namesOf(bench.pages()), namesOf(bench.pages())]);
  expect([a, b]).toEqual([range(120), range(120)]);
  expect([bench.started, bench.closed]).toEqual([1, 1]);
});

test("a kind that it does not read is read by who asks", () => {
  const bench = new Bench();
  expect(bench.lists.pages("IPAMBlock", new AbortController().signal)).toBeUndefined();
  expect(bench.started).toBe(0);
});

test("a few pages are sent before any is taken, not more", async () => {
  const bench = new Bench();
  bench.answer = (url) => pageOf(url, 5_000);
  const pages = (): number => bench.sent.filter((text) => text.startsWith('{"type":"page"')).length;
  const names: string[] = [];
  for await (const { items } of bench.pages()) {
    if (names.length === 0) {
      while (pages() < PAGES_AHEAD) await Bun.sleep(0);
      for (let turn = 0; turn < 100; turn++) await Bun.sleep(0);
      expect(pages()).toBe(PAGES_AHEAD);
    }
    for (const { id } of items) names.push(id);
  }
  expect(names).toEqual(range(5_000));
});

test("what the server refuses is the store's own error", async () => {
  const bench = new Bench();
  bench.answer = () => refusal(403, "Forbidden", "pods is forbidden");
  const error = await failureOf(bench.pages());
  expect(error.reason).toBe("forbidden");
  expect(error.message).toContain("pods is forbidden");
  expect(bench.reports).toEqual([]);
  bench.answer = (url) => pageOf(url, 3);
  expect(await namesOf(bench.pages())).toEqual(range(3));
});

test("a page that is malformed fails the list, and says what came", async () => {
  const bench = new Bench();
  bench.answer = (url) =>
    url.searchParams.has("continue")
      ? new Response('{"metadata":{"resourceVersion":"900"},"items":[{}]}')
      : pageOf(url, 120);
  expect((await failureOf(bench.pages())).message).toContain("the server sent {}, must be a Pod");
});

test("a list that begins anew counts from there", async () => {
  const bench = new Bench();
  let isExpired = false;
  bench.answer = (url) => {
    if (!url.searchParams.has("continue")) return pageOf(url, 120, isExpired ? "q" : "p");
    isExpired = true;
    return refusal(410, "Expired", "the token is too old");
  };
  expect(await namesOf(bench.pages())).toEqual(range(120, "q"));
});

test("pages that are lost fail the list", async () => {
  const bench = new Bench();
  let pages = 0;
  bench.distort = (text) => (text.includes('"page"') && ++pages === 2 ? undefined : text);
  expect((await failureOf(bench.pages())).message).toBe("Cannot list Pod: 50 objects came of 120");
});

test("a thread that ends is reported, fails its lists, and is the last", async () => {
  const bench = new Bench();
  const failing = (async () => {
    for await (const _ of bench.pages()) {
      // It has nothing more when it is asked again, and then it dies.
      bench.distort = () => undefined;
      setImmediate(() => bench.die("out of memory"));
    }
  })();
  await expect(failing).rejects.toThrow("Cannot list Pod: the thread that read it has ended");
  expect(bench.reports).toEqual([
    "the thread that reads lists has ended: from now on the daemon reads them itself: out of memory",
  ]);
  expect(bench.lists.pages("Pod", new AbortController().signal)).toBeUndefined();
});

test("who gives a list up hears no more of it, and the thread ends", async () => {
  const bench = new Bench();
  const stop = new AbortController();
  const given = (async () => {
    for await (const _ of bench.pages(stop.signal)) {
      bench.distort = () => undefined;
      queueMicrotask(() => stop.abort(new Error("given up")));
    }
  })();
  await expect(given).rejects.toThrow("given up");
  expect([bench.started, bench.closed]).toEqual([1, 1]);
  await expect(namesOf(bench.pages(stop.signal))).rejects.toThrow("given up");
});
