/** The objects in bpf/ are what their sources give. Only the compiler that made them makes the same bytes. */
import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseElf } from "../../src/kernel/bpf/elf.ts";
import { unwrap } from "../../src/lib/result.ts";

/** The last helper of Linux 5.10, bpf_redirect_peer. */
const LAST_HELPER = 155;
const CALL = 0x85;
/** Atomic operations but plain addition came with Linux 5.12. */
const ATOMICS: ReadonlySet<number> = new Set([0xc3, 0xdb]);

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

test("path.o asks for no more than Linux 5.10 has", () => {
  const { sections } = unwrap(parseElf(new Uint8Array(readFileSync(join(BPF, "path.o")))));
  const helpers = new Set<number>();
  for (const { isExecutable, bytes } of sections) {
    if (!isExecutable) continue;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = 0; at < bytes.length; at += 8) {
      const [code, source, constant] = [view.getUint8(at), view.getUint8(at + 1) >> 4, view.getInt32(at + 4, true)];
      if (code === CALL && source === 0) helpers.add(constant);
      if (ATOMICS.has(code)) expect(constant).toBe(0);
    }
  }
  expect(helpers.size).toBeGreaterThan(3);
  expect([...helpers].filter((helper) => helper > LAST_HELPER)).toEqual([]);
});
