/**
 * The verbs of `calicoctl` as a user meets them: the shipped executable against the embedded API, and what it prints held against what
 * kubectl says of the same objects.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { load } from "js-yaml";
import { API, GARBAGE, SAMPLES } from "./calicoctl-samples.ts";

const ROOT = resolve(import.meta.dir, "../..");

interface Run {
  readonly code: number;
  readonly out: string;
  readonly error: string;
}

let directory = "";
let server: Bun.Subprocess<"ignore", "pipe", "inherit"> | undefined;

async function run(program: string, args: readonly string[], input: string | Uint8Array = ""): Promise<Run> {
  const child = Bun.spawn([program, ...args], {
    stdin: typeof input === "string" ? new TextEncoder().encode(input) : input,
    stdout: "pipe",
    stderr: "pipe",
    env: { PATH: process.env["PATH"] ?? "", HOME: directory, KUBECONFIG: join(directory, "kubeconfig") },
    cwd: directory,
  });
  const [out, error, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, out, error };
}

const ctl = (args: string, input?: string): Promise<Run> => run(`${ROOT}/bin/calicoctl`, args.split(" "), input);
const kubectl = (args: string, input?: string): Promise<Run> => run("kubectl", args.split(" "), input);

/** What kubectl says of an object. */
async function ofKubectl(args: string): Promise<unknown> {
  return JSON.parse((await kubectl(`get ${args} -o json`)).out);
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "calicoctl-verbs-"));
  server = Bun.spawn(
    [
      `${ROOT}/bin/calico-lab`,
      "apiserver",
      "--data-dir",
      join(directory, "data"),
      "--listen",
      "127.0.0.1:0",
      "--kubeconfig-out",
      join(directory, "kubeconfig"),
    ],
    { stdin: "ignore", stdout: "pipe", stderr: "inherit" },
  );
  for await (const chunk of server.stdout) if (new TextDecoder().decode(chunk).includes("Serving")) break;
  const crds = await kubectl(`apply -f ${ROOT}/manifests/crds`);
  expect(crds.code).toBe(0);
  expect((await kubectl("create namespace shop")).code).toBe(0);
}, 120_000);

afterAll(async () => {
  server?.kill();
  await server?.exited;
  await rm(directory, { recursive: true, force: true });
});

describe("every kind: created, read, changed and deleted as kubectl sees it", () => {
  for (const { kind, word, resource, apiVersion = API, namespace, name = "sample", spec, change, wide } of SAMPLES)
    test(`${word}: ${resource}`, async () => {
      const scope = namespace === undefined ? "" : ` -n ${namespace}`;
      const shown = word === "knp" ? "KubernetesNetworkPolicy" : kind;
      const object = { apiVersion, kind, metadata: { name, labels: { a: "b" } }, spec };
      expect(await ctl(`create -f -${scope}`, JSON.stringify(object))).toMatchObject({
        code: 0,
        out: `Successfully created 1 '${shown}' resource(s)\n`,
      });
      const theirs = await ofKubectl(`${resource} ${name}${scope}`);
      expect(theirs).toMatchObject(object);
      const json = await ctl(`get ${word} ${name} -o json${scope}`);
      expect(JSON.parse(json.out)).toEqual(theirs);
      const yaml = await ctl(`get ${word} ${name} -o yaml${scope}`);
      expect(load(yaml.out)).toEqual(theirs);
      expect((await ctl(`get ${word} ${name} -o wide${scope}`)).out).toBe(`${wide.replace("|", "\n")}\n\n`);
      const list = JSON.parse((await ctl(`get ${word} -o json${scope}`)).out) as { kind: string; items: unknown[] };
      expect([list.kind, list.items]).toEqual([`${kind}List`, [theirs]]);
      // What get prints can be given back, and has its resourceVersion.
      expect(await ctl(`replace -f -${scope}`, yaml.out)).toMatchObject({
        code: 0,
        error: expect.not.stringContaining("ailed"),
      });
      const patch = await run(`${ROOT}/bin/calicoctl`, [
        "patch",
        word,
        name,
        "-p",
        JSON.stringify({ spec: change }),
        ...scope.split(" ").slice(1),
      ]);
      expect([patch.out, patch.error]).toEqual([`Successfully patched 1 '${shown}' resource\n`, ""]);
      expect(await ofKubectl(`${resource} ${name}${scope}`)).toMatchObject({ spec: change });
      expect((await ctl(`replace -f -${scope}`, yaml.out)).error).toContain("update conflict: ");
      const exported = await ctl(`get ${word} ${name} -o yaml --export${scope}`);
      expect(load(exported.out)).toMatchObject({ metadata: { name, labels: { a: "b" } } });
      expect(exported.out).not.toContain("resourceVersion");
      expect((await ctl(`label ${word} ${name} x=y${scope}`)).out).toBe(
        `Successfully set label x on ${word} ${name}\n`,
      );
      expect(await ctl(`apply -f -${scope}`, exported.out)).toMatchObject({ code: 0 });
      expect((await ofKubectl(`${resource} ${name}${scope}`)) as object).toMatchObject({
        metadata: { labels: { a: "b" } },
      });
      expect((await ctl(`delete ${word} ${name}${scope}`)).out).toBe(`Successfully deleted 1 '${shown}' resource(s)\n`);
      expect(await ctl(`get ${word} ${name}${scope}`)).toMatchObject({
        code: 1,
        error: expect.stringContaining(`resource does not exist: ${shown}(`),
      });
    }, 60_000);

  test("ClusterInformation is read, patched, and not applied", async () => {
    const object = JSON.stringify({
      apiVersion: API,
      kind: "ClusterInformation",
      metadata: { name: "default" },
      spec: { clusterGUID: "g", datastoreReady: true },
    });
    expect((await ctl("create -f -", object)).code).toBe(0);
    expect((await ctl("apply -f -", object)).error).toContain(
      "operation apply is not supported on ClusterInformation(default): resource is readonly",
    );
    expect(
      (
        await run(`${ROOT}/bin/calicoctl`, [
          "patch",
          "clusterinfo",
          "default",
          "-p",
          '{"spec": {"calicoVersion": "v3.30.1"}}',
        ])
      ).code,
    ).toBe(0);
    expect((await ctl("get clusterinfo")).error).toContain("version mismatch: calicoctl is ");
    expect((await ctl("get clusterinfo --allow-version-mismatch")).out).toBe(
      "NAME      CLUSTERGUID   CLUSTERTYPE   CALICOVERSION   DATASTOREREADY   \ndefault   g                           v3.30.1         true             \n\n",
    );
    expect((await ctl("--allow-version-mismatch delete clusterinfo default")).code).toBe(0);
  });

  test("profiles, nodes and endpoints are read and not written", async () => {
    await kubectl(
      "apply -f -",
      '{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1","annotations":{"projectcalico.org/IPv4Address":"192.0.2.1/24"}}}',
    );
    await kubectl('run web -n shop --image=x --overrides={"spec":{"nodeName":"n1"}}');
    const profiles = await ctl("get profiles");
    expect(profiles.out).toContain("projectcalico-default-allow");
    expect(profiles.out).toContain("kns.shop ");
    expect((await ctl("get nodes -o wide")).out).toBe(
      "NAME   ASN       IPV4           IPV6   \nn1     (64512)   192.0.2.1/24          \n\n",
    );
    expect((await ctl("get wep -n shop")).out).toMatch(
      /^NAMESPACE {3}WORKLOAD {3}NODE {3}NETWORKS {3}INTERFACE {9}\nshop {8}web {8}n1 {16}cali[0-9a-f]{11} {3}\n\n$/,
    );
    const profile = await ctl("get profile kns.shop -o yaml");
    expect((await ctl("apply -f -", profile.out)).error).toContain(
      "operation apply is not supported on Profile(kns.shop): profiles are read-only",
    );
    expect((await ctl("delete node n1")).error).toContain("operation delete is not supported on Node(n1)");
  });
});

const policy = (name: string, spec = "{}", metadata = ""): string =>
  `---\n{apiVersion: ${API}, kind: NetworkPolicy, metadata: {name: ${name}${metadata}}, spec: ${spec}}\n`;

describe("files", () => {
  test("of two documents one is bad: nothing is sent, and the bad one is named", async () => {
    const { code, out, error } = await ctl("apply -f -", policy("good") + policy("bad", "{ingress: [{action: Alow}]}"));
    expect([code, out]).toEqual([1, ""]);
    expect(error).toBe(
      'standard input:4 (document 2): NetworkPolicy(default/bad): spec.ingress[0].action: Unsupported value: "Alow": supported values: "Allow", "Deny", "Log", "Pass"\n' +
        "calicoctl apply: failed to apply any 'NetworkPolicy' resources: 1 of 2 is invalid; nothing was sent\n",
    );
    expect((await ctl("get np good")).code).toBe(1);
  });

  test("what only the server refuses is a partial failure", async () => {
    const { code, out, error } = await ctl(
      "apply -f -",
      policy("here") + policy("there", "{}", ", namespace: nowhere"),
    );
    expect([code, out]).toEqual([1, "Partial success: applied 1 out of 2 'NetworkPolicy' resources\n"]);
    expect(error).toContain(
      "standard input:4 (document 2): Failed to apply 'NetworkPolicy' resource: NetworkPolicy(nowhere/there): ",
    );
    expect(error).toContain('namespaces "nowhere" not found: create the namespace first\n');
    expect(error).toEndWith("calicoctl apply: hit error: 1 out of 2 'NetworkPolicy' resources failed\n");
    expect((await ctl("delete np here")).code).toBe(0);
  });

  test("a folder with a tier behind its policies, given and taken back", async () => {
    await Bun.write(
      join(directory, "folder/a.yaml"),
      policy("one", "{tier: late}") + policy("two", "{tier: late}", ", namespace: shop"),
    );
    await Bun.write(
      join(directory, "folder/below/z.json"),
      JSON.stringify({ apiVersion: API, kind: "Tier", metadata: { name: "late" }, spec: {} }),
    );
    expect((await ctl("apply -f folder")).error).toContain(
      "resource does not exist: Tier(late): create the tier first",
    );
    expect((await ctl("apply -R -f folder")).out).toBe("Successfully applied 3 resource(s)\n");
    expect((await ctl("get np -a")).out).toBe(
      "NAMESPACE   NAME   TIER   \ndefault     one    late   \nshop        two    late   \n\n",
    );
    expect((await ctl("get -R -f folder")).out).toBe(
      "NAME   TIER   \none    late   \n\nNAME   TIER   \ntwo    late   \n\nNAME   ORDER   \nlate   <nil>   \n\n",
    );
    expect((await ctl("delete tier late")).error).toContain(
      "Cannot delete a non-empty tier: delete or move NetworkPolicy/default/one, NetworkPolicy/shop/two first",
    );
    expect((await ctl("delete -R -f folder")).out).toBe("Successfully deleted 3 resource(s)\n");
    expect((await ctl("delete -R -f folder --skip-not-exists")).out).toBe("Successfully deleted 3 resource(s)\n");
    await Bun.write(join(directory, "folder/empty.yaml"), "# nothing\n");
    expect(await ctl("apply -f folder/empty.yaml")).toMatchObject({
      code: 1,
      error: "calicoctl apply: no resources specified in file folder/empty.yaml: --skip-empty skips such files\n",
    });
    expect(await ctl("apply -f folder/empty.yaml --skip-empty")).toEqual({
      code: 0,
      out: "No resources specified\n",
      error: "",
    });
  });

  test("garbage is refused with a message, and never with a stack", async () => {
    for (const input of GARBAGE)
      for (const verb of ["validate", "apply", "delete"]) {
        const { code, out, error } = await run(`${ROOT}/bin/calicoctl`, [verb, "-f", "-"], input);
        expect([input, verb, code, out]).toEqual([input, verb, 1, ""]);
        expect(error).toMatch(/^(standard input:\d+ |calicoctl )/);
        expect(error).not.toMatch(/^\s+at |TypeError|undefined/m);
      }
  }, 60_000);

  test("2,000 objects, and two writers of the same ones", async () => {
    const many = Array.from({ length: 2000 }, (_, index) =>
      policy(`many-${index}`, `{selector: "app == '${index}'", ingress: [{action: Allow}]}`),
    ).join("");
    await writeFile(join(directory, "many.yaml"), many);
    expect(await ctl("validate -f many.yaml")).toMatchObject({
      code: 0,
      out: "Successfully validated 2000 'NetworkPolicy' resource(s)\n",
    });
    const done = { code: 0, out: "Successfully applied 2000 'NetworkPolicy' resource(s)\n", error: "" };
    expect(await ctl("apply -f many.yaml")).toEqual(done);
    await writeFile(join(directory, "other.yaml"), many.replaceAll("action: Allow", "action: Deny"));
    expect(await Promise.all([ctl("apply -f many.yaml"), ctl("apply -f other.yaml")])).toEqual([done, done]);
    const names = (await ctl("get np")).out.split("\n").filter((line) => line.startsWith("many-"));
    expect(names).toHaveLength(2000);
    expect(names).toEqual(names.toSorted());
    expect((await ctl("delete -f many.yaml")).out).toBe("Successfully deleted 2000 'NetworkPolicy' resource(s)\n");
  }, 180_000);
});

describe("what get prints", () => {
  beforeAll(async () => {
    expect(
      (
        await ctl(
          "apply -f -",
          policy("web", "{order: 5, selector: 'a == 1'}".replace("a == 1", "has(a)")) + policy("db"),
        )
      ).code,
    ).toBe(0);
  });
  afterAll(() => ctl("delete np web db"));

  for (const [args, out] of [
    ["get np", "NAME   TIER      \ndb     default   \nweb    default   \n\n"],
    ["get networkpolicies web db", "NAME   TIER      \nweb    default   \n\nNAME   TIER      \ndb     default   \n\n"],
    ["get Policy -o custom-columns=NAME,SELECTOR", "NAME   SELECTOR   \ndb                \nweb    has(a)     \n\n"],
    [
      "get np -o custom-columns=NAMESPACE,ORDER -A",
      "NAMESPACE   ORDER   \ndefault     <nil>   \ndefault     5       \n\n",
    ],
    ["get np -o go-template={{range.}}{{range.Items}}{{.Name}}={{.Spec.Order}};{{end}}{{end}}", "db=;web=5;"],
    ["get np web -o go-template={{range.}}{{.ObjectMeta.Name}}{{end}}", "web"],
    ["get np -n shop", "NAMESPACE   NAME   TIER   \n\n"],
    ["get tier", "NAME   ORDER   \n\n"],
  ] as const)
    test(args, async () => expect(await ctl(args)).toEqual({ code: 0, out, error: "" }));

  test("what is in a file stays, a reader that ends early is no error, a full disk is", async () => {
    const shell = (command: string): Promise<Run> => run("bash", ["-c", `${ROOT}/bin/calicoctl ${command}`]);
    const file = "get np db > f; X get np web >> f; (echo x; X get np db) >> f; cat f".replaceAll(
      "X",
      `${ROOT}/bin/calicoctl`,
    );
    const row = (name: string): string => `NAME   TIER      \n${name.padEnd(7)}default   \n\n`;
    expect((await shell(file)).out).toBe(`${row("db")}${row("web")}x\n${row("db")}`);
    expect(await shell("get np -o yaml | true; exit ${PIPESTATUS[0]}")).toEqual({ code: 0, out: "", error: "" });
    expect(await shell("get np > /dev/full")).toMatchObject({
      code: 1,
      error: "calicoctl get: Cannot write to standard output: ENOSPC\n",
    });
  });

  test("a template in a file", async () => {
    await writeFile(join(directory, "names.tmpl"), "{{range .}}{{range .Items}}{{.Name}}\n{{end}}{{end}}");
    expect((await ctl("get np -o go-template-file=names.tmpl")).out).toBe("db\nweb\n");
    expect(await ctl("get np -o go-template-file=none")).toMatchObject({
      code: 1,
      error: expect.stringContaining('Cannot read "none": '),
    });
    expect(await ctl("get np -o go-template={{html}}")).toMatchObject({
      code: 1,
      out: "",
      error: expect.stringContaining('function "html" is not supported'),
    });
  });

  test("what exists is printed, and what does not is an error", async () => {
    expect(await ctl("get np web none")).toEqual({
      code: 1,
      out: "NAME   TIER      \nweb    default   \n\n",
      error: "calicoctl get: resource does not exist: NetworkPolicy(default/none)\n",
    });
  });
});

describe("usage errors: exit code 2", () => {
  for (const [args, message] of [
    ["get", "calicoctl get: a kind or -f must be given"],
    ["get somekind", "calicoctl get: resource type 'somekind' is not supported"],
    ["get bgppeers", "it is not handled by this calicoctl yet: use kubectl"],
    ["get np -o xml", "calicoctl get: unrecognized output format 'xml': it must be ps, wide, yaml, json"],
    [
      "get np -o custom-columns=NAME,AGE",
      "unknown heading AGE, valid values are: NAME, NAMESPACE, ORDER, SELECTOR, TIER",
    ],
    ["get np -n x -a", "cannot use both --namespace and --all-namespaces flags at the same time"],
    ["get np web -A", "cannot use --all-namespaces for getting a single resource"],
    ["get gnp -n shop", "GlobalNetworkPolicy is not namespaced"],
    ["get np -f x.yaml", "a kind and -f exclude each other"],
    ["apply", "calicoctl apply: -f must be given"],
    ["delete np", "resource name may not be empty"],
    ["patch np web", "calicoctl patch: required option '-p, --patch <text>' not specified"],
    ["patch np web -p {", "--patch cannot be read: line 1: "],
    ["patch np web -p {} -t diff", "It must be strategic or merge or json"],
    ["label np web", "calicoctl label: missing required argument 'label'"],
    ["label np web x", "invalid label x: it must be KEY=VALUE"],
    ["--context c version", "calicoctl: option 'context' has no meaning for 'version'"],
  ] as const)
    test(args, async () => {
      const { code, out, error } = await ctl(args);
      expect([code, out]).toEqual([2, ""]);
      expect(error).toContain(message);
      expect(error).toMatch(/Run "calicoctl( \w+)? --help" for help\.\n$/);
    });
});

describe("how the cluster is found", () => {
  test("the context, and upstream's config file", async () => {
    expect((await ctl("get tier --context none")).error).toContain(
      'Cannot parse kubeconfig "none": context must be one of contexts',
    );
    await writeFile(
      join(directory, "ctl.cfg"),
      `{apiVersion: ${API}, kind: CalicoAPIConfig, metadata: {}, spec: {datastoreType: kubernetes, kubeconfig: ${join(directory, "kubeconfig")}}}`,
    );
    expect((await ctl("get tier -c ctl.cfg")).code).toBe(0);
    await writeFile(
      join(directory, "etcd.cfg"),
      `{apiVersion: ${API}, kind: CalicoAPIConfig, spec: {datastoreType: etcdv3}}`,
    );
    expect((await ctl("get tier --config etcd.cfg")).error).toContain("ETCD_ENDPOINTS is not set");
    expect((await ctl("get tier -c none.cfg")).error).toContain(
      'Cannot read config file "none.cfg": it does not exist',
    );
  });
});
