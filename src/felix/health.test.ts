import { expect, test } from "bun:test";
import { openSockets } from "../host/bun/sockets.ts";
import { type HealthSources, serveHealth } from "./health.ts";

test("liveness asks nothing of the node, so that it costs nothing and no part's trouble is its own", async () => {
  const asked: string[] = [];
  const sources = new Proxy({} as HealthSources, {
    get: (_, source) => {
      asked.push(String(source));
      throw new Error(`${String(source)} is in trouble`);
    },
  });
  const health = await serveHealth(openSockets(), { host: "127.0.0.1", port: 0 }, sources);
  try {
    const alive = await fetch(`http://127.0.0.1:${health.port}/liveness`);
    expect([alive.status, await alive.json()]).toEqual([200, { live: true }]);
    expect(asked).toEqual([]);
  } finally {
    await health.close();
  }
});
