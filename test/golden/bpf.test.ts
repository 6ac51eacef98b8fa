/** The objects in bpf/ are what their sources give. Only the compiler that made them makes the same bytes. */
import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const BPF = new URL("../../bpf/", import.meta.url).pathname;
const COMPILER = "clang version 14.";

function compilerVersion(): string {
  for (const name of ["clang-14", "clang"]) {
    const path = Bun.which(name);
    if (path !== null) return Bun.spawnSync([path, "--version"]).stdout.toString().split("\n")[0] ?? "";
  }
  return "no clang";
}

const version = compilerVersion();
const isPossible = version.includes(COMPILER) && Bun.which("bash") !== null;

test.skipIf(!isPossible)(
  `path.o is what its sources give${isPossible ? "" : `: needs ${COMPILER}x, here is ${version}`}`,
  () => {
    const to = mkdtempSync(join(tmpdir(), "calico-test-bpf-"));
    try {
      const built = Bun.spawnSync([join(BPF, "build"), to]);
      expect(built.stderr.toString()).toBe("");
      expect(readFileSync(join(to, "path.o")).equals(readFileSync(join(BPF, "path.o")))).toBe(true);
    } finally {
      rmSync(to, { recursive: true });
    }
  },
);
