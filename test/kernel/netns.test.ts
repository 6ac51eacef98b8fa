import { readdirSync, readlinkSync } from "node:fs";
import { expect, test } from "bun:test";
import { KernelError } from "../../src/kernel/errno.ts";
import { withNamespace } from "../../src/kernel/netns.ts";
import { readSysctl, writeSysctl } from "../../src/kernel/sysctl.ts";
import { sys, withNamespaces } from "./fixture.ts";

const own = (): string => readlinkSync("/proc/thread-self/ns/net");

/** Open descriptors of network namespaces and of /dev/null, which stands for a file that is none; the runtime opens and closes others as it likes. */
function descriptors(): number {
  return readdirSync("/proc/self/fd").filter((fd) => {
    try {
      return /^(net:|\/dev\/null$)/.test(readlinkSync(`/proc/self/fd/${fd}`));
    } catch {
      return false;
    }
  }).length;
}

test("runs inside and comes back, also after an exception, and leaves no descriptor open", () => {
  withNamespaces(["ns"], (namespace) => {
    const before = own();
    const open = descriptors();
    const inside = withNamespace(sys, namespace.path, own);
    expect(inside).not.toBe(before);
    expect(own()).toBe(before);
    expect(() =>
      withNamespace(sys, namespace.path, (): number => {
        throw new Error("inside");
      }),
    ).toThrow("inside");
    expect(own()).toBe(before);
    expect(descriptors()).toBe(open);
  });
});

test("a path without a namespace is refused, and nothing changes", () => {
  const before = own();
  const open = descriptors();
  for (const [path, cause] of [
    ["/var/run/netns/none", 'Cannot open network namespace "/var/run/netns/none": ENOENT'],
    ["/dev/null", 'Cannot enter network namespace "/dev/null": EINVAL'],
  ] as const) {
    expect(() => withNamespace(sys, path, () => 1)).toThrow(cause);
  }
  expect(own()).toBe(before);
  expect(descriptors()).toBe(open);
});

test("settings under net/ are those of the namespace", () => {
  withNamespaces(["a", "b"], (a, b) => {
    for (const name of ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"]) {
      a.enter(() => writeSysctl(sys, name, "1"));
      b.enter(() => writeSysctl(sys, name, "0"));
      expect(a.enter(() => readSysctl(sys, name))).toBe("1");
      expect(b.enter(() => readSysctl(sys, name))).toBe("0");
    }
    expect(a.enter(() => readSysctl(sys, "net/ipv4/conf/none/forwarding") ?? "absent")).toBe("absent");
    expect(() => a.enter(() => writeSysctl(sys, "net/ipv4/conf/none/forwarding", "1"))).toThrow(
      "Cannot set sysctl net/ipv4/conf/none/forwarding to 1: ENOENT",
    );
    expect(() => a.enter(() => writeSysctl(sys, "net/ipv6/conf/all/forwarding", "many"))).toThrow(KernelError);
  });
});
