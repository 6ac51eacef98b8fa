/**
 * sessions: clients other than kubectl at work with an API server: the Python client, client-go, Helm. Each session is a program that says
 * what it saw; what it must see is the same whoever serves the API.
 */
const HERE = new URL(".", import.meta.url).pathname;

export interface Said {
  readonly exitCode: number;
  /** Lines of standard output. */
  readonly lines: readonly string[];
  readonly stderr: string;
}

export const PYTHON_SAW: readonly string[] = [
  '{"what": "namespace", "name": "NAMESPACE"}',
  '{"what": "config maps", "type": "ADDED", "name": "one"}',
  '{"what": "config maps", "type": "ADDED", "name": "two"}',
  '{"what": "config maps", "type": "MODIFIED", "name": "one"}',
  '{"what": "config maps", "type": "DELETED", "name": "one"}',
  '{"what": "config maps", "type": "DELETED", "name": "two"}',
  '{"what": "policy", "types": ["Ingress"], "cidr": "10.0.0.0/8"}',
  '{"what": "policies", "names": ["session"]}',
  '{"what": "pools", "kinds": ["IPPool"]}',
  '{"what": "pools watched", "type": "ADDED", "name": "default-ipv4-ippool"}',
  '{"what": "missing pod", "status": 404, "reason": "NotFound"}',
  '{"what": "end"}',
];

export const CLIENT_GO_SAW: readonly string[] = [
  '{"value":true,"what":"synced"}',
  '{"value":"add one","what":"config maps"}',
  '{"value":"update one","what":"config maps"}',
  '{"value":["Ingress"],"what":"policy types"}',
  '{"value":"add session","what":"policies"}',
  '{"value":"delete one","what":"config maps"}',
  '{"value":"add default-ipv4-ippool","what":"pools"}',
  '{"value":true,"what":"missing pod is not found"}',
  '{"value":true,"what":"end"}',
];

/** Where the programs find the API server: a network namespace, or this one, and a kubeconfig. */
export interface Api {
  readonly kubeconfig: string;
  readonly netnsPath?: string;
}

async function run(api: Api, command: readonly string[]): Promise<Said> {
  const entered = api.netnsPath === undefined ? command : ["nsenter", `--net=${api.netnsPath}`, "--", ...command];
  const child = Bun.spawn([...entered], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, KUBECONFIG: api.kubeconfig },
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { exitCode, lines: stdout.split("\n").filter((line) => line !== ""), stderr };
}

/** Debian's Python with its package of the client. The namespace is the session's own, and is gone afterwards. */
export async function pythonSession(api: Api, namespace: string): Promise<Said> {
  const said = await run(api, ["/usr/bin/python3", `${HERE}session.py`, api.kubeconfig, namespace]);
  return { ...said, lines: said.lines.map((line) => line.replaceAll(namespace, "NAMESPACE")) };
}

export function clientGoSession(api: Api, program: string, namespace: string): Promise<Said> {
  return run(api, [program, api.kubeconfig, namespace]);
}

export function helm(api: Api, program: string, ...args: readonly string[]): Promise<Said> {
  return run(api, [program, ...args]);
}

/** A chart of Pods, a Service and a NetworkPolicy by which one of two clients reaches the server. */
export const CHART = `${HERE}chart`;
