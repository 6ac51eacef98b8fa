/** The command lines of `calicoctl` and `calico` as a user meets them: the shipped executables, their exit codes and what they print where. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const BIN = resolve(import.meta.dir, "../../bin");

interface Run {
  readonly code: number;
  readonly out: string;
  readonly error: string;
}

async function run(
  command: readonly string[],
  input = "",
  environment: Readonly<Record<string, string>> = {},
): Promise<Run> {
  const [program = "", ...args] = command;
  const env = { PATH: process.env["PATH"] ?? "", HOME: "/nonexistent", ...environment };
  const child = Bun.spawn([program.includes("/") || program === "bash" ? program : `${BIN}/${program}`, ...args], {
    stdin: new TextEncoder().encode(input),
    stdout: "pipe",
    stderr: "pipe",
    env,
    cwd: directory,
  });
  const [out, error, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, out, error };
}

const OBJECTS = `
{apiVersion: v1, kind: Namespace, metadata: {name: default}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {nodeName: n1}, status: {podIP: 10.65.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b, labels: {app: b}}, spec: {nodeName: n1}, status: {podIP: 10.65.0.2}}
`.trimStart();
const DENIED =
  "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: closed}, spec: {podSelector: {matchLabels: {app: b}}, policyTypes: [Ingress]}}\n";

let directory = "";
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "calicoctl-"));
  await write("objects.yaml", OBJECTS);
  await write("policy.yaml", DENIED);
});
afterAll(() => rm(directory, { recursive: true }));

async function write(name: string, text: string): Promise<void> {
  await mkdir(join(directory, name, ".."), { recursive: true });
  await writeFile(join(directory, name), text);
}

describe("what -f takes", () => {
  test("several files", async () => {
    expect((await run(["calicoctl", "why", "-f", "objects.yaml", "a", "b:80"])).code).toBe(0);
    expect((await run(["calicoctl", "why", "-f", "objects.yaml", "-f", "policy.yaml", "a", "b:80"])).code).toBe(1);
    expect((await run(["calicoctl", "why", "-f", "objects.yaml", "-f", "./objects.yaml", "a", "b:80"])).code).toBe(0);
  });

  test("standard input, alone and with files", async () => {
    expect((await run(["calicoctl", "why", "-f", "-", "a", "b:80"], `${OBJECTS}---\n${DENIED}`)).code).toBe(1);
    expect((await run(["calicoctl", "why", "-f", "objects.yaml", "--filename=-", "a", "b:80"], DENIED)).code).toBe(1);
    expect(await run(["calicoctl", "why", "-f", "-", "a", "b:80"], "a: [")).toMatchObject({
      code: 2,
      error: expect.stringMatching(/^calicoctl why: Cannot read standard input:1: /),
    });
  });

  test("a folder, its own files alone or with those below", async () => {
    await write("folder/objects.yml", OBJECTS);
    await write(
      "folder/below/policy.json",
      JSON.stringify({
        apiVersion: "networking.k8s.io/v1",
        kind: "NetworkPolicy",
        metadata: { name: "closed" },
        spec: { podSelector: {}, policyTypes: ["Ingress"] },
      }),
    );
    await write("folder/README.md", "{{ no manifest }}");
    await write("folder/.hidden.yaml", DENIED);
    await write("folder/.git/config.yaml", DENIED);
    await write("folder/values.yaml", "replicas: 3\n---\nimage: x\n");
    const plain = await run(["calicoctl", "why", "-f", "folder", "a", "b:80"]);
    expect(plain.code).toBe(0);
    expect(plain.error).toBe(
      [
        "warning: folder/.hidden.yaml is not read: it is hidden; name it with -f if it counts",
        "warning: folder/below is not read: -R reads the folders below one too",
        "warning: folder/values.yaml is not read: it has no apiVersion and kind, so it is no manifest",
        "warning: the manifests hold no NetworkPolicy: as far as they say, everything is allowed",
        "",
      ].join("\n"),
    );
    const deep = await run(["calicoctl", "why", "-R", "-f", "folder/", "a", "b:80"]);
    expect(deep.code).toBe(1);
    expect(deep.error).not.toContain("below");
    const lost = await run(["calicoctl", "why", "-f", "folder", "a", "nobody"]);
    expect(lost).toMatchObject({
      code: 2,
      out: "",
      error: `${plain.error}calicoctl why: Cannot find pod "default/nobody"\n`,
    });
    expect(await run(["calicoctl", "why", "-f", "folder/values.yaml", "a", "b:80"])).toMatchObject({
      code: 2,
      error: "calicoctl why: Cannot use folder/values.yaml:1: apiVersion and kind must be given\n",
    });
    await mkdir(join(directory, "empty"));
    expect(await run(["calicoctl", "why", "-f", "empty", "a", "b:80"])).toMatchObject({
      code: 2,
      error: expect.stringContaining('Cannot find a manifest in "empty"'),
    });
  });

  test("a Helm chart and a kustomize source are named, with what to run instead", async () => {
    await write("sources/objects.yaml", OBJECTS);
    await write("sources/chart/Chart.yaml", "apiVersion: v2\nname: x\nversion: 0.1.0\n");
    await write("sources/chart/templates/policy.yaml", "{{ if .Values.closed }}\n");
    await write("sources/base/kustomization.yaml", "resources: [policy.yaml]\n");
    for (const [path, message] of [
      [
        "sources/chart",
        'Cannot use "sources/chart": it is a Helm chart; use "helm template NAME sources/chart | calicoctl why -f - …"',
      ],
      [
        "sources/chart/templates/policy.yaml",
        'it may belong to a Helm chart: use "helm template NAME CHART | calicoctl why -f - …"',
      ],
      [
        "sources/base",
        'it is a kustomize source; use "kubectl kustomize sources/base | calicoctl why -f - …", or name its manifests one by one',
      ],
    ] as const) {
      expect(await run(["calicoctl", "why", "-f", path, "a", "b"])).toMatchObject({
        code: 2,
        out: "",
        error: expect.stringContaining(message),
      });
    }
    const deep = await run(["calicoctl", "why", "-R", "-f", "sources", "a", "b:80"]);
    expect(deep.code).toBe(2);
    expect(deep.out).toContain("allowed, but not certainly");
    expect(deep.out).toContain("not certain: sources/base is not read: it is a kustomize source");
    expect(deep.out).toContain("not certain: sources/chart is not read: it is a Helm chart");
  });

  test("folders that link in a circle, and files of a folder that is a link", async () => {
    await write("circle/objects.yaml", OBJECTS);
    await symlink("..", join(directory, "circle/up"));
    expect((await run(["calicoctl", "why", "-R", "-f", "circle", "a", "b:80"])).code).toBe(0);
    await symlink("circle", join(directory, "link"));
    expect((await run(["calicoctl", "why", "-f", "link", "a", "b:80"])).code).toBe(0);
  });
});

describe("mistakes: exit code 2, on standard error, by the name of the program, with what to do", () => {
  for (const [command, message] of [
    ["calicoctl wy", "calicoctl: unknown command 'wy'\n(Did you mean why?)\nRun \"calicoctl --help\" for help.\n"],
    ["calicoctl why", "calicoctl why: missing required argument 'src'\nRun \"calicoctl why --help\" for help.\n"],
    ["calicoctl why a b c", "calicoctl why: too many arguments for 'why'."],
    ["calicoctl why a b -f", "calicoctl why: option '-f, --filename <path>' argument missing"],
    ["calicoctl why a b --outptu json", "calicoctl why: unknown option '--outptu'\n(Did you mean --output?)"],
    [
      "calicoctl why a b -o yaml",
      "calicoctl why: option '-o, --output <format>' argument 'yaml' is invalid. It must be text or json.",
    ],
    [
      "calicoctl why a b -n x -n y",
      "calicoctl why: option '-n, --namespace <name>' argument 'y' is invalid. It may be given once.",
    ],
    ["calicoctl why a b -o json --output=text", "It may be given once."],
    ["calicoctl why a b --kubeconfig x --kubeconfig y", "It may be given once."],
    ["calicoctl why a b --kubeconfig x -f y", "calicoctl why: --kubeconfig and -f exclude each other"],
    ["calicoctl why a b -f nothing.yaml", 'calicoctl why: Cannot read "nothing.yaml": it does not exist\n'],
    [
      "calicoctl why a b -f objects.yaml/x",
      'calicoctl why: Cannot read "objects.yaml/x": a part of the path is no folder\n',
    ],
    [
      "calicoctl why a b -f https://example.com/x.yaml",
      "calicoctl why: Cannot read https://example.com/x.yaml: addresses are not fetched",
    ],
    [
      "calicoctl why a b --kubeconfig nothing",
      'calicoctl why: Cannot parse kubeconfig "nothing": the file does not exist\n',
    ],
    ["calicoctl why a b --kubeconfig .", "calicoctl why: "],
    ["calicoctl why a b --kubeconfig policy.yaml", "calicoctl why: Cannot parse kubeconfig"],
    [
      "calicoctl why a b",
      "calicoctl why: Cannot find a cluster: give --kubeconfig, KUBECONFIG or, for manifests, -f\n",
    ],
    ["calicoctl why nobody b -f objects.yaml -f policy.yaml", 'calicoctl why: Cannot find pod "default/nobody"\n'],
    ["calicoctl why a b:x -f objects.yaml", 'calicoctl why: Cannot parse destination "b:x"'],
    ["calicoctl completion tcsh", "calicoctl completion: "],
    ["calicoctl", "Usage: calicoctl"],
    ["calico nod", "calico: unknown command 'nod'\n(Did you mean node?)\nRun \"calico --help\" for help.\n"],
    ["calico --nothing", "calico: unknown option '--nothing'"],
    ["calico", "Usage: calico"],
    ["calico ctl why", "calicoctl why: missing required argument 'src'"],
  ] as const) {
    test(command, async () => {
      const { code, out, error } = await run(command.split(" "));
      expect([code, out]).toEqual([2, ""]);
      expect(error).toStartWith(message.startsWith("It ") ? "calicoctl why: " : message);
      expect(error).toContain(message);
      expect(error).not.toMatch(/^\s+at /m);
    });
  }

  test("a file that may not be read", async () => {
    await write("secret.yaml", OBJECTS);
    await chmod(join(directory, "secret.yaml"), 0);
    const user = await run([
      Bun.which("setpriv") ?? "",
      "--reuid=65534",
      "--regid=65534",
      "--clear-groups",
      `${BIN}/calicoctl`,
      "why",
      "a",
      "b",
      "-f",
      join(directory, "secret.yaml"),
    ]);
    expect(user).toMatchObject({ code: 2, out: "", error: expect.stringContaining("permission is denied") });
  });
});

test("a server that is not there", async () => {
  await write(
    "kubeconfig",
    "{current-context: c, contexts: [{name: c, context: {cluster: k}}], clusters: [{name: k, cluster: {server: 'http://127.0.0.1:1'}}]}\n",
  );
  const { code, out, error } = await run(["calicoctl", "why", "a", "b"], "", {
    KUBECONFIG: join(directory, "kubeconfig"),
  });
  expect([code, out]).toEqual([2, ""]);
  expect(error).toMatch(
    /^calicoctl why: Cannot list \w+: cannot reach http:\/\/127\.0\.0\.1:1: connection refused \(ECONNREFUSED\)\n$/,
  );
});

test("help and version are no mistakes", async () => {
  for (const command of [
    ["calico", "--help"],
    ["calico", "help"],
    ["calicoctl", "--help"],
    ["calicoctl", "why", "--help"],
    ["calico", "help", "cni", "install"],
    ["calico", "lab", "up", "--help"],
    ["calico", "help", "apiserver"],
    ["calico-lab", "--help"],
  ]) {
    expect(await run(command)).toMatchObject({ code: 0, error: "", out: expect.stringContaining("Usage: ") });
  }
  for (const command of [
    ["calico", "version"],
    ["calico", "--version"],
    ["calico", "-v"],
    ["calicoctl", "version"],
    ["calico-lab", "--version"],
  ]) {
    expect(await run(command)).toMatchObject({
      code: 0,
      error: "",
      out: expect.stringMatching(/^Version: \d+\.\d+\.\d+\nCommit: {2}(unknown|[0-9a-f]{12}(\+changes)?)\n$/),
    });
  }
});

test("version prints the commit that the executable was built from", async () => {
  expect((await run(["calicoctl", "version"])).out).toEndWith(
    `Commit:  ${(await readFile(`${BIN}/.commit`, "utf8")).trim()}\n`,
  );
});

describe("tab completion", () => {
  /** What bash offers for the line, with the cursor at its end: by the function that our script registers. */
  async function offered(line: string): Promise<string[]> {
    const program = line.split(" ")[0] ?? "";
    const script = `
      source <("$1" completion bash)
      read -r _ _ function _ <<<"$(complete -p ${program})"
      IFS=' ' read -r -a COMP_WORDS <<<"$2"
      case $2 in *' ') COMP_WORDS+=("") ;; esac
      COMP_WORDS[0]=$1
      COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
      "$function"
      printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { out, error } = await run(["bash", "-c", script, "bash", `${BIN}/${program}`, line]);
    expect(error).toBe("");
    return out.split("\n").filter((word) => word !== "");
  }

  const verbs = ["get", "create", "apply", "replace", "delete", "patch", "label", "validate"];
  for (const [line, candidates] of [
    ["calicoctl ", [...verbs, "why", "bpf", "version", "completion"]],
    ["calicoctl w", ["why"]],
    ["calicoctl re", ["replace"]],
    ["calicoctl get global", ["globalnetworkpolicy", "globalnetworkset"]],
    ["calicoctl get tier -o y", ["yaml"]],
    ["calicoctl delete --skip-n", ["--skip-not-exists"]],
    ["calicoctl patch tier security -t ", ["strategic", "merge", "json"]],
    ["calicoctl apply -f pol", ["policy.yaml"]],
    ["calicoctl apply --ku", ["--kubeconfig"]],
    ["calicoctl completion ", ["bash", "zsh", "fish"]],
    ["calicoctl why --out", ["--output"]],
    ["calicoctl why -o ", ["text", "json"]],
    ["calicoctl why -o j", ["json"]],
    ["calicoctl why -o = j", ["json"]],
    ["calicoctl why -o json --rec", ["--recursive"]],
    ["calicoctl why -f pol", ["policy.yaml"]],
    ["calicoctl why a ", []],
    ["calico ", ["node", "cni", "ctl", "controllers", "webhooks", "lab", "apiserver", "version", "completion"]],
    ["calico cni ins", ["install"]],
    ["calico lab ", ["up", "down", "status", "exec", "node-exec", "apiserver"]],
    ["calico lab up --no", ["--nodes"]],
    ["calico ctl why --kube", ["--kubeconfig"]],
    ["calico nothing ", []],
  ] as const) {
    test(`bash: ${line}`, async () => expect((await offered(line)).sort()).toEqual([...candidates].sort()));
  }

  for (const shell of ["bash", "zsh", "fish"]) {
    test.skipIf(Bun.which(shell) === null)(`${shell} takes the script`, async () => {
      for (const program of ["calico", "calicoctl"]) {
        const { code, out } = await run([program, "completion", shell]);
        expect(code).toBe(0);
        expect(await run([Bun.which(shell) ?? "", "-n"], out)).toEqual({ code: 0, out: "", error: "" });
      }
    });
  }
});
