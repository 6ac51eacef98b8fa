/** `calico lab` and `calico apiserver`: what becomes of the executable calico where calico-lab lies beside it, and where it does not. */
import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { resolve } from "node:path";

const CALICO = resolve(import.meta.dir, "../../bin/calico");
/** Tells all that it was given and who it is, and has an exit code of its own. */
const STAND_IN = `#!/bin/sh
printf 'pid %s\\n' "$$"
printf 'argument %s\\n' "$@"
printf 'input %s\\n' "$(cat)"
printf 'VALUE %s\\n' "$VALUE" >&2
exit 7
`;

let directory = "";
beforeEach(() => {
  directory = realpathSync(mkdtempSync(`${tmpdir()}/calico-lab-`));
  copyFileSync(CALICO, `${directory}/calico`);
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

function putStandIn(): void {
  writeFileSync(`${directory}/calico-lab`, STAND_IN);
  chmodSync(`${directory}/calico-lab`, 0o755);
}

interface Ended {
  readonly pid: number;
  readonly code: number;
  readonly out: string;
  readonly error: string;
}

async function run(command: readonly string[]): Promise<Ended> {
  const child = Bun.spawn([...command], {
    stdin: new TextEncoder().encode("typed"),
    stdout: "pipe",
    stderr: "pipe",
    env: { PATH: process.env["PATH"] ?? "", VALUE: "inherited" },
  });
  const [out, error, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { pid: child.pid, code, out, error };
}

test.each([
  [
    ["lab", "exec", "a/b", "--", "two words", ""],
    ["exec", "a/b", "--", "two words", ""],
  ],
  [
    ["apiserver", "--data-dir", "d"],
    ["apiserver", "--data-dir", "d"],
  ],
  [
    ["help", "lab", "up"],
    ["up", "--help"],
  ],
] as const)(
  "calico %j becomes calico-lab %j: the same process, streams, environment and exit code",
  async (given, passed) => {
    putStandIn();
    const { pid, code, out, error } = await run([`${directory}/calico`, ...given]);
    expect(out).toBe([`pid ${pid}`, ...passed.map((word) => `argument ${word}`), "input typed", ""].join("\n"));
    expect([error, code]).toEqual(["VALUE inherited\n", 7]);
  },
);

test("calico-lab is looked for beside the real executable, not beside a link to it", async () => {
  putStandIn();
  mkdirSync(`${directory}/links`);
  symlinkSync(`${directory}/calico`, `${directory}/links/calico`);
  expect((await run([`${directory}/links/calico`, "lab", "status"])).code).toBe(7);
});

test.each(["lab", "apiserver"])("calico %s without it reports what to install", async (command) => {
  const { code, out, error } = await run([`${directory}/calico`, command, "up"]);
  expect([code, out, error]).toEqual([
    1,
    "",
    `calico ${command}: cannot run ${directory}/calico-lab: ENOENT; the lab is an executable of its own: install calico-lab, of the same build, beside calico\n`,
  ]);
});

test("a file that cannot be executed is no calico-lab", async () => {
  writeFileSync(`${directory}/calico-lab`, STAND_IN);
  const { code, error } = await run([`${directory}/calico`, "lab", "up"]);
  expect([code, error]).toEqual([
    1,
    `calico lab: cannot run ${directory}/calico-lab: EACCES; the lab is an executable of its own: install calico-lab, of the same build, beside calico\n`,
  ]);
});

test("calico-lab without calico beside it names what is missing and makes nothing", async () => {
  rmSync(`${directory}/calico`);
  copyFileSync(`${CALICO}-lab`, `${directory}/calico-lab`);
  const { code, error } = await run([`${directory}/calico-lab`, "up", "--name", "without-calico"]);
  const { out: left } = await run([`${CALICO}-lab`, "down", "--name", "without-calico"]);
  expect([code, error]).toEqual([
    1,
    `calico-lab up: there is no ${directory}/calico: the lab's nodes run the executable calico; put the one of the same build beside calico-lab ("make build" makes both)\n`,
  ]);
  expect(left).toBe("there is no lab without-calico\n");
});
