/** What `make test-kernels` is asked for, and what it lacks. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { endOf, readEnd } from "./end.ts";
import { DEFAULT_TESTS, readWanted, whyUnable } from "./wanted.ts";

const all = (): boolean => true;

test("without anything given: the default tests, which exist, and few packets", () => {
  const { kernels, command } = readWanted({ HOME: "/root" });
  expect(kernels).toEqual([]);
  expect(command).toBe(
    `LAW_PACKETS=200 tools/bun/node_modules/.bin/bun test/kernels/guest.ts ${DEFAULT_TESTS.join(" ")}`,
  );
  expect(DEFAULT_TESTS.filter((file) => !existsSync(file))).toEqual([]);
});

test("what is given is what runs", () => {
  const given = { KERNELS: "/a.deb  b.deb", TESTS: "test/kernel/law.test.ts", LAW_PACKETS: "7", KILLED: "3" };
  expect(readWanted(given, all)).toEqual({
    kernels: ["/a.deb", "b.deb"],
    isTest: true,
    command: "LAW_PACKETS=7 KILLED=3 tools/bun/node_modules/.bin/bun test/kernels/guest.ts test/kernel/law.test.ts",
  });
  expect(readWanted({ RUN: "uname -a" }, all)).toEqual({ kernels: [], isTest: false, command: "uname -a" });
});

test("what is wrong is named with its value", () => {
  expect(() => readWanted({ KERNELS: "/none.deb" })).toThrow('KERNELS: there is no file "/none.deb"');
  expect(() => readWanted({ TESTS: "test/none.test.ts" })).toThrow('TESTS: there is no file "test/none.test.ts"');
  expect(() => readWanted({ LAW_SEED: "$(x)" }, all)).toThrow('LAW_SEED is "$(x)", and must be a number');
});

test("what the machine lacks is told with the packages that have it", () => {
  expect(whyUnable("x64", true, (name) => `/usr/bin/${name}`)).toBeUndefined();
  expect(whyUnable("x64", true, (name) => (/qemu|mod/.test(name) ? null : name))).toBe(
    "missing: qemu-system-x86_64, modprobe, depmod; install: apt-get install qemu-system-x86 kmod",
  );
  expect(whyUnable("arm64", true)).toContain("for arm64");
  expect(whyUnable("x64", false)).toContain("run as root");
});

test("the line that ends a run is read again, and no other", () => {
  const line = endOf({ passed: 3, skipped: 2, failures: ["a", "b"] });
  expect(readEnd(line)).toEqual({ passed: 3, failed: 2, skipped: 2 });
  expect(readEnd(`echo ${line}`)).toBeUndefined();
  expect(readEnd("3 passed, 2 failed, 2 skipped")).toBeUndefined();
});
