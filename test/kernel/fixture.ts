/**
 * fixture: network namespaces of one test, with names that no other run has, removed whatever happens; on the machine's own kernel, and, for
 * tests that send no packets, on the fake one too: what both must answer is one test body.
 */
import { describe } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { openProcesses } from "../../src/host/bun/processes.ts";
import { openSys } from "../../src/host/bun/sys.ts";
import type { Finished, Processes } from "../../src/host/processes.ts";
import type { Sys } from "../../src/host/sys.ts";
import { FakeKernel } from "../../src/kernel/fake/kernel.ts";
import { canOwnTables } from "../../src/kernel/nftables/client.ts";
import { withNamespace } from "../../src/kernel/netns.ts";
import { RouteClient } from "../../src/kernel/route/client.ts";
import { runFake } from "./fake-commands.ts";

export interface Namespace {
  readonly name: string;
  readonly path: string;
  /** Runs synchronously in the namespace. */
  enter<T>(run: () => T extends PromiseLike<unknown> ? never : T): T;
  /** Runs a program in the namespace; standard output. Throws when it fails. */
  run(command: readonly string[], input?: string): string;
}

export const sys: Sys = openSys();

/** Runs a program; standard output. Throws with its standard error when it fails. */
export function execute(command: readonly string[], input = ""): string {
  const result = Bun.spawnSync([...command], { stdin: new TextEncoder().encode(input) });
  if (result.exitCode !== 0)
    throw new Error(
      `${command.join(" ")} failed with ${result.exitCode}: ${result.stderr.toString()}${result.stdout.toString()}`,
    );
  return result.stdout.toString();
}

/** A kernel on which a test runs. */
export interface Kernel {
  readonly name: "real" | "fake";
  readonly sys: Sys;
  /** The caller removes it. */
  makeNamespace(purpose: string): Namespace;
  removeNamespace(namespace: Namespace): void;
  withNamespaces: WithNamespaces;
}

type WithNamespaces = <const N extends readonly string[]>(
  names: N,
  run: (...namespaces: { [I in keyof N]: Namespace }) => void,
) => void;

/** Makes one namespace (with its loopback up) for each name and removes them afterwards. */
function withNamespacesOf(kernel: Pick<Kernel, "makeNamespace" | "removeNamespace">): WithNamespaces {
  return (names, run) => {
    const made: Namespace[] = [];
    try {
      for (const name of names) made.push(kernel.makeNamespace(name));
      // The mapped tuple has exactly one namespace for each name.
      run(...(made as unknown as { [I in keyof typeof names]: Namespace }));
    } finally {
      for (const namespace of made) kernel.removeNamespace(namespace);
    }
  };
}

const PREFIX = "calico-test-";
let isSwept = false;

/** Of runs that were killed: `PREFIX`, a purpose, their process, and a random part. */
function sweepOnce(): void {
  if (isSwept) return;
  isSwept = true;
  for (const name of existsSync(NAMESPACES) ? readdirSync(NAMESPACES) : []) {
    const pid = /-(\d+)-[a-z0-9]+$/.exec(name)?.[1];
    if (!name.startsWith(PREFIX) || pid === undefined || isRunning(Number(pid))) continue;
    // Another run may sweep too.
    Bun.spawnSync(["ip", "netns", "delete", name]);
  }
}

const NAMESPACES = "/run/netns";
/** In every namespace. */
const LOOPBACK_INDEX = 1;

export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** The caller removes it. */
export function makeNamespace(purpose: string): Namespace {
  sweepOnce();
  const name = `${PREFIX}${purpose}-${process.pid}-${Math.random().toString(36).slice(2, 8)}`;
  execute(["ip", "netns", "add", name]);
  const path = `/var/run/netns/${name}`;
  withNamespace(sys, path, () => {
    const routes = new RouteClient(sys);
    routes.setLinkUp(LOOPBACK_INDEX);
    routes.close();
  });
  return {
    name,
    path,
    enter: (run) => withNamespace(sys, path, run),
    run: (command, input) =>
      // What sysfs shows is of the namespace in which it was mounted; `ip` mounts it anew.
      command.some((word) => word.startsWith("/sys/"))
        ? execute(["ip", "netns", "exec", name, ...command], input)
        : withNamespace(sys, path, () => execute(command, input)),
  };
}

/** Programs that run in the namespace: this thread starts them while it is there, which costs half of what `ip netns exec` does. */
export function processesIn(namespace: Namespace): Processes {
  const own = openProcesses();
  return {
    run: (command, options) => {
      let running: Promise<Finished> | undefined;
      namespace.enter(() => void (running = own.run(command, options)));
      return running ?? Promise.reject(new Error("no program was started"));
    },
  };
}

export function removeNamespace({ name }: Namespace): void {
  execute(["ip", "netns", "delete", name]);
}

const real = { name: "real", sys, makeNamespace, removeNamespace } as const;
export const REAL: Kernel = { ...real, withNamespaces: withNamespacesOf(real) };
export const withNamespaces: WithNamespaces = REAL.withNamespaces;

function fakeKernel(): Kernel {
  const kernel = new FakeKernel();
  const { sys: own } = kernel.startProcess();
  let made = 0;
  const parts = {
    name: "fake" as const,
    sys: own,
    makeNamespace: (purpose: string): Namespace => {
      const name = `${purpose}-${++made}`;
      const path = `/var/run/netns/${name}`;
      const namespace = kernel.addNamespace(path);
      const enter: Namespace["enter"] = (run) => withNamespace(own, path, run);
      const run: Namespace["run"] = (command) => enter(() => runFake(own, namespace, command));
      run(["ip", "link", "set", "lo", "up"]);
      return { name, path, enter, run };
    },
    removeNamespace: ({ path }: Namespace): void => kernel.removeNamespace(path),
  };
  return { ...parts, withNamespaces: withNamespacesOf(parts) };
}

export const FAKE: Kernel = fakeKernel();

/** The tests once for each kernel: where they differ, the fake is wrong. */
export function onBothKernels(tests: (kernel: Kernel) => void): void {
  for (const kernel of [REAL, FAKE]) describe(`${kernel.name} kernel`, () => tests(kernel));
}

/** Whether the kernel of this machine lets a socket own a table that stays when it closes. */
export function kernelOwnsTables(kernel: Kernel = REAL): boolean {
  let owns = false;
  kernel.withNamespaces(["probe"], (namespace) => (owns = namespace.enter(() => canOwnTables(kernel.sys))));
  return owns;
}
