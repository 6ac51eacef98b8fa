/** wanted: what the environment asks of `make test-kernels`, and what this machine needs for it. */
import { existsSync } from "node:fs";

/** Of every dataplane, and of what stands around them. */
export const DEFAULT_TESTS: readonly string[] = [
  "sys",
  "nftables",
  "refusals",
  "ownership",
  "tracking",
  "iptables",
  "bpf",
  "ebpf",
  "ebpf-connections",
  "ebpf-flows",
  "ebpf-past",
  "ebpf-translation",
  "host-endpoint",
  "translation",
  "route",
  "dataplane-routes",
  "dataplanes",
  "podnet",
  "conntrack",
  "flow-table",
  "flows",
  "flowtable",
  "sctp",
  "law",
].map((name) => `test/kernel/${name}.test.ts`);

/** By program: the Debian package that has it. */
const PROGRAMS: Readonly<Record<string, string>> = {
  "qemu-system-x86_64": "qemu-system-x86",
  busybox: "busybox-static",
  modprobe: "kmod",
  depmod: "kmod",
  xz: "xz-utils",
  "dpkg-deb": "dpkg",
};

const PASSED_ON = ["LAW_PACKETS", "LAW_SEED", "MODEL_STEPS", "MODEL_SEED", "KILLED", "KILLED_SEED"];
const DEFAULTS: Readonly<Record<string, string>> = { LAW_PACKETS: "200" };

export const HELP = `make test-kernels: test files on other kernels, each in a machine that qemu emulates; KVM is not needed.

  KERNELS="A.deb B.deb"  packages that hold kernels (linux-image-…); by default the current one of this machine's distribution, by apt-get download
  TESTS="FILE …"         test files; by default those of every dataplane
  RUN="LINE"             a line of bash in place of tests, to look around

The guest sees this machine's files, the working tree included; what it writes is gone with it. It has one processor, and a clock that counts
instructions. LAW_PACKETS (${DEFAULTS["LAW_PACKETS"]} there unless given), LAW_SEED, MODEL_STEPS, MODEL_SEED, KILLED and KILLED_SEED are passed on to the tests.
Kernels are kept unpacked in \${XDG_CACHE_HOME:-~/.cache}/calico-test-kernels.`;

export interface Wanted {
  /** Paths of packages; none: the distribution's own kernel. */
  readonly kernels: readonly string[];
  /** A line of bash that the guest runs in the working tree. */
  readonly command: string;
  /** It ends by telling what passed. */
  readonly isTest: boolean;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Throws an error that names the variable and the value, for files that are not there and for values that a shell would read otherwise. */
export function readWanted(environment: Environment, exists: (path: string) => boolean = existsSync): Wanted {
  const words = (name: string): string[] => (environment[name] ?? "").split(/\s+/).filter((word) => word !== "");
  const kernels = words("KERNELS");
  const given = words("TESTS");
  const tests = given.length > 0 ? given : DEFAULT_TESTS;
  for (const [name, paths] of Object.entries({ KERNELS: kernels, TESTS: tests }))
    for (const path of paths) if (!exists(path)) throw new Error(`${name}: there is no file ${JSON.stringify(path)}`);
  const variables = PASSED_ON.flatMap((name) => {
    const value = environment[name] ?? DEFAULTS[name];
    if (value === undefined) return [];
    if (!/^\d+$/.test(value)) throw new Error(`${name} is ${JSON.stringify(value)}, and must be a number`);
    return [`${name}=${value}`];
  });
  const run = environment["RUN"] ?? "";
  const bun = "tools/bun/node_modules/.bin/bun";
  const isTest = run === "";
  return { kernels, isTest, command: isTest ? [...variables, bun, "test/kernels/guest.ts", ...tests].join(" ") : run };
}

/** What is missing here, in words; undefined: nothing. */
export function whyUnable(
  architecture: string = process.arch,
  isRoot: boolean = process.getuid?.() === 0,
  find: (program: string) => string | null = Bun.which,
): string | undefined {
  if (architecture !== "x64")
    return `the emulated machine is x86-64, and runs this machine's programs, which are for ${architecture}`;
  if (!isRoot) return "run as root: the guest reads this machine's files";
  const missing = Object.entries(PROGRAMS).filter(([program]) => find(program) === null);
  if (missing.length === 0) return undefined;
  const packages = [...new Set(missing.map(([, name]) => name))];
  return `missing: ${missing.map(([program]) => program).join(", ")}; install: apt-get install ${packages.join(" ")}`;
}
