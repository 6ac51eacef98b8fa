/** sysctls: what a kubelet changes on the whole machine, kept before and put back after. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";

/** Source: kubernetes pkg/kubelet/cm/container_manager_linux.go, setupKernelTunables. */
const CHANGED = [
  "vm/overcommit_memory",
  "vm/panic_on_oom",
  "kernel/panic",
  "kernel/panic_on_oops",
  "kernel/keys/root_maxkeys",
  "kernel/keys/root_maxbytes",
];

/** Writes their values into a file; another running cluster's kept values are the machine's, so they come first. */
export function keepSysctls(file: string, others: readonly string[]): void {
  if (existsSync(file)) return;
  const kept = others.find((other) => existsSync(other));
  const text =
    kept === undefined
      ? JSON.stringify(
          Object.fromEntries(CHANGED.map((name) => [name, readFileSync(`/proc/sys/${name}`, "utf8").trim()])),
        )
      : readFileSync(kept, "utf8");
  writeFileSync(file, text);
}

/** Puts the kept values back; nothing to do when nothing was kept. */
export function restoreSysctls(file: string): void {
  if (!existsSync(file)) return;
  const kept: unknown = JSON.parse(readFileSync(file, "utf8"));
  if (typeof kept !== "object" || kept === null) return;
  for (const [name, value] of Object.entries(kept)) writeFileSync(`/proc/sys/${name}`, String(value));
}
