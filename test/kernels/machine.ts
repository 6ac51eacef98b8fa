/** machine: a kernel in a machine that qemu emulates, on this machine's files; its console, line by line. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeInitramfs, MOUNT_TAG } from "./initramfs.ts";
import type { KernelFiles } from "./packages.ts";

/** What a machine runs. */
export interface Job {
  readonly kernel: KernelFiles;
  /** Where the command runs, on the host and in the guest. */
  readonly directory: string;
  /** A line of bash. */
  readonly command: string;
  /** Each line of the console, as it comes. */
  readonly onLine: (line: string) => void;
}

// Without features whose emulation costs a quarter of all time.
const MACHINE =
  "-M q35 -cpu max,-erms,-fsrm,-la57,-smap,-smep,-pku -m 6G -display none -vga none -monitor none -serial stdio -nic none -no-reboot".split(
    " ",
  );

/**
 * The guest's clock counts instructions, one a nanosecond, and is never faster than the host's: no test needs other time-outs there, however slow the emulation
 * and however loaded the host. It does so for one processor: with two, the kernel waits for the second in vain.
 */
const CLOCK = ["-icount", "shift=0,sleep=on", "-smp", "1"];

/** Boots it and waits until it is off. Resolves to the exit code of the emulator. */
export async function runMachine({ kernel, directory, command, onLine }: Job): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "calico-kernel-"));
  try {
    const initramfs = join(folder, "initramfs");
    writeFileSync(initramfs, makeInitramfs(kernel, directory, command));
    const child = Bun.spawn(["nice", "-n", "10", "qemu-system-x86_64", ...argumentsOf(kernel, initramfs)], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "inherit",
    });
    const stop = (): void => child.kill();
    const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
    for (const signal of signals) process.once(signal, stop);
    await forLines(child.stdout, onLine);
    for (const signal of signals) process.off(signal, stop);
    return await child.exited;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function argumentsOf(kernel: KernelFiles, initramfs: string): readonly string[] {
  const places = ["-kernel", kernel.image, "-initrd", initramfs];
  const files = ["-virtfs", `local,path=/,mount_tag=${MOUNT_TAG},security_model=none,readonly=on,multidevs=remap`];
  return [...MACHINE, ...CLOCK, ...places, ...files, "-append", "console=ttyS0 quiet panic=1 mitigations=off"];
}

async function forLines(stream: ReadableStream<Uint8Array>, onLine: (line: string) => void): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) onLine(line.replaceAll("\r", ""));
  }
  if (rest !== "") onLine(rest);
}
