/**
 * runtime: settings of the JavaScript engine for a process that lives long. It reads them from its environment when it starts, so a process
 * that was started without them executes its program once more.
 */
import { readFileSync } from "node:fs";
import { dlopen } from "bun:ffi";
import { Arena, LIBC } from "./foreign.ts";

/**
 * The engine sizes the heap by the machine's memory: on a large one it lets garbage grow to several times of what is in use. With 512 MB as
 * the measure that is at most as much again, and a quarter for heaps beyond 256 MB. A heap is collected when it has grown by 64 MB at the
 * earliest: the thread that reads lists keeps little and makes much garbage, which at the engine's 32 MB is collected twice as often. The
 * optimising compiler of the last tier costs more CPU at a start than the start itself gains: only what stays hot is worth it.
 */
const SETTINGS: Readonly<Record<string, string>> = {
  BUN_JSC_forceRAMSize: String(512 * 2 ** 20),
  BUN_JSC_largeHeapSize: String(64 * 2 ** 20),
  BUN_JSC_thresholdForFTLOptimizeAfterWarmUp: "1000000",
};

/** Returns only when the settings are in force, or cannot be: then the process is as well without them. */
export function applyRuntimeSettings(environment: Readonly<Record<string, string | undefined>>): void {
  // A setting that somebody else made counts as well.
  const missing = Object.entries(SETTINGS).filter(([name]) => environment[name] === undefined);
  if (missing.length === 0) return;
  const variables = { ...environment, ...Object.fromEntries(missing) };
  execute(
    readFileSync("/proc/self/cmdline", "utf8").split("\0").slice(0, -1),
    Object.entries(variables).flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`])),
  );
}

/** execve(2): the same process and identity goes on as a new run of its program. Returns if the kernel refuses. */
function execute(args: readonly string[], environment: readonly string[]): void {
  const texts = [process.execPath, ...args, ...environment].map((text) => new TextEncoder().encode(`${text}\0`));
  const words = args.length + environment.length + 2;
  const arena = new Arena(texts.reduce((sum, { length }) => sum + length + 8, words * 8));
  const [path = 0, ...rest] = texts.map((text) => arena.addressOf(arena.put(text)));
  const vector = (addresses: readonly number[]): number => {
    const at = arena.reserve((addresses.length + 1) * 8);
    [...addresses, 0].forEach((address, i) => arena.view.setBigUint64(at + i * 8, BigInt(address), true));
    return arena.addressOf(at);
  };
  const [argv, envp] = [vector(rest.slice(0, args.length)), vector(rest.slice(args.length))];
  dlopen(LIBC, { execve: { args: ["usize", "usize", "usize"], returns: "i32" } }).symbols.execve(path, argv, envp);
}
