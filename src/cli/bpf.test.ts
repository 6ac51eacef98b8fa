/** How the maps of the eBPF path are asked for, in our words and in upstream's; a node without them is exit code 2. */
import { afterEach, beforeEach, expect, type Mock, spyOn, test } from "bun:test";
import { runNodeCommand } from "../felix/command.ts";
import { runCalicoctl } from "./calicoctl.ts";

const ROOT = "/no-such-root";
const NO_BPFFS = `no bpffs is mounted at ${ROOT}/sys/fs/bpf`;

let told: Mock<typeof console.error>;
let before: string | undefined;

beforeEach(() => {
  told = spyOn(console, "error").mockImplementation(() => {});
  before = process.env["CALICO_ROOT"];
  process.env["CALICO_ROOT"] = ROOT;
});
afterEach(() => {
  told.mockRestore();
  if (before === undefined) delete process.env["CALICO_ROOT"];
  else process.env["CALICO_ROOT"] = before;
});

for (const args of [
  ["--bpf", "conntrack"],
  ["--bpf", "sets", "-o", "json"],
  ["-bpf", "conntrack", "dump"],
  ["-bpf", "ipsets", "dump"],
  ["-bpf", "ifstate", "dump", "-o", "json"],
])
  test(`calico-node ${args.join(" ")}`, async () => {
    expect(await runNodeCommand(args, process.env)).toBe(2);
    expect(String(told.mock.calls[0])).toContain(NO_BPFFS);
  });

for (const args of [
  ["bpf", "policy"],
  ["bpf", "ipsets", "dump", "-o", "json"],
])
  test(`calicoctl ${args.join(" ")}`, async () => {
    expect(await runCalicoctl(args)).toBe(2);
    expect(String(told.mock.calls[0])).toContain(NO_BPFFS);
  });
