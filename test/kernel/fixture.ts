/** fixture: network namespaces of one test, with names that no other run has, removed whatever happens. */
import { openSys } from "../../src/host/bun/sys.ts";
import type { Sys } from "../../src/host/sys.ts";
import { canOwnTables } from "../../src/kernel/nftables/client.ts";
import { withNamespace } from "../../src/kernel/netns.ts";

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

/** Makes one namespace (with its loopback up) for each name and removes them afterwards. */
export function withNamespaces<const N extends readonly string[]>(
  names: N,
  run: (...namespaces: { [I in keyof N]: Namespace }) => void,
): void {
  const made: Namespace[] = [];
  try {
    for (const name of names) made.push(makeNamespace(name));
    // The mapped tuple has exactly one namespace for each name.
    run(...(made as unknown as { [I in keyof N]: Namespace }));
  } finally {
    for (const namespace of made) removeNamespace(namespace);
  }
}

/** The caller removes it. */
export function makeNamespace(purpose: string): Namespace {
  const name = `calico-test-${purpose}-${process.pid}-${Math.random().toString(36).slice(2, 8)}`;
  execute(["ip", "netns", "add", name]);
  const path = `/var/run/netns/${name}`;
  execute(["ip", "-n", name, "link", "set", "lo", "up"]);
  return {
    name,
    path,
    enter: (run) => withNamespace(sys, path, run),
    run: (command, input) => execute(["ip", "netns", "exec", name, ...command], input),
  };
}

export function removeNamespace({ name }: Namespace): void {
  execute(["ip", "netns", "delete", name]);
}

/** Whether the kernel of this machine lets a socket own a table that stays when it closes. */
export function kernelOwnsTables(): boolean {
  let owns = false;
  withNamespaces(["probe"], (namespace) => (owns = namespace.enter(() => canOwnTables(sys))));
  return owns;
}
