import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { connect } from "node:tls";
import { unwrap } from "../../src/lib/result.ts";
import { parseListenAddress } from "./listen.ts";
import { runApiServer } from "./server.ts";

const directory = mkdtempSync(`${tmpdir()}/apiserver-renewal-`);
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function servingSerial(url: string, ca: string): Promise<string> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = connect(
      { host: hostname.replace(/[[\]]/g, ""), port: Number(port), ca, servername: "localhost" },
      () => {
        resolve(socket.getPeerCertificate().serialNumber);
        socket.end();
      },
    );
    socket.once("error", reject);
  });
}

test.each(["127.0.0.1:0", "[::1]:0"])(
  "a server on %s that runs for a year shows a new certificate, and nobody is cut off",
  async (address) => {
    let days = 0;
    const data = `${directory}/${address}`;
    const server = await runApiServer({
      dataDirectory: data,
      listen: [unwrap(parseListenAddress(address))],
      nowMs: () => Date.now() + days * 86_400_000,
    });
    const url = server.urls[0] ?? "";
    const ask = (path: string): Promise<Response> =>
      fetch(url + path, { headers: { authorization: `Bearer ${server.adminToken}` }, tls: { ca: server.authority } });
    try {
      const before = await servingSerial(url, server.authority);
      const watch = (await ask("/api/v1/namespaces/default/configmaps?watch=1&resourceVersion=0")).body?.getReader();
      await server.renew();
      expect(await servingSerial(url, server.authority)).toBe(before);
      days = 300;
      await server.renew();
      expect(await servingSerial(url, server.authority)).not.toBe(before);
      const made = await fetch(`${url}/api/v1/namespaces/default/configmaps`, {
        method: "POST",
        headers: { authorization: `Bearer ${server.adminToken}`, "content-type": "application/json" },
        body: JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "later" } }),
        tls: { ca: server.authority },
      });
      expect(made.status).toBe(201);
      let seen = "";
      while (!seen.includes('"later"')) {
        const chunk = await watch?.read();
        if (chunk === undefined || chunk.done) break;
        seen += new TextDecoder().decode(chunk.value);
      }
      expect(seen).toContain('"later"');
      await watch?.cancel();
    } finally {
      server.stop();
    }
  },
);

test("a failed renewal of certificates is retried, and the server keeps running", async () => {
  let days = 0;
  const data = `${directory}/broken`;
  const server = await runApiServer({
    dataDirectory: data,
    listen: [unwrap(parseListenAddress("127.0.0.1:0"))],
    nowMs: () => Date.now() + days * 86_400_000,
  });
  const url = server.urls[0] ?? "";
  try {
    const before = await servingSerial(url, server.authority);
    const key = await Bun.file(`${data}/pki/ca.key`).text();
    writeFileSync(`${data}/pki/ca.key`, "no key");
    days = 300;
    await expect(server.renew()).rejects.toThrow("Cannot make certificates");
    expect(await servingSerial(url, server.authority)).toBe(before);
    writeFileSync(`${data}/pki/ca.key`, key);
    await server.renew();
    expect(await servingSerial(url, server.authority)).not.toBe(before);
  } finally {
    server.stop();
  }
});
