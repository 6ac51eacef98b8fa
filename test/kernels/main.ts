/**
 * main: `make test-kernels`: boots Linux kernels out of packages, each in an emulated machine on this machine's files, and runs test files there.
 *
 * Usage: bun test/kernels/main.ts [--help]; the environment says what (`wanted.ts`).
 */
import { resolve } from "node:path";
import { type End, readEnd } from "./end.ts";
import { runMachine } from "./machine.ts";
import { cacheDirectory, fetchOwnPackage, type KernelFiles, unpackKernel } from "./packages.ts";
import { HELP, readWanted, type Wanted, whyUnable } from "./wanted.ts";

const ROOT = resolve(import.meta.dir, "../..");

function progress(line: string): void {
  console.log(`test-kernels: ${line}`);
}

/** What became of it in words, and whether all tests passed. */
async function runKernel(
  kernel: KernelFiles,
  { command, isTest }: Wanted,
): Promise<{ readonly text: string; readonly isGood: boolean }> {
  const begun = performance.now();
  let end: End | undefined;
  const exitCode = await runMachine({
    kernel,
    directory: ROOT,
    command,
    onLine: (line) => {
      end = readEnd(line) ?? end;
      console.log(line);
    },
  });
  const minutes = ((performance.now() - begun) / 60_000).toFixed(1);
  if (!isTest) return { text: `Linux ${kernel.release}: ${minutes} minutes`, isGood: true };
  const said =
    end === undefined
      ? `ended without a result (exit code of qemu: ${exitCode})`
      : `${end.passed} passed, ${end.failed} failed, ${end.skipped} skipped`;
  const text = `Linux ${kernel.release}: ${said}, ${minutes} minutes`;
  return { text, isGood: end !== undefined && end.failed === 0 && end.passed > 0 };
}

async function main(): Promise<number> {
  if (process.argv.includes("--help")) {
    console.log(HELP);
    return 0;
  }
  const why = whyUnable();
  if (why !== undefined) throw new Error(why);
  const wanted = readWanted(process.env);
  const cache = cacheDirectory();
  const files = wanted.kernels.length > 0 ? wanted.kernels : [fetchOwnPackage(cache, progress)];
  const results = [];
  for (const file of files) {
    const kernel = unpackKernel(file, cache, progress);
    progress(`booting Linux ${kernel.release}`);
    results.push(await runKernel(kernel, wanted));
  }
  for (const { text } of results) progress(text);
  return results.every(({ isGood }) => isGood) ? 0 : 1;
}

try {
  process.exit(await main());
} catch (error) {
  // Of what the machine or the user gave: the message says it all.
  console.error(`test-kernels: ${error instanceof Error ? error.message : String(error)}`);
  process.exit(2);
}
