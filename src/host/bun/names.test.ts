/** Against a name server of its own: records in their order, no such name, and a server that says nothing. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createSocket } from "node:dgram";
import { NameError } from "../names.ts";
import { openServiceHosts } from "./names.ts";

const socket = createSocket("udp4");
let server = "";

const text = (name: string): Buffer =>
  Buffer.concat([
    ...name.split(".").map((part) => Buffer.from(`${String.fromCharCode(part.length)}${part}`)),
    Buffer.from([0]),
  ]);

function srv(priority: number, weight: number, port: number, host: string): Buffer {
  const data = Buffer.concat([Buffer.from([0, priority, 0, weight, port >> 8, port & 255]), text(host)]);
  // A pointer to the question's name; SRV, IN; one minute.
  return Buffer.concat([Buffer.from([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 60, 0, data.length]), data]);
}

beforeAll(async () => {
  socket.on("message", (query, { port, address }) => {
    const question = query.subarray(12);
    const [records, code] = question.includes("known")
      ? [[srv(20, 0, 2379, "c.example"), srv(10, 1, 2380, "b.example"), srv(10, 9, 2379, "a.example")], 0]
      : question.includes("broken")
        ? [[], 2]
        : [[], 3];
    const end = question.indexOf(0) + 5;
    const head = Buffer.from([query[0] ?? 0, query[1] ?? 0, 0x84, 0x80 | code, 0, 1, 0, records.length, 0, 0, 0, 0]);
    socket.send(Buffer.concat([head, question.subarray(0, end), ...records]), port, address);
  });
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  server = `127.0.0.1:${socket.address().port}`;
});
afterAll(() => void socket.close());

test("the hosts of a service, the most preferred first", async () => {
  expect(await openServiceHosts([server])("_etcd-client._tcp.known.example")).toEqual([
    { host: "a.example", port: 2379 },
    { host: "b.example", port: 2380 },
    { host: "c.example", port: 2379 },
  ]);
});

test("a name that is not there has none; a server that fails is an error", async () => {
  expect(await openServiceHosts([server])("_etcd-client._tcp.absent.example")).toEqual([]);
  const failed = openServiceHosts([server])("_etcd-client._tcp.broken.example");
  expect(await failed.catch((error: unknown) => error)).toBeInstanceOf(NameError);
}, 20_000);
