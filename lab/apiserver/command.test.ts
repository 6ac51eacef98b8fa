import { afterAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { load } from "js-yaml";

const directory = mkdtempSync(join(tmpdir(), "apiserver-command-"));
const running = new Set<Bun.Subprocess>();
afterAll(async () => {
  for (const child of running) child.kill(9);
  rmSync(directory, { recursive: true, force: true });
});

const RUN = `const { runApiServerCommand } = await import(${JSON.stringify(new URL("./command.ts", import.meta.url).pathname)}); process.exitCode = await runApiServerCommand(process.argv.slice(1));`;

interface Started {
  readonly child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly urls: readonly string[];
}

async function start(...args: readonly string[]): Promise<Started> {
  const child = Bun.spawn([process.execPath, "-e", RUN, "--", "--data-dir", join(directory, "data"), ...args], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  running.add(child);
  const wanted = Math.max(1, args.filter((arg) => arg === "--listen").length);
  let text = "";
  for await (const chunk of child.stdout) {
    text += new TextDecoder().decode(chunk);
    if (text.split("Serving").length > wanted && text.endsWith("\n")) break;
  }
  return { child, urls: [...text.matchAll(/^Serving (\S+)$/gm)].map((match) => match[1] ?? "") };
}

interface Kubeconfig {
  readonly clusters: readonly [
    { readonly cluster: { readonly server: string; readonly "certificate-authority-data": string } },
  ];
  readonly users: readonly [{ readonly user: { readonly token: string } }];
}

function client(path: string): (method: string, path: string, body?: unknown) => Promise<Response> {
  const config = load(readFileSync(path, "utf8")) as Kubeconfig;
  const { cluster } = config.clusters[0];
  const ca = Buffer.from(cluster["certificate-authority-data"], "base64").toString();
  return (method, at, body) =>
    fetch(`${cluster.server}${at}`, {
      method,
      tls: { ca },
      headers: { Authorization: `Bearer ${config.users[0].user.token}`, "Content-Type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
}

test("what was acknowledged before kill -9 is there after it, under the same authority and token", async () => {
  const kubeconfig = join(directory, "kubeconfig");
  const first = await start("--listen", "127.0.0.1:0", "--kubeconfig-out", kubeconfig);
  expect(statSync(kubeconfig).mode & 0o777).toBe(0o600);
  const call = client(kubeconfig);
  const acknowledged = new Map<string, string>();
  const writers = [0, 1, 2, 3].map(async (writer) => {
    for (let i = 0; ; i++) {
      const name = `m-${writer}-${i}`;
      const response = await call("POST", "/api/v1/namespaces/default/configmaps", {
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { name },
      });
      const object = (await response.json()) as { metadata: { resourceVersion: string } };
      acknowledged.set(name, object.metadata.resourceVersion);
      if (acknowledged.size === 300) first.child.kill(9);
    }
  });
  await Promise.allSettled(writers);
  expect(acknowledged.size).toBeGreaterThanOrEqual(300);
  const port = new URL(first.urls[0] ?? "").port;
  const second = await start("--listen", `127.0.0.1:${port}`);
  const list = (await (await call("GET", "/api/v1/namespaces/default/configmaps")).json()) as {
    metadata: { resourceVersion: string };
    items: readonly { metadata: { name: string; resourceVersion: string } }[];
  };
  const found = new Map(list.items.map((item) => [item.metadata.name, item.metadata.resourceVersion]));
  expect([...acknowledged].filter(([name, version]) => found.get(name) !== version)).toEqual([]);
  expect(Number(list.metadata.resourceVersion)).toBeGreaterThanOrEqual(
    Math.max(...[...acknowledged.values()].map(Number)),
  );
  second.child.kill("SIGTERM");
  expect(await second.child.exited).toBe(0);
}, 30_000);

test("listens on several addresses, both families, and writes a kubeconfig for each", async () => {
  const paths = [0, 1].map((index) => join(directory, `kubeconfig-${index}`));
  const { child, urls } = await start(
    "--listen",
    "127.0.0.1:0",
    "--listen",
    "[::1]:0",
    ...paths.flatMap((path, index) => ["--kubeconfig-out", `${path}=${index}`]),
  );
  expect(urls).toHaveLength(2);
  for (const path of paths) expect((await client(path)("GET", "/api/v1/namespaces/default")).status).toBe(200);
  child.kill("SIGTERM");
  expect(await child.exited).toBe(0);
});

test("listens inside another network namespace, both families, and nowhere else", async () => {
  const name = `apitest-${process.pid}-${Math.random().toString(36).slice(2, 8)}`;
  const ip = (...args: readonly string[]): void => {
    const { exitCode, stderr } = Bun.spawnSync(["ip", ...args]);
    if (exitCode !== 0) throw new Error(`ip ${args.join(" ")}: ${stderr.toString()}`);
  };
  ip("netns", "add", name);
  try {
    ip("-n", name, "link", "set", "lo", "up");
    ip("-n", name, "addr", "add", "10.77.0.1/32", "dev", "lo");
    ip("-n", name, "addr", "add", "fd77::1/128", "dev", "lo", "nodad");
    const netns = `netns:/run/netns/${name}`;
    const { child, urls } = await start(
      "--listen",
      `${netns}@10.77.0.1:0`,
      "--listen",
      `${netns}@[fd77::1]:0`,
      "--listen",
      "127.0.0.1:0",
    );
    const get = (inside: boolean, url: string) =>
      Bun.spawn(
        [
          ...(inside ? ["nsenter", `--net=/run/netns/${name}`] : []),
          "curl",
          "-sk",
          "--max-time",
          "5",
          `${url}/healthz`,
        ],
        { stdout: "pipe" },
      );
    for (const url of urls.slice(0, 2)) expect(await new Response(get(true, url).stdout).text()).toBe("ok");
    expect(await get(false, urls[0] ?? "").exited).not.toBe(0);
    expect(await new Response(get(false, urls[2] ?? "").stdout).text()).toBe("ok");
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
  } finally {
    ip("netns", "del", name);
  }
}, 20_000);

test.each([
  [["--listen", "nowhere:1"], 'Cannot parse listen address "nowhere:1"', 2],
  [["--listen", "127.0.0.1:0", "--kubeconfig-out", "x=3"], "there is no listener 3, only 0 to 0", 2],
  [["--frob"], "calico-lab apiserver: unknown option '--frob'", 2],
  [["--listen", "netns:/does/not/exist@127.0.0.1:0"], "/does/not/exist", 1],
  [["--listen", "192.0.2.77:0"], "Cannot listen on 192.0.2.77 port 0: ", 1],
] as const)("%j is refused in words: %s, with code %d", async (args, words, code) => {
  const { child } = await start(...args);
  expect(await new Response(child.stderr).text()).toContain(words);
  expect(await child.exited).toBe(code);
  expect(existsSync("x")).toBeFalse();
});
