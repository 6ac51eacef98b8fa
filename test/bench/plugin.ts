/** plugin: a CNI plugin from exec to exit, in the network namespace where it belongs, which its start does not pay for. */
import { openSys } from "../../src/host/bun/sys.ts";
import { withNamespace } from "../../src/kernel/netns.ts";

const sys = openSys();

export interface PluginCall {
  readonly command: string;
  /** Path of the namespace that it is started in. */
  readonly netns: string;
  readonly config: object;
  /** CNI_COMMAND and the like. */
  readonly environment: Readonly<Record<string, string>>;
}

export interface PluginRun {
  readonly ms: number;
  readonly stdout: string;
}

function failure({ command, environment }: PluginCall, words: string): Error {
  return new Error(`${command} ${environment["CNI_COMMAND"]}: ${words}`);
}

/** One, while nobody else runs. Throws when it fails. */
export function runPlugin(call: PluginCall): PluginRun {
  return withNamespace(sys, call.netns, () => {
    const start = Bun.nanoseconds();
    const result = Bun.spawnSync([call.command], {
      stdin: Buffer.from(JSON.stringify(call.config)),
      stdout: "pipe",
      stderr: "pipe",
      env: { PATH: process.env["PATH"] ?? "", ...call.environment },
    });
    const ms = (Bun.nanoseconds() - start) / 1e6;
    const stdout = result.stdout.toString();
    if (result.exitCode !== 0) throw failure(call, stdout + result.stderr.toString());
    return { ms, stdout };
  });
}

/** All at once; how long each took since the first was started. Rejects when one fails. */
export async function runPlugins(calls: readonly PluginCall[]): Promise<readonly PluginRun[]> {
  const start = Bun.nanoseconds();
  const children = calls.map((call) => ({
    call,
    child: withNamespace(sys, call.netns, () => ({
      process: Bun.spawn([call.command], {
        stdin: Buffer.from(JSON.stringify(call.config)),
        stdout: "pipe",
        stderr: "pipe",
        env: { PATH: process.env["PATH"] ?? "", ...call.environment },
      }),
    })),
  }));
  return Promise.all(
    children.map(async ({ call, child: { process: child } }) => {
      const [stdout, stderr, exitCode] = await Promise.all([
        new Response(child.stdout).text(),
        new Response(child.stderr).text(),
        child.exited,
      ]);
      if (exitCode !== 0) throw failure(call, stdout + stderr);
      return { ms: (Bun.nanoseconds() - start) / 1e6, stdout };
    }),
  );
}
