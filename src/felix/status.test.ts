import { expect, test } from "bun:test";
import { SocketError } from "../host/sockets.ts";
import { readStatus } from "./status.ts";

const ROUTES = { name: "routes", pending: 0, writes: 3, rows: [] };
const STATUS = {
  datastore: "in-sync",
  datastoreErrors: [],
  inSync: true,
  endpoints: ["cali1", "cali2"],
  withoutEffect: [],
  drivers: [ROUTES],
};
const REFUSED = {
  name: "nftables",
  pending: 3,
  rows: [
    {
      row: "policy shop/web",
      state: "failed",
      error: "Cannot add set: ENOMEM",
      since: "2025-01-01T00:00:00Z",
      attempts: 4,
    },
    {
      row: "pod shop/web-0",
      state: "closed",
      error: "waits for policy shop/web",
      since: "2025-01-01T00:00:00Z",
      attempts: 0,
    },
  ],
};

function daemon(body: string, urls: string[] = [], others = new Response("[]")) {
  return { fetch: async (url: string) => (urls.push(url), url.endsWith("/others") ? others : new Response(body)) };
}

test("all is well, for people", async () => {
  const urls: string[] = [];
  expect(await readStatus(daemon(JSON.stringify(STATUS), urls), { host: "::1", port: 9099 }, false)).toEqual({
    text: "datastore: in-sync\nendpoints: 2\nroutes: the kernel agrees\n",
    isWell: true,
  });
  expect(urls).toEqual(["http://[::1]:9099/status", "http://[::1]:9099/others"]);
});

test("what the kernel refuses is listed by its user's name, with how often it was tried", async () => {
  const body = JSON.stringify({ ...STATUS, drivers: [ROUTES, REFUSED] });
  const { text, isWell } = await readStatus(daemon(body), { host: "127.0.0.1", port: 9099 }, false);
  expect(isWell).toBe(false);
  expect(text).toContain(
    "nftables: 3 rows differ from the kernel\n" +
      "  policy shop/web failed since 2025-01-01T00:00:00Z (4 attempts): Cannot add set: ENOMEM\n" +
      "  pod shop/web-0 closed since 2025-01-01T00:00:00Z: waits for policy shop/web\n",
  );
  const json = await readStatus(daemon(body), { host: "127.0.0.1", port: 9099 }, true);
  expect(JSON.parse(json.text)).toEqual({ ...STATUS, drivers: [ROUTES, REFUSED], others: [] });
});

test("no daemon, or something else that answers, is an error that names the address", async () => {
  const deaf = { fetch: () => Promise.reject(new Error("ConnectionRefused")) };
  for (const sockets of [deaf, daemon("not found"), daemon("{}")])
    await expect(readStatus(sockets, { host: "127.0.0.1", port: 1 }, false)).rejects.toThrow(SocketError);
});

test("established flows that cannot be cut are no good state", async () => {
  const flows = { cut: 0, error: "Cannot list connections of this node: EPERM (operation not permitted)" };
  const address = { host: "127.0.0.1", port: 9099 };
  const broken = await readStatus(daemon(JSON.stringify({ ...STATUS, flows })), address, false);
  expect(broken.isWell).toBe(false);
  expect(broken.text).toContain("established flows: Cannot list connections of this node: EPERM");
  const well = await readStatus(daemon(JSON.stringify({ ...STATUS, flows: { cut: 3 } })), address, false);
  expect(well.isWell).toBe(true);
  expect(well.text).toContain("established flows: 3 cut because policy denies them");
  const kept = await readStatus(daemon(JSON.stringify({ ...STATUS, flows: "kept" })), address, false);
  expect(kept.text).toContain("established flows: kept");
});

test("what else drops packets is told, and does not make the state a bad one", async () => {
  const address = { host: "127.0.0.1", port: 9099 };
  const chain = "chain FORWARD of table ip filter (nft) drops what it does not accept, pods' packets too";
  const told = await readStatus(daemon(JSON.stringify(STATUS), [], Response.json([chain])), address, false);
  expect(told).toEqual({ text: expect.stringContaining(`\nothers: ${chain}\n`), isWell: true });
  const unread = Response.json({ error: "Cannot read chains" }, { status: 503 });
  const unknown = await readStatus(daemon(JSON.stringify(STATUS), [], unread), address, false);
  expect(unknown.text).toContain('others: not known: {"error":"Cannot read chains"}');
});
