/** The `loopback` plugin as `calico cni install` puts it in place, spoken to by hand: it needs no daemon, so there is none. And what install does to one that is there. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { CALICO, execute } from "./fixture.ts";

const work = mkdtempSync(`${tmpdir()}/calico-loopback-`);
const bin = `${work}/bin`;
const prefix = `calico-lo-${process.pid}`;
const made: string[] = [];

beforeAll(async () => {
  await install(bin);
});

afterAll(async () => {
  for (const name of made) await execute(["ip", "netns", "del", name]);
  rmSync(work, { recursive: true });
});

async function install(folder: string, program = CALICO): Promise<string> {
  const { exitCode, stdout } = await execute([
    program,
    "cni",
    "install",
    "--bin-dir",
    folder,
    "--conf-dir",
    `${work}/net.d`,
  ]);
  expect(exitCode).toBe(0);
  return stdout;
}

/** A new namespace, whose `lo` is down. */
async function netns(name: string): Promise<string> {
  const full = `${prefix}-${name}`;
  await execute(["ip", "netns", "add", full]);
  made.push(full);
  return `/run/netns/${full}`;
}

interface Answer {
  readonly exitCode: number;
  readonly answer: Readonly<Record<string, unknown>>;
}

async function loopback(command: string, path: string, config: object = {}): Promise<Answer> {
  const { exitCode, stdout } = await execute([`${bin}/loopback`], {
    input: JSON.stringify({ cniVersion: "1.1.0", name: "cni-loopback", type: "loopback", ...config }),
    env: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: "some",
      CNI_NETNS: path,
      CNI_IFNAME: "lo",
      CNI_PATH: bin,
      CNI_ARGS: "IgnoreUnknown=1;K8S_POD_NAME=some",
    },
  });
  return { exitCode, answer: stdout === "" ? {} : (JSON.parse(stdout) as Answer["answer"]) };
}

const inside = (path: string, ...command: readonly string[]): Promise<{ exitCode: number; stdout: string }> =>
  execute(["nsenter", `--net=${path}`, "--", ...command]);

async function isUp(path: string): Promise<boolean> {
  return (await inside(path, "ip", "-o", "link", "show", "dev", "lo", "up")).stdout !== "";
}

const SUCCESS = { exitCode: 0, answer: {} };

describe("loopback", () => {
  test("ADD gives the namespace working addresses 127.0.0.1 and ::1, and returns them", async () => {
    const path = await netns("add");
    expect((await inside(path, "ping", "-c", "1", "-W", "1", "127.0.0.1")).exitCode).not.toBe(0);
    const added = await loopback("ADD", path);
    expect(added).toEqual({
      exitCode: 0,
      answer: {
        cniVersion: "1.1.0",
        interfaces: [{ name: "lo", mac: "00:00:00:00:00:00", sandbox: path }],
        ips: [
          { address: "127.0.0.1/8", interface: 0 },
          { address: "::1/128", interface: 0 },
        ],
        routes: [],
        dns: {},
      },
    });
    for (const address of ["127.0.0.1", "::1"])
      expect((await inside(path, "ping", "-c", "1", "-W", "1", address)).exitCode).toBe(0);
    expect(await loopback("ADD", path)).toEqual(added);
  });

  test("ADD answers in the format of the version that containerd uses for it", async () => {
    const { answer } = await loopback("ADD", await netns("old"), { cniVersion: "0.3.1" });
    expect(answer).toMatchObject({
      cniVersion: "0.3.1",
      ips: [
        { version: "4", address: "127.0.0.1/8" },
        { version: "6", address: "::1/128" },
      ],
    });
  });

  test("ADD promises no ::1 where IPv6 is switched off", async () => {
    const path = await netns("four");
    await inside(path, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/lo/disable_ipv6");
    expect((await loopback("ADD", path)).answer["ips"]).toEqual([{ address: "127.0.0.1/8", interface: 0 }]);
  });

  test("ADD returns only the addresses of lo, however many others there are", async () => {
    const path = await netns("many");
    await inside(path, "ip", "link", "add", "other", "type", "veth", "peer", "name", "peer");
    const others = Array.from(
      { length: 200 },
      (_, i) => `address add fd00:77::${(i + 1).toString(16)}/128 dev other nodad`,
    ).join("\n");
    await execute(["nsenter", `--net=${path}`, "--", "ip", "-batch", "-"], {
      input: `link set other up\nlink set peer up\naddress add 10.77.0.1/24 dev other\n${others}\n`,
    });
    expect(
      (await inside(path, "ip", "-6", "-o", "address", "show", "dev", "other")).stdout.split("\n").length,
    ).toBeGreaterThan(200);
    expect((await loopback("ADD", path)).answer["ips"]).toEqual([
      { address: "127.0.0.1/8", interface: 0 },
      { address: "::1/128", interface: 0 },
    ]);
  });

  test("later in a chain ADD passes on what the plugins before have made", async () => {
    const path = await netns("chain");
    const prevResult = {
      cniVersion: "1.1.0",
      interfaces: [{ name: "eth0", sandbox: path }],
      ips: [{ address: "10.65.0.1/32", interface: 0 }],
      dns: { nameservers: ["10.96.0.10"] },
    };
    expect(await loopback("ADD", path, { prevResult })).toEqual({ exitCode: 0, answer: prevResult });
    expect(await isUp(path)).toBe(true);
  });

  test("CHECK sees whether lo is up; DEL sets it down, as often as it is asked", async () => {
    const path = await netns("check");
    const down = {
      exitCode: 1,
      answer: {
        cniVersion: "1.1.0",
        code: 100,
        msg: `interface lo in network namespace "${path}" is down, must be up`,
      },
    };
    expect(await loopback("CHECK", path)).toEqual(down);
    const { answer } = await loopback("ADD", path);
    expect(await loopback("CHECK", path, { prevResult: answer })).toEqual(SUCCESS);
    for (let i = 0; i < 2; i++) expect(await loopback("DEL", path, { prevResult: answer })).toEqual(SUCCESS);
    expect(await isUp(path)).toBe(false);
    expect(await loopback("CHECK", path)).toEqual(down);
  });

  test("DEL succeeds without a namespace, and when its path is gone or an empty file; ADD names the path", async () => {
    const file = `${work}/unmounted`;
    writeFileSync(file, "");
    for (const path of ["", "/run/netns/does-not-exist", file]) expect(await loopback("DEL", path)).toEqual(SUCCESS);
    const added = await loopback("ADD", "/run/netns/does-not-exist");
    expect(added.answer).toMatchObject({
      code: 101,
      msg: 'ADD of interface lo in network namespace "/run/netns/does-not-exist" failed',
      details: 'Cannot open network namespace "/run/netns/does-not-exist": ENOENT (no such file or directory)',
    });
    expect((await loopback("ADD", "")).answer).toMatchObject({
      code: 4,
      msg: "environment variable CNI_NETNS is missing, ADD needs it",
    });
  });

  test("STATUS, GC and VERSION answer; another version is refused with code 1", async () => {
    expect(await loopback("STATUS", "")).toEqual(SUCCESS);
    expect(await loopback("GC", "", { "cni.dev/valid-attachments": [] })).toEqual(SUCCESS);
    expect((await loopback("VERSION", "")).answer).toEqual({
      cniVersion: "1.1.0",
      supportedVersions: ["0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    });
    expect((await loopback("ADD", await netns("version"), { cniVersion: "0.2.0" })).answer).toMatchObject({ code: 1 });
  });
});

/** The last two are Debian's. */
const INSTALLED = ["bandwidth", "calico", "calico-ipam", "loopback", "portmap"];

describe("calico cni install", () => {
  test("reports what it did, is idempotent, and leaves nothing else", async () => {
    expect(await install(bin)).toStartWith(
      `installed calico, calico-ipam and loopback in ${bin}, network configuration`,
    );
    expect(readdirSync(bin).sort()).toEqual(INSTALLED);
  });

  test("keeps another loopback, and reports it", async () => {
    const folder = `${work}/other`;
    mkdirSync(folder);
    writeFileSync(`${folder}/loopback`, "the reference plugin", { mode: 0o755 });
    for (let i = 0; i < 2; i++)
      expect(await install(folder)).toStartWith(
        `installed calico and calico-ipam in ${folder}, kept the loopback that is there, network`,
      );
    expect(readFileSync(`${folder}/loopback`, "utf8")).toBe("the reference plugin");
    expect(readdirSync(folder).sort()).toEqual(INSTALLED);
  });

  test("reports errors on standard error, in one line, with the exit code of their kind", async () => {
    const file = `${work}/in-the-way`;
    writeFileSync(file, "");
    for (const [flags, code, words] of [
      [["--mtu", "x"], 2, '--mtu is "x", must be an integer from 0 to 65535'],
      [["--cni-version", "9"], 2, '--cni-version is "9", must be one of'],
      [["--bin-dir", `${file}/bin`], 1, `Cannot make directory "${file}/bin": ENOTDIR`],
      [["--bin-dir", "/proc/sys"], 1, "/proc/sys/.loopback.new"],
    ] as const) {
      const { exitCode, stdout, stderr } = await execute([
        CALICO,
        "cni",
        "install",
        "--conf-dir",
        `${work}/net.d`,
        "--bin-dir",
        `${work}/wrong`,
        ...flags,
      ]);
      expect([exitCode, stdout]).toEqual([code, ""]);
      expect(stderr).toMatch(/^calico cni install: [^\n]*\n(Run "calico cni install --help" for help\.\n)?$/);
      expect(stderr).toContain(words);
    }
  });

  test("replaces what another version of itself left", async () => {
    const folder = `${work}/upgrade`;
    mkdirSync(folder);
    for (const name of ["calico", "calico-ipam", "loopback"])
      writeFileSync(`${folder}/${name}`, "an earlier version", { mode: 0o755 });
    expect(await install(folder)).toStartWith("installed calico, calico-ipam and loopback");
    expect(statSync(`${folder}/loopback`).size).toBe(statSync(CALICO).size);
  });

  test("works where hard links cannot reach: copies, known again as its own", async () => {
    const elsewhere = mkdtempSync("/dev/shm/calico-loopback-");
    try {
      copyFileSync(CALICO, `${elsewhere}/program`);
      const folder = `${work}/copies`;
      for (let i = 0; i < 2; i++)
        expect(await install(folder, `${elsewhere}/program`)).toStartWith("installed calico, calico-ipam and loopback");
      expect(readdirSync(folder).sort()).toEqual(INSTALLED);
    } finally {
      rmSync(elsewhere, { recursive: true });
    }
  });
});
