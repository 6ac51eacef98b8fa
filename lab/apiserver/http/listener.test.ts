import { afterAll, beforeAll, expect, test } from "bun:test";
import { connect } from "node:tls";
import { TestServer } from "../test-client.ts";

const server = new TestServer();
beforeAll(() => server.start());
afterAll(() => server.close());

/** The status line with which the server answers these bytes, or "" when it just ends the connection. */
function answerTo(bytes: string): Promise<string> {
  const { port } = new URL(server.running.urls[0] ?? "");
  return new Promise((resolve) => {
    let said = "";
    const socket = connect(
      { host: "127.0.0.1", port: Number(port), ca: server.running.authority, servername: "localhost" },
      () => socket.write(bytes, "latin1"),
    );
    const end = (): void => {
      socket.destroy();
      resolve(said.split("\r\n")[0] ?? "");
    };
    socket.on("data", (chunk) => {
      said += chunk.toString("latin1");
      if (said.includes("\r\n\r\n")) end();
    });
    socket.once("close", end).once("error", end);
  });
}

test.each([
  ["a Host that is no host", "GET /version HTTP/1.1\r\nHost: a b\r\n\r\n", /200/],
  ["a Host with half an address", "GET /version HTTP/1.1\r\nHost: [::\r\n\r\n", /200/],
  ["a path that looks like a host", "GET //[ HTTP/1.1\r\nHost: x\r\n\r\n", /40[034]/],
  ["a target of proxies", "GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n", /400|^$/],
  ["a method of proxies", "TRACE /version HTTP/1.1\r\nHost: x\r\n\r\n", /40[05]|^$/],
  ["an escape that is none", "GET /api/v1/namespaces/%zz HTTP/1.1\r\nHost: x\r\n\r\n", /40[034]/],
  ["no HTTP", "garbage\r\n\r\n", /400|^$/],
] as const)("%s harms its own connection alone", async (_, bytes, wanted) => {
  expect(await answerTo(bytes)).toMatch(wanted);
  expect((await server.call("GET", "/version", undefined, { token: null })).status).toBe(200);
});

test("a client that disconnects in the middle of its body, or of a watch, does not affect others", async () => {
  const { port } = new URL(server.running.urls[0] ?? "");
  for (const bytes of [
    "POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc",
    `GET /api/v1/pods?watch=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${server.running.adminToken}\r\n\r\n`,
  ]) {
    await new Promise<void>((resolve) => {
      const socket = connect(
        { host: "127.0.0.1", port: Number(port), ca: server.running.authority, servername: "localhost" },
        () => socket.write(bytes, () => socket.destroy()),
      );
      socket.once("close", () => resolve());
    });
    expect((await server.call("GET", "/version", undefined, { token: null })).status).toBe(200);
  }
});
