import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { openFiles } from "../host/bun/files.ts";
import { FileError, type Files } from "../host/files.ts";
import { unwrap } from "../lib/result.ts";
import { parseAddr } from "../net/addr.ts";
import { type Attachment, Journal } from "./journal.ts";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync("/dev/shm/calico-journal-");
});
afterEach(() => rmSync(directory, { recursive: true }));

const ATTACHMENT: Attachment = {
  record: {
    containerId: "c1",
    pod: { kind: "Pod", namespace: "a", name: "b" },
    interface: "cali1",
    addresses: [unwrap(parseAddr("10.0.0.1"))],
    mac: "02:00:00:00:00:01",
    netns: "/run/netns/x",
    podInterface: "eth0",
  },
  handle: "net.c1",
  assignedAt: "2026-01-01T00:00:00Z",
  mtuBytes: 1500,
  state: "attached",
  wired: true,
};
const RELEASING: Attachment = { ...ATTACHMENT, state: "releasing", wired: false };

const open = (files: Files = openFiles()): Promise<Journal> => Journal.open(files, directory, () => {});

/** Files of which each operation named in `refused` fails. */
function refusing(refused: ReadonlySet<string>): Files {
  return new Proxy(openFiles(), {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== "function" || typeof name !== "string") return value;
      return async (...args: readonly unknown[]) => {
        if (refused.has(name)) throw new FileError(name, String(args[0]), "ENOSPC");
        return Reflect.apply(value, target, args) as unknown;
      };
    },
  });
}

test("what is attached, closed or being released is known to the next process", async () => {
  const journal = await open();
  await journal.put(ATTACHMENT);
  expect((await open()).all()).toEqual([ATTACHMENT]);
  await journal.close(ATTACHMENT, "why");
  expect((await open()).all()).toEqual([{ ...ATTACHMENT, wired: false, closed: "why" }]);
  await journal.release(ATTACHMENT);
  expect((await open()).all()).toEqual([{ ...RELEASING, closed: "why" }]);
  await journal.remove(ATTACHMENT);
  expect((await open()).all()).toEqual([]);
  expect(readdirSync(directory)).toEqual([]);
});

test("a refused operation changes neither memory nor disk", async () => {
  const refused = new Set(["writeVolatile"]);
  const journal = await open(refusing(refused));
  await expect(journal.put(ATTACHMENT)).rejects.toThrow("ENOSPC");
  expect(journal.all()).toEqual([]);
  await expect(journal.probe()).rejects.toThrow("ENOSPC");
  refused.clear();
  await journal.probe();
  await journal.put(ATTACHMENT);
  for (const name of ["writeVolatile", "rename", "remove"]) refused.add(name);
  await expect(journal.close(ATTACHMENT, "why")).rejects.toThrow("ENOSPC");
  await expect(journal.release(ATTACHMENT)).rejects.toThrow("ENOSPC");
  expect(journal.all()).toEqual([ATTACHMENT]);
  refused.delete("rename");
  expect(await journal.release(ATTACHMENT)).toEqual(RELEASING);
  await expect(journal.remove(ATTACHMENT)).rejects.toThrow("ENOSPC");
  expect(journal.all()).toEqual([RELEASING]);
  expect((await open()).all()).toEqual([RELEASING]);
});

test("to release needs no write, may be repeated, and ends a change that was under way", async () => {
  const refused = new Set<string>();
  const journal = await open(refusing(refused));
  await journal.put(ATTACHMENT);
  const closing = journal.close(ATTACHMENT, "why");
  const released = journal.release(ATTACHMENT);
  await journal.close(ATTACHMENT, "too late");
  refused.add("writeVolatile");
  await closing;
  expect(await released).toEqual({ ...RELEASING, closed: "why" });
  await journal.release(ATTACHMENT);
  expect(journal.all()).toEqual([{ ...RELEASING, closed: "why" }]);
  expect(readdirSync(directory)).toEqual(["c1@eth0.releasing"]);
});

test("what an interrupted write left is removed; a file of others is reported and kept", async () => {
  writeFileSync(`${directory}/c1@eth0.json.1-1.tmp`, "{");
  writeFileSync(`${directory}/probe.tmp`, "");
  writeFileSync(`${directory}/other.json`, "{}");
  const reports: unknown[] = [];
  const journal = await Journal.open(openFiles(), directory, (message, fields) => reports.push([message, fields]));
  expect(journal.all()).toEqual([]);
  expect(reports).toEqual([["journal file is not a CNI attachment: ignored", { path: `${directory}/other.json` }]]);
  expect(readdirSync(directory)).toEqual(["other.json"]);
});

test("an address of two attachments is held by the one that is attached, whichever was written first", async () => {
  const [addr = unwrap(parseAddr("10.0.0.1"))] = ATTACHMENT.record.addresses;
  const next: Attachment = {
    ...ATTACHMENT,
    record: { ...ATTACHMENT.record, containerId: "c2" },
    handle: "net.c2",
  };
  for (const [going, staying] of [
    [ATTACHMENT, next],
    [next, ATTACHMENT],
  ] as const) {
    const journal = await open();
    for (const each of [ATTACHMENT, next]) await journal.put(each);
    await journal.release(going);
    expect(journal.holders()).toEqual(new Map([[addr, staying.handle]]));
    await journal.remove(going);
  }
});
