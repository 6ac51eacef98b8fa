import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Connection, SocketError } from "../sockets.ts";
import { openSockets } from "./sockets.ts";

const sockets = openSockets();
let directory = "";
beforeAll(() => {
  directory = mkdtempSync(`${tmpdir()}/calico-sockets-`);
});
afterAll(() => rmSync(directory, { recursive: true }));

async function readAll(connection: Connection): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of connection.input) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

test("a request and its answer over half-closed connections", async () => {
  const path = `${directory}/echo`;
  const listener = await sockets.listen(path, 0o600, async (connection) => {
    const question = await readAll(connection);
    await connection.write(bytes(`answer to ${new TextDecoder().decode(question)}`));
    connection.end();
  });
  expect(statSync(path).mode & 0o777).toBe(0o600);
  const answers = await Promise.all(
    ["one", "two", "three"].map(async (word) => {
      const connection = await sockets.connect(path);
      await connection.write(bytes(word));
      connection.end();
      return new TextDecoder().decode(await readAll(connection));
    }),
  );
  expect(answers).toEqual(["answer to one", "answer to two", "answer to three"]);
  await listener.close();
  expect(existsSync(path)).toBe(false);
});

test("a slow reader applies backpressure, and gets every byte in order", async () => {
  const path = `${directory}/slow`;
  const data = new Uint8Array(8 << 20).map((_, i) => i * 31);
  let release = (): void => undefined;
  const reading = new Promise<void>((resolve) => (release = resolve));
  let received: Uint8Array = new Uint8Array(0);
  let done = (): void => undefined;
  const served = new Promise<void>((resolve) => (done = resolve));
  const listener = await sockets.listen(path, 0o600, async (connection) => {
    await reading;
    received = await readAll(connection);
    done();
  });
  const connection = await sockets.connect(path);
  const writes = [
    connection.write(data.subarray(0, 5 << 20)),
    connection.write(data.subarray(5 << 20)),
    connection.write(new Uint8Array(0)),
  ];
  release();
  await Promise.all(writes);
  connection.end();
  await served;
  expect(Buffer.compare(received, data)).toBe(0);
  await listener.close();
});

test("writing to a peer that is gone is an error, not a hang", async () => {
  const path = `${directory}/gone`;
  const listener = await sockets.listen(path, 0o600, async (connection) => connection.end());
  const connection = await sockets.connect(path);
  await readAll(connection);
  await listener.close();
  const failed = async (): Promise<unknown> => {
    // The first writes may still find room in the kernel.
    for (let i = 0; i < 100; i++) await connection.write(new Uint8Array(1 << 16));
    return undefined;
  };
  const error: unknown = await failed().catch((caught: unknown) => caught);
  expect(error instanceof SocketError ? error.code : error).toBe("EPIPE");
});

test("no listener: connecting is refused; a stale socket file is replaced, one in use or a plain file is not", async () => {
  const path = `${directory}/stale`;
  await expect(sockets.connect(path)).rejects.toThrow(`Cannot connect to socket "${path}": ENOENT`);
  const child = Bun.spawnSync([
    process.execPath,
    "-e",
    `Bun.listen({ unix: ${JSON.stringify(path)}, socket: { data() {} } }); process.kill(process.pid, "SIGKILL")`,
  ]);
  expect(child.exitCode).not.toBe(0);
  expect(existsSync(path)).toBe(true);
  await expect(sockets.connect(path)).rejects.toThrow("ECONNREFUSED");
  const listener = await sockets.listen(path, 0o600, async () => undefined);
  await expect(sockets.listen(path, 0o600, async () => undefined)).rejects.toThrow(
    `Cannot listen on socket "${path}": EADDRINUSE`,
  );
  (await sockets.connect(path)).end();
  await listener.close();
  writeFileSync(`${directory}/file`, "precious");
  await expect(sockets.listen(`${directory}/file`, 0o600, async () => undefined)).rejects.toThrow(SocketError);
  expect(existsSync(`${directory}/file`)).toBe(true);
});

test("HTTP over TCP and over a unix socket", async () => {
  const handle = async (request: Request): Promise<Response> =>
    new Response(
      `${request.method} ${new URL(request.url).pathname} ${request.headers.get("x-test") ?? ""} ${await request.text()}`,
    );
  const tcp = await sockets.serve({ host: "127.0.0.1", port: 0 }, handle);
  const response = await sockets.fetch(`http://127.0.0.1:${tcp.port}/path`, {
    method: "POST",
    headers: { "x-test": "yes" },
    body: "content",
  });
  expect(await response.text()).toBe("POST /path yes content");
  await tcp.close();
  const unix = await sockets.serve({ path: `${directory}/http` }, handle);
  expect(unix.port).toBeUndefined();
  const answer = await fetch("http://localhost/here", { unix: `${directory}/http` });
  expect(await answer.text()).toBe("GET /here  ");
  await unix.close();
});

test("TLS: the server must be trusted unless verification is off; a client may authenticate", async () => {
  const make = (...command: string[]): void => {
    const made = Bun.spawnSync(["openssl", ...command], { cwd: directory });
    if (made.exitCode !== 0) throw new Error(made.stderr.toString());
  };
  make(
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-keyout",
    "key.pem",
    "-out",
    "cert.pem",
    "-days",
    "1",
    "-subj",
    "/CN=localhost",
    "-addext",
    "subjectAltName=IP:127.0.0.1",
  );
  const read = (name: string): Promise<string> => Bun.file(`${directory}/${name}`).text();
  const [key, cert] = [await read("key.pem"), await read("cert.pem")];
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    tls: { key, cert, ca: cert, requestCert: true, rejectUnauthorized: false },
    fetch: () => new Response("secret"),
  });
  const url = `https://127.0.0.1:${server.port}/`;
  expect(await (await sockets.fetch(url, { tls: { ca: cert } })).text()).toBe("secret");
  expect(await (await sockets.fetch(url, { tls: { ca: cert, cert, key } })).text()).toBe("secret");
  expect(await (await sockets.fetch(url, { tls: { insecure: true } })).text()).toBe("secret");
  await expect(sockets.fetch(url, {})).rejects.toThrow();
  await server.stop(true);
});

test("fetch ends when its signal aborts", async () => {
  const server = await sockets.serve({ host: "127.0.0.1", port: 0 }, () => new Promise<Response>(() => undefined));
  const controller = new AbortController();
  const pending = sockets.fetch(`http://127.0.0.1:${server.port}/`, { signal: controller.signal });
  controller.abort(new Error("enough"));
  await expect(pending).rejects.toThrow("enough");
  await server.close();
});
