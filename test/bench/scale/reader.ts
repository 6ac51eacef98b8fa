/**
 * reader: what a node cannot do without: the lists that it reads, asked for at once in pages of 500, and parsed.
 * Usage: bun reader.ts http://ADDRESS:PORT; it prints how many objects it read.
 */
export const READ_PATHS = [
  "api/v1/namespaces",
  "api/v1/serviceaccounts",
  "api/v1/nodes",
  "api/v1/pods",
  "apis/networking.k8s.io/v1/networkpolicies",
  ...[
    "globalnetworkpolicies",
    "globalnetworksets",
    "ippools",
    "ipamblocks",
    "ipreservations",
    "ipamconfigurations",
  ].map((kind) => `apis/projectcalico.org/v3/${kind}`),
];

interface Page {
  readonly metadata: { readonly continue?: string };
  readonly items: readonly unknown[];
}

async function read(url: string): Promise<number> {
  let count = 0;
  let next: string | undefined = "";
  while (next !== undefined) {
    const response = await fetch(`${url}?limit=500${next === "" ? "" : `&continue=${next}`}`);
    const page = (await response.json()) as Page;
    count += page.items.length;
    next = page.metadata.continue;
  }
  return count;
}

const counts = await Promise.all(READ_PATHS.map((kind) => read(`${process.argv[2]}/${kind}`)));
console.log(counts.reduce((sum, count) => sum + count, 0));
