import { afterAll, expect, test } from "bun:test";
import { createServer, type Server, type Socket } from "node:net";
import { networkWords } from "../network-words.ts";
import { openSockets } from "./sockets.ts";

const sockets = openSockets();
const opened: Server[] = [];
afterAll(() => opened.forEach((server) => server.close()));

/** Starts a server that answers every connection with `answer`; returns its port. */
async function serve(answer: (socket: Socket) => void): Promise<number> {
  const server = createServer((socket) => void socket.on("error", () => undefined).once("data", () => answer(socket)));
  opened.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

async function words(url: string): Promise<string> {
  try {
    await (await sockets.fetch(url, {})).text();
    return "answered";
  } catch (error) {
    return networkWords(error);
  }
}

test.each(["127.0.0.1", "[::1]"])("no listener on %s", async (host) => {
  expect(await words(`https://${host}:1/`)).toBe("connection refused (ECONNREFUSED)");
});

test("the server closes before and in the middle of its answer", async () => {
  const closed = "the connection was closed before the answer was complete (ECONNRESET)";
  expect(await words(`http://127.0.0.1:${await serve((socket) => socket.destroy())}/`)).toBe(closed);
  const half = await serve((socket) => void socket.end("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"));
  expect(await words(`http://127.0.0.1:${half}/`)).toBe(closed);
});

test("the server does not speak TLS", async () => {
  const plain = await serve((socket) => void socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
  expect(await words(`https://127.0.0.1:${plain}/`)).toBe(
    "the TLS handshake failed: the server may not speak TLS on this port (EPROTO)",
  );
});

test("an unknown error keeps its message, without the runtime's advice", () => {
  const odd = Object.assign(
    new TypeError("ODD: it failed. For more information, pass `verbose: true` in the second argument to fetch()"),
    { code: "ODD" },
  );
  expect(networkWords(odd)).toBe("ODD: it failed.");
  expect(networkWords(Object.assign(new Error("it failed"), { code: "ODD" }))).toBe("it failed (ODD)");
  expect(networkWords(new Error("plain"))).toBe("plain");
});
