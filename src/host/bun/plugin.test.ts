import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { SocketError } from "../sockets.ts";
import { openPluginHost } from "./plugin.ts";

const directory = mkdtempSync("/tmp/plugin-host-");
process.on("exit", () => rmSync(directory, { recursive: true }));

/** Answers in a process of its own: an exchange holds the thread. */
async function serving(answer: string): Promise<{ readonly path: string; readonly stop: () => void }> {
  const path = `${directory}/${crypto.randomUUID()}`;
  const script = `
    const got = new Map();
    Bun.listen({ unix: process.argv[1], socket: { data(s, bytes) {
      const text = (got.get(s) ?? "") + bytes.toString();
      got.set(s, text);
      if (text.endsWith("\\n")) { s.write(process.argv[2].replace("LENGTH", String(text.length))); s.end(); }
    } } });
    console.log("ready");`;
  const child = Bun.spawn([process.execPath, "-e", script, path, answer], { stdout: "pipe" });
  await child.stdout.getReader().read();
  return { path, stop: () => child.kill() };
}

test("an exchange sends all of a long request and reads the line that answers it", async () => {
  const { path, stop } = await serving('{"ü":"LENGTH"}\n');
  const host = openPluginHost();
  const request = `${"x".repeat(900_000)}\n`;
  expect(host.exchange(path, request)).toBe(`{"ü":"${request.length}"}\n`);
  stop();
});

test("a listener that closes without an answer has answered nothing", async () => {
  const { path, stop } = await serving("");
  expect(openPluginHost().exchange(path, "{}\n")).toBe("");
  stop();
});

test("whoever does not listen is named, with the reason", () => {
  const host = openPluginHost();
  const failure = (path: string): unknown => {
    try {
      return host.exchange(path, "{}\n");
    } catch (error) {
      return error instanceof SocketError ? error.code : error;
    }
  };
  expect(failure(`${directory}/nobody`)).toBe("ENOENT");
  expect(failure(`/${"x".repeat(200)}`)).toBe("ENAMETOOLONG");
});
